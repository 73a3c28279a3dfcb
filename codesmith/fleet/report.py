"""What `node.*` does to each of the nodes a command chose; every function here is for one node and returns a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from codesmith import paths
from codesmith.cli import output
from codesmith.cli.progress import Progress
from codesmith.errors import BadArgument, PlanNotEmpty, by_kind
from codesmith.fleet import parallel
from codesmith.nodes.registry import Node, Registry
from codesmith.secrets import SHARED

if TYPE_CHECKING:
    from codesmith.bootstrap.prepare import Progress as Done
    from codesmith.sdk.client import Client
    from codesmith.tunnel.state import EndpointState

Row = dict[str, Any]
T = TypeVar("T")

JOBS_MAX = 256
# The columns of a plan.
PLAN = ("node", "step", "now", "then", "error")


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


def report(
    chosen: Chosen,
    work: Callable[[Node], Row],
    columns: Sequence[str],
    *,
    json: bool,
    lines: Callable[[list[Row]], list[Row]] = list,
    progress: Progress | None = None,
) -> list[Row]:
    """Do `work` on all chosen nodes at once, show the rows, and raise in the end if a node failed or Ctrl-C came.

    The first column names the node, also in the row of one that failed.

    `lines` turns rows into those that people read; JSON has the rows as they are.
    """

    def show(outcomes: Sequence[parallel.Outcome[Row]]) -> list[Row]:
        rows = parallel.results(
            outcomes, lambda node, error: {columns[0]: node.name, "error": error.problem, "kind": error.kind}
        )
        output.show(rows if json else lines(rows), columns, json=json)
        return rows

    try:
        outcomes = watched(chosen, work, progress or Progress(len(chosen.nodes), "calling"))
    except parallel.Interrupted as interrupted:
        if interrupted.outcomes:
            show(interrupted.outcomes)
        raise
    parallel.raise_only(outcomes)
    rows = show(outcomes)
    parallel.raise_failures(outcomes)
    return rows


def watched(chosen: Chosen, work: Callable[[Node], T], progress: Progress) -> list[parallel.Outcome[T]]:
    """Do `work` on all chosen nodes, with a view of what is under way where there is a terminal."""

    def follow(node: Node) -> T:
        progress.begin(node.name)
        ok = False
        try:
            result = work(node)
            ok = True
            return result
        finally:
            progress.end(node.name, ok=ok)

    with progress:
        return parallel.each(chosen.nodes, follow, chosen.jobs, progress.draw if progress.is_shown else None)


def report_steps(
    chosen: Chosen,
    work: Callable[[Node, Callable[[Done], None]], Row],
    columns: Sequence[str],
    *,
    json: bool,
    lines: Callable[[list[Row]], list[Row]] = list,
) -> list[Row]:
    """Report work that tells its steps: each is a line on stderr, or what a terminal shows as under way."""
    progress = Progress(len(chosen.nodes), "connect")
    is_crowded = progress.is_shown and len(chosen.nodes) > 1

    def tell(done: Done) -> None:
        """Say what was done; in a view of several nodes only what failed, and in any what comes next."""
        progress.step(done.node, done.then or "finish")
        if not is_crowded or not done.ok:
            _say_step(done)

    return report(chosen, lambda node: work(node, tell), columns, json=json, lines=lines, progress=progress)


class Prepared(list[Row]):
    """The rows of a prepare; `exit_code` is 7 for a plan that is not empty."""

    exit_code = 0


def prepare_all(chosen: Chosen, *, plan_only: bool, json: bool) -> Prepared:
    """Prepare nodes at once, or only show what would be done."""
    work = partial(prepare, plan_only=plan_only)
    lines = plan_lines if plan_only else list
    columns = PLAN if plan_only else ("node", "result", "agent_version", "seconds", "error")
    rows = Prepared(report_steps(chosen, work, columns, json=json, lines=lines))
    if plan_only and any(row.get("steps") for row in rows):
        rows.exit_code = PlanNotEmpty.exit_code
    return rows


def prepare(node: Node, tell: Callable[[Done], None], *, plan_only: bool) -> Row:
    """Prepare one node, telling each step."""
    from codesmith.bootstrap.prepare import prepare as prepare_node
    from codesmith.tunnel import identity

    done = prepare_node(node, plan_only=plan_only, on_progress=tell)
    if done.node_id and not plan_only:
        # A node that was installed anew has a new id; whoever prepares it means this one.
        identity.remember(node, done.node_id)
    return {
        "node": node.name,
        "result": "prepared" if done.changed else "planned" if plan_only and done.steps else "nothing to do",
        "changed": done.changed,
        "steps": [step.to_dict() for step in done.steps],
        "agent_version": done.agent_version,
        "node_id": done.node_id,
        "seconds": round(done.seconds, 2),
    }


def _say_step(done: Done) -> None:
    """Say on stderr what was done on a node, and how long it took."""
    trouble = "" if done.ok else f"  FAILED: {done.message}"
    output.say(f"{done.node}  {done.seconds:6.2f} s  {done.text}{trouble}")


def plan_lines(rows: Sequence[Row]) -> list[Row]:
    """Return one line per step; a node without steps has nothing to do."""
    none = [{"text": "nothing to do"}]
    return [
        row if "error" in row else {**row, "step": step["text"], "now": step.get("before"), "then": step.get("after")}
        for row in rows
        for step in row.get("steps") or none
    ]


def version(node: Node) -> Row:
    """Ask a node's agent which one it is."""
    with _client(node) as client:
        return {"node": node.name, **client.node.version().to_dict()}


