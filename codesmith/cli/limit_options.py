"""The options for limits and network of sandbox.create, sandbox.update and workspace.create, for the RPC methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypedDict

from codesmith.cli.arguments import parse_size
from codesmith.errors import BadArgument

NONE = "none"
NETWORKS = ("full", NONE, "list")
LIMIT_HELP = {
    "memory": "Memory for all that runs in it together, such as 512M or 2G (default: no limit).",
    "cpus": "Processors for all that runs in it together, such as 1.5 (default: no limit).",
    "tasks": "Processes and threads at once in it (default: no limit).",
    "runtime": "Seconds that a command may run (default: the time limit of the call).",
    "disk": "Disk for its files, such as 5G, where the node can limit it (default: no limit).",
    "network": "full; none, which leaves only loopback; or list, with --allow (default: full; list with --allow).",
    "allow": "A host that it may reach, such as pypi.org or *.github.com:443; repeatable (default: no list).",
    "deny": "A host that it may not reach though --allow has it; repeatable (default: none).",
}


class LimitOptions(TypedDict, total=False):
    """The options of a task that gives a workspace its first limits."""

    memory: str | None
    cpus: float | None
    tasks: int | None
    runtime: float | None
    disk: str | None
    network: str | None
    allow: list[str] | None
    deny: list[str] | None


def parse_limits(options: LimitOptions) -> dict[str, Any]:
    """Return the limits that the options give."""
    given = {
        "memory_bytes": parse_size(options.get("memory"), "--memory"),
        "cpus": options.get("cpus"),
        "tasks": options.get("tasks"),
        "runtime_s": options.get("runtime"),
        "disk_bytes": parse_size(options.get("disk"), "--disk"),
    }
    return {name: value for name, value in given.items() if value is not None}


def parse_network(options: LimitOptions) -> Any:
    """Return the network that the options describe; None when they say nothing of it."""
    return parse_lists(options.get("network"), options.get("allow"), options.get("deny"), is_new=True)


def parse_changes(
    *, memory: str | None, cpus: str | None, tasks: str | None, runtime: str | None, disk: str | None
) -> dict[str, Any]:
    """Return the limits to set; `none` removes one, and what is not given is left out."""
    found: dict[str, Any] = {}
    for name, option, word in (("memory_bytes", "--memory", memory), ("disk_bytes", "--disk", disk)):
        if word is not None:
            found[name] = None if word == NONE else parse_size(word, option)
    for name, option, word in (
        ("cpus", "--cpus", cpus),
        ("tasks", "--tasks", tasks),
        ("runtime_s", "--runtime", runtime),
    ):
        if word is not None:
            found[name] = None if word == NONE else _number(word, option, is_whole=name == "tasks")
    return found


def parse_lists(network: str | None, allow: Sequence[str] | None, deny: Sequence[str] | None, *, is_new: bool) -> Any:
    """Return the network that the options describe; None when none of them replaces it.

    `is_new`: hosts without --network make a list; else they change the one that is there.
    """
    hosts = [*(allow or ()), *(deny or ())]
    if network in ("full", NONE) and hosts:
        raise BadArgument(f"--network {network} has no lists", hint="leave out --network, or use --network list")
    if network == "list" or (is_new and network is None and hosts):
        return {"allow": list(allow or ()), "deny": list(deny or ())}
    return network


def parse_given(**parameters: Any) -> dict[str, Any]:
    """Return the parameters that change something; BadArgument when none does."""
    found = {name: value for name, value in parameters.items() if value}
    if not found:
        raise BadArgument("sandbox.update changes nothing without an option", hint="inv --help sandbox.update")
    if "network" in found and "drop" in found:
        raise BadArgument("--drop takes hosts out of a list, and --network replaces it", hint="leave one of them out")
    return found


def _number(word: str, option: str, *, is_whole: bool) -> float:
    try:
        number: float = int(word) if is_whole else float(word)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        kind = "a whole number" if is_whole else "a number"
        raise BadArgument(f"{option} takes {kind} above 0, or none, not {word!r}")
    return number
