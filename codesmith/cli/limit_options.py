"""The options of sandbox.create and sandbox.update as parameters of the RPC methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from codesmith.cli.arguments import parse_size
from codesmith.errors import BadArgument

NONE = "none"


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
