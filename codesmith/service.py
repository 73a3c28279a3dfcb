"""The agent's units on a node, over SSH: they answer no calls while they are stopped."""

from __future__ import annotations

from typing import Any

from codesmith.errors import NotPrepared, StepFailed
from codesmith.registry import Node

SOCKETS = "codesmith-helper.socket codesmith-agent.socket"
SERVICE = "codesmith-agent.service"
HELPER = "codesmith-helper.service"
NOT_PREPARED = 90
GUARD = f'[ "$(systemctl show --property=LoadState --value {SERVICE})" = loaded ] || exit {NOT_PREPARED}\n'
VERBS = {
    "start": f"systemctl start {SOCKETS} {SERVICE}",
    # The sockets too, first: a call that comes in would start the agent again.
    "stop": f"systemctl stop {SOCKETS} && systemctl stop {SERVICE} {HELPER}",
    "restart": f"systemctl start {SOCKETS} && systemctl restart {SERVICE}",
}
TIMEOUT_S = 120.0


def change(node: Node, verb: str) -> dict[str, Any]:
    """Start, stop or restart the agent and return the state of its unit afterwards."""
    text = _run(node, f"{VERBS[verb]} || exit\nsystemctl is-active {SERVICE} || true", f"{verb} {SERVICE}")
    return {"node": node.name, "unit": SERVICE, "state": text.strip()}


def logs(node: Node, lines: int) -> list[str]:
    """Return the last lines that agent and helper wrote to the journal."""
    units = f"--unit={SERVICE} --unit={HELPER}"
    script = f"journalctl {units} --lines={lines} --no-pager --output=short-iso --quiet"
    return _run(node, script, "read the journal").splitlines()


def _run(node: Node, script: str, what: str) -> str:
    from codesmith.remote.connection import connect, run_script
    from codesmith.remote.target import resolve

    with connect(resolve(node)) as connection:
        done = run_script(connection, GUARD + script, root=True, timeout_s=TIMEOUT_S)
    if done.status == NOT_PREPARED:
        raise NotPrepared(f"{node.name} has no CodeSmith agent", hint=f"inv node.prepare --node {node.name}")
    if done.status:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.status}"])[-1]
        raise StepFailed(f"{node.name}: cannot {what}: {said}", hint=f"inv node.logs --node {node.name}")
    return str(done.stdout.decode("utf-8", "replace"))
