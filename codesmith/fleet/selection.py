"""Which nodes a command is for, and at how many of them it works at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from codesmith import paths
from codesmith.errors import BadArgument
from codesmith.fleet import parallel
from codesmith.nodes.registry import Node, Registry
from codesmith.secrets import SHARED

if TYPE_CHECKING:
    pass


JOBS_MAX = 256


class Choice(TypedDict, total=False):
    """The options of every task that works at several nodes, as people give them."""

    node: list[str] | None
    tag: list[str] | None
    all: bool
    jobs: int | None
    file: str


class RootChoice(Choice, total=False):
    """The same for tasks that become root on the nodes, over SSH."""

    sudo_password_file: str | None


@dataclass(frozen=True)
class Chosen:
    """The nodes that a command is for, and at how many of them it works at once."""

    nodes: list[Node]
    jobs: int = parallel.AT_ONCE
    # The registry file as it was given, for the commands of a hint.
    file: str = ""


def choose(choice: Choice) -> Chosen:
    """Return the nodes named, those with any of the tags, or all; without a choice the one that is meant."""
    jobs = choice.get("jobs")
    if jobs is not None and not 1 <= jobs <= JOBS_MAX:
        raise BadArgument(f"--jobs takes a whole number from 1 to {JOBS_MAX}, not {jobs}")
    file = choice.get("file") or ""
    nodes = registry(file).choose(choice.get("node") or (), choice.get("tag") or (), choice.get("all", False))
    return Chosen(nodes, jobs or parallel.AT_ONCE, file)


def is_for_all(choice: Choice) -> bool:
    """Tell whether every node is meant by a task that takes all where none is named."""
    return bool(choice.get("all") or not (choice.get("node") or choice.get("tag")))


def choose_for_root(choice: RootChoice) -> Chosen:
    """Return the nodes, and take the password for their sudo if it is given."""
    take_sudo_password(choice.get("sudo_password_file"))
    return choose(choice)


def take_sudo_password(file: str | None) -> None:
    """Read the password for sudo from the first line of a file, for all that this process does until the next time."""
    from codesmith.cli import arguments

    SHARED.sudo_password = arguments.read_password(file, "--sudo-password-file")


def registry(file: str = "") -> Registry:
    """Return the registry of `file`, or the one that paths.nodes_file finds."""
    return Registry.load(paths.nodes_file(file))