def info(node: Node) -> Row:
    """Ask a node what it is and has."""
    with _client(node) as client:
        return {"node": node.name, **client.node.info().to_dict()}


def health(node: Node) -> Row:
    """Ask a node how it is."""
    with _client(node) as client:
        return {"node": node.name, **client.node.health().to_dict()}


def health_lines(rows: Sequence[Row]) -> list[Row]:
    """Return one line per check."""
    return [{**row, **check, "check": check.get("name")} for row in rows for check in row.get("checks") or [{}]]


def is_failing(rows: Sequence[Row]) -> bool:
    """Tell whether a node's health is failing."""
    return any(row.get("status") == "failing" for row in rows)


def connect(node: Node) -> Row:
    """Bring a node's endpoint up, its port included; return its state."""
    from codesmith.tunnel import control

    state = control.connect(node)
    if state.state != "ready":  # calls go through, by the private socket; the port that was asked for is not there
        raise by_kind(state.kind)(state.reason, hint=state.hint)
    return state_row(state)


def disconnect(node: Node) -> Row:
    """Take a node's endpoint down; say whether there was one."""
    from codesmith.tunnel import control

    return {"node": node.name, "changed": control.disconnect(node)}


def status(chosen: Sequence[Node] | None) -> list[Row]:
    """Return the state of every endpoint, or of the chosen nodes, those without one included."""
    from codesmith.tunnel import control

    if chosen is None:
        return [state_row(state) for state in control.status()]
    states = {(state.name, state.registry): state for state in control.status()}
    found = [(node, states.get((node.name, str(node.registry)))) for node in chosen]
    return [state_row(state) if state else _stopped(node) for node, state in found]


def listing(found: Registry) -> list[Row]:
    """Return the registry joined with the endpoints."""
    rows = status(list(found.nodes.values()))
    return [
        {**row, "tags": list(node.tags), "labels": dict(node.labels), "default": node.name == found.default}
        for row, node in zip(rows, found.nodes.values(), strict=True)
    ]


def state_row(state: EndpointState) -> Row:
    """Return an endpoint's state for people and programs."""
    keys = (
        "name",
        "host",
        "endpoint",
        "token_file",
        "state",
        "since",
        "agent_version",
        "node_id",
        "carrier",
        "reason",
        "registry",
    )
    row = {key: getattr(state, key) for key in keys}
    return {**row, "since": _time(state.since)}


def add(file: str, name: str, settings: Mapping[str, Any], tags: list[str], labels: list[str]) -> Row:
    """Write a node into nodes.yaml and return it as it is now read."""
    from codesmith.cli import arguments
    from codesmith.nodes import writer

    path = paths.nodes_file(file)
    given = {**settings, "tags": tuple(tags), "labels": arguments.parse_pairs(labels, "--label")}
    writer.add(path, name, {key: value for key, value in given.items() if value not in (None, ())})
    return _written(Registry.load(path).get(name))


def remove(file: str, name: str) -> Row:
    """Take a node's endpoint down and its entry out of nodes.yaml; the node itself is left as it is."""
    from codesmith.nodes import writer
    from codesmith.tunnel import control, identity

    path = paths.nodes_file(file)
    node = Registry.load(path).get(name)
    control.disconnect(node)
    identity.forget(node)
    was_default = writer.remove(path, name)
    return {"name": name, "removed": True, "was_default": was_default, "file": str(path)}


def trust(node: Node, *, yes: bool) -> Row:
    """Pin the host key a node shows, once the person in front of the terminal agrees."""
    from codesmith.ssh.trust import trust as pin

    done = pin(node, yes=yes, confirm=output.confirm)
    return {
        "node": done.node,
        "host": done.host,
        "type": done.type,
        "fingerprint": done.fingerprint,
        "file": str(done.file),
        "added": done.added,
    }


def _written(node: Node) -> Row:
    row = node.to_dict()
    return {key: value for key, value in row.items() if value not in (None, [], {})}


def _stopped(node: Node) -> Row:
    from codesmith.tunnel.local_endpoint import address_of, port_of, token_path

    return {
        "name": node.name,
        "host": node.place,
        "endpoint": address_of(node),
        "token_file": "" if port_of(node) is None else str(token_path(node)),
        "state": "stopped",
        "since": None,
        "agent_version": "",
        "node_id": "",
        "carrier": "",
        "reason": "",
        "registry": str(node.registry),
    }


def _time(seconds: float) -> str | None:
    return (
        datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if seconds else None
    )


def _client(node: Node) -> Client:
    from codesmith.sdk.client import Client

    return Client(node)
