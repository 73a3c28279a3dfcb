"""Start, stop and read the logs of the agent's units over SSH: a stopped agent answers no calls."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from codesmith.errors import BadArgument, NotPrepared, StepFailed, Unreachable
from codesmith.nodes.registry import Node

SERVICE = "codesmith-agent.service"
HELPER = "codesmith-helper.service"
NOT_PREPARED = 90
# Only systemd's answer "not-found" means that there is no agent; no answer is another error.
GUARD = f"""\
state=$(systemctl show --property=LoadState --value {SERVICE}) || exit
case $state in
loaded) ;;
not-found) exit {NOT_PREPARED} ;;
*) echo "systemd calls {SERVICE} ${{state:-nothing}}" >&2; exit 1 ;;
esac
"""
# The units to stop before a start.
START: dict[str, tuple[str, ...]] = {"start": (), "restart": (SERVICE,)}
READ = "read the journal"
TIMEOUT_S = 120.0
# The node sends a sign of life every three seconds.
SILENCE_S = 15.0


def stop(node: Node) -> dict[str, Any]:
    """Stop the agent and return the state of its unit afterwards."""
    from codesmith.bootstrap import layout

    # The sockets first: as long as one listens, the next connection starts the agent again.
    command = f"systemctl stop {' '.join(layout.SOCKETS)} && systemctl stop {SERVICE} {HELPER}"
    text = _run(node, f"{command} || exit\nsystemctl is-active {SERVICE} || true", f"stop {SERVICE}")
    return {"node": node.name, "unit": SERVICE, "state": text.strip()}


def start(node: Node, *, verb: str = "start") -> dict[str, Any]:
    """Start or restart the agent and wait for its answer; StepFailed with its last log line if none comes."""
    from codesmith.bootstrap import layout
    from codesmith.bootstrap.probe import PYTHON, payload, program

    job = {"stop": START[verb], "start": (*layout.SOCKETS, SERVICE), "path": layout.SOCKET, "unit": SERVICE}
    job["sockets"] = [socket.path for socket in layout.SOCKETS.values()]
    _run(node, f"exec {PYTHON}", f"{verb} {SERVICE}", payload(program("start_agent"), job))
    return {"node": node.name, "unit": SERVICE, "state": "active"}


def logs(node: Node, lines: int) -> list[str]:
    """Return the last lines that agent and helper wrote to the journal."""
    return _run(node, shlex.join(_journalctl(lines)), READ).splitlines()


def follow(node: Node, lines: int, show: Callable[[str], bool]) -> None:
    """Pass the last lines and then each new one to `show`, until it returns False or Ctrl-C is pressed.

    Nothing keeps running on the node afterwards. Raises Unreachable if the connection is lost, instead of connecting
    again: lines could be missing.
    """
    from codesmith.bootstrap.probe import PYTHON, payload, program
    from codesmith.ssh.connect import connect
    from codesmith.ssh.script import run_script
    from codesmith.ssh.target import resolve

    def take(line: bytes) -> None:
        if not show(line.decode("utf-8", "replace")):
            raise _NobodyReads

    command = payload(program("follow"), [*_journalctl(lines), "--follow"])
    try:
        with connect(resolve(node)) as connection:
            done = run_script(
                connection, f"{GUARD}exec {PYTHON}", command, root=True, on_line=take, silence_s=SILENCE_S
            )
    except (KeyboardInterrupt, _NobodyReads):
        return
    _check(node, done.status, done.stderr, READ)
    raise Unreachable(f"{node.name}: its journal ended", hint=f"inv node.logs --node {node.name} --follow")


class _NobodyReads(Exception):
    """The reader of the output has gone."""


def _journalctl(lines: int) -> list[str]:
    if lines < 0:
        raise BadArgument(f"--lines takes a whole number from 0, not {lines}")
    units = [f"--unit={SERVICE}", f"--unit={HELPER}"]
    return ["journalctl", *units, f"--lines={lines}", "--no-pager", "--output=short-iso", "--quiet"]


def _run(node: Node, script: str, what: str, data: bytes = b"") -> str:
    from codesmith.ssh.connect import connect
    from codesmith.ssh.script import run_script
    from codesmith.ssh.target import resolve

    with connect(resolve(node)) as connection:
        done = run_script(connection, GUARD + script, data, root=True, timeout_s=TIMEOUT_S)
    _check(node, done.status, done.stderr, what)
    return str(done.stdout.decode("utf-8", "replace"))


def _check(node: Node, status: int, stderr: str, what: str) -> None:
    if status == NOT_PREPARED:
        raise NotPrepared(f"{node.name} has no CodeSmith agent", hint=f"inv node.prepare --node {node.name}")
    if status:
        reason = (stderr.strip().splitlines() or [f"exit code {status}"])[-1]
        task = "node.doctor" if what == READ else "node.logs"
        raise StepFailed(f"{node.name}: cannot {what}: {reason}", hint=f"inv {task} --node {node.name}")
