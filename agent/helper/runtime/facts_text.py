"""The facts of a workspace as AGENTS.md tells them."""

from __future__ import annotations

from typing import Any, Dict, List

TEXT = """\
# Workspace {name} on {node}

CodeSmith keeps this file current; nobody in the workspace can change it. `workspace.json` beside it says the same to
programs. What the operator types is typed on the operator's machine, not here: ask for it.

## Where you are

- You are the Unix user `{login}` (uid {uid}), without root and without a way to become it.
- `{path}` is the workspace ({directories}), `{home}` your home. What is in them stays.
- `/tmp`, `/var/tmp` and `/dev/shm` are in memory, at most a quarter of the node's each, and count as memory.
- {idle_stop_s:.0f} seconds after the last process and session have ended the runtime ends, and with it what is in /tmp.
  The next command starts it again.
- Other workspaces, other users' processes and the system's own files are closed to you.

## Limits

{limits}

## Network

{network}

## Show a page

Listen on a port above 1023 of 127.0.0.1. The operator sees it in a browser after

    {forward}

which prints the address, such as http://127.0.0.1:PORT. Only that machine sees it{openness}.

## Long work

What a command leaves running ends with it. A job goes on, also when you are gone, and its output is kept:

    codesmith-job start --name web -- python3 -m http.server 8000
    codesmith-job list
    codesmith-job logs -f web
    codesmith-job stop web

## When something is denied

| What you see | Why | What to ask the operator for |
| --- | --- | --- |
{denials}

## What there is not

No {without}. Programs and libraries go below your home or the workspace: `python3 -m venv`,
`npm install`, `cargo install`, an unpacked archive.
"""
# How a limit is told, and what happens beyond it.
LIMITS = {
    "memory_bytes": "Memory: {:,.0f} bytes, for all processes and /tmp together. Beyond that the kernel kills one.",
    "cpus": "Processors: {:g}. Who wants more waits.",
    "tasks": "Processes and threads: {:.0f} at once. Beyond that none starts (`Resource temporarily unavailable`).",
    "disk_bytes": "Disk: {:,.0f} bytes, for all files here and in the home. Beyond that no write succeeds.",
    "runtime_s": "Time: a command or job ends after {:g} seconds.",
}
NETWORKS = {
    "full": "The network of the node, also its loopback: a port may be taken by somebody else.",
    "none": "None but the loopback of this workspace.",
    "list": """\
Through the proxy {proxy} alone, to these hosts (without a port: 80 and 443):

{hosts}

The variables HTTP_PROXY, HTTPS_PROXY and ALL_PROXY are set, git and ssh go by it too; Node does itself from 22.21 and
24.5 on. What does not use them reaches nothing: names do not resolve here, connections are unreachable.""",
}
ALLOWED, DENIED = "- allowed: `{}`", "- denied, whatever is allowed: `{}`"
# What one sees, why, and what to ask the operator for.
DENIALS = {
    "full": "",
    "list": "| 403 from the proxy, `CONNECT tunnel failed` | the host is not on the list | `{}` |",
    "none": "| `Network is unreachable`, names do not resolve | there is no network | `{}` (it ends what runs) |",
}
MORE = "| `Killed`, `Cannot allocate memory`, `Resource temporarily unavailable`, `No space left` | a limit | `{}` |"
NOT_YOURS = "| `Permission denied`, `Read-only file system` | it is root's, or of others | to do it as root |"


def render(facts: Dict[str, Any]) -> str:
    """Return AGENTS.md for facts as `facts.describe` gives them."""
    network, operator = facts["network"], facts["operator"]
    mode = network if isinstance(network, str) else "list"
    return TEXT.format(
        **{name: facts[name] for name in ("name", "node", "login", "uid", "path", "home", "idle_stop_s")},
        directories=", ".join(f"`{one}/`" for one in facts["directories"]),
        limits=_limits(facts["limits"]),
        network=NETWORKS[mode].format(proxy=facts["proxy"], hosts=_hosts(network)),
        forward=operator["forward"],
        openness=", but logins of the node can reach the port" if mode == "full" else "",
        denials="\n".join(_denials(mode, operator)),
        without=", no ".join(facts["without"]),
    )


def _limits(limits: Dict[str, float]) -> str:
    lines = [f"- {LIMITS.get(name, name + ': {:g}').format(value)}" for name, value in sorted(limits.items())]
    return "\n".join(lines) or "None but what the node has. Others work on it too."


def _hosts(network: Any) -> str:
    if isinstance(network, str):
        return ""
    allowed, denied = (
        [one.format(host) for host in network[name]] for name, one in (("allow", ALLOWED), ("deny", DENIED))
    )
    return "\n".join([*(allowed or ["- none"]), *denied])


def _denials(mode: str, operator: Dict[str, Any]) -> List[str]:
    rows = [DENIALS[mode].format(operator["allow_host"]), MORE.format(operator["more"]) if operator["more"] else ""]
    return [row for row in (*rows, NOT_YOURS) if row]
