"""Which nodes a task works on, and on how many at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from codesmith import paths
from codesmith.errors import BadArgument, CodeSmithError
from codesmith.fleet import parallel
from codesmith.fleet.one_node import OneNode
from codesmith.nodes.registry import Node, Registry
from codesmith.secrets import SHARED

JOBS_MAX = 256


class Choice(TypedDict, total=False):
    """The options of every task that works on several nodes."""

    node: list[str] | None
    tag: list[str] | None
    all: bool
    jobs: int | None
    file: str | None
    json: bool


class RootChoice(Choice, total=False):
    """The options of every task that becomes root on several nodes over SSH."""

    sudo_password_file: str | None


class ResumableChoice(RootChoice, total=False):
    """The options of a task for several nodes that --resume goes on with."""

    resume: bool


@dataclass(frozen=True)
class Chosen:
    """The nodes that a task works on, how many at once, and whether it prints JSON."""

    nodes: list[Node]
    jobs: int = parallel.AT_ONCE
    # The registry file as the operator gave it, for the commands of a hint.
    file: str = ""
    json: bool = False


def choose(choice: Choice) -> Chosen:
    """Return the named nodes, those with any of the tags, or all; without a choice, the default node."""
    jobs = choice.get("jobs")
    if jobs is not None and not 1 <= jobs <= JOBS_MAX:
        raise BadArgument(f"--jobs takes a whole number from 1 to {JOBS_MAX}, not {jobs}")
    file = choice.get("file") or ""
    nodes = registry(file).choose(choice.get("node") or (), choice.get("tag") or (), choice.get("all", False))
    return Chosen(nodes, jobs or parallel.AT_ONCE, file, choice.get("json", False))


def choose_named(choice: Choice, task: str) -> Chosen:
    """Like `choose`, for a task that takes no default node."""
    if not any(choice.get(option) for option in ("node", "tag", "all")):
        raise BadArgument(f"{task} needs the NAME of a node, --tag or --all", hint="inv node.list")
    return choose(choice)


def is_for_all(choice: Choice) -> bool:
    """Tell whether the choice means every node, for a task whose default is all nodes."""
    return bool(choice.get("all") or not (choice.get("node") or choice.get("tag")))


def choose_for_root(choice: RootChoice) -> Chosen:
    """Return the chosen nodes; read the password for sudo if there is a file for it."""
    take_sudo_password(choice.get("sudo_password_file"))
    return choose(choice)


def take_sudo_password(file: str | None) -> None:
    """Read the password for sudo from the first line of a file; it counts for this process until the next call."""
    from codesmith.cli import arguments

    SHARED.sudo_password = arguments.read_password(file, "--sudo-password-file")


def one(where: OneNode) -> Node:
    """Return the node that a task for one node works on, over SSH; CODESMITH_ENDPOINT is none."""
    if paths.variable("CODESMITH_ENDPOINT") and not where.get("node") and not where.get("file"):
        problem = "this reaches a node by its nodes.yaml, and CODESMITH_ENDPOINT names an endpoint alone"
        raise CodeSmithError(problem, hint="name the node with --node, or: unset CODESMITH_ENDPOINT")
    return registry(where.get("file") or "").one(where.get("node") or "")


def registry(file: str = "") -> Registry:
    """Return the registry of `file`, or the one that paths.nodes_file finds."""
    return Registry.load(paths.nodes_file(file))
