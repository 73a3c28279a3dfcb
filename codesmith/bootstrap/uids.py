"""The range of uids for the users of a node: one that exists there and is free; chosen once and remembered.

Each uid is used as a gid too. An owner of subordinate uids can become each of them, so those are never taken.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from codesmith.bootstrap import layout
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.step import Step, describe, write_order

Range = tuple[int, int]

# The candidates, best first, both ends included. systemd's table of uids leaves the first unused. The others are for
# nodes where it does not exist: an unprivileged container often has 65536 uids only.
WINDOWS: tuple[Range, ...] = ((1879048192, 2147483646), (70000, 524287), (20000, 59999))
# The range of every node from before ranges were chosen.
EARLIEST: Range = (70000, 99999)
ROOM_MIN = 1000
# Settings of /etc/login.defs with their defaults: the ids that useradd gives to people, and their subordinate ids.
PEOPLE = (("UID_MIN", 1000, "UID_MAX", 60000), ("GID_MIN", 1000, "GID_MAX", 60000))
SUBORDINATES = (
    ("SUB_UID_MIN", 100000, "SUB_UID_MAX", 600100000),
    ("SUB_GID_MIN", 100000, "SUB_GID_MAX", 600100000),
)


def plan_uids(facts: Facts) -> list[Step]:
    """Return the step that writes the node's ranges into uids.json; none if it has them."""
    wanted, there = ranges(facts), facts.files.get(layout.UIDS)
    if facts.uid_ranges_file == wanted and there and describe(there).startswith("0644 root:root"):
        return []
    first, last = wanted[0]
    text = f"give new users the uids from {first} to {last}"
    order = write_order(layout.UIDS, json.dumps({"ranges": wanted}) + "\n")
    return [Step("uids", layout.UIDS, text, describe(there), f"0644 root:root, {first} to {last}", order)]


def ranges(facts: Facts) -> list[list[int]]:
    """Return the node's ranges, the one for new users first: its present one while usable, else a new choice."""
    before = facts.uid_ranges
    if not before and facts.ledger_entries:
        before = [list(EARLIEST)]  # prepared before ranges were chosen: its users keep their uids
    elif before and is_usable((before[0][0], before[0][1]), facts):
        return [*before, *_of_users(before, facts)]
    found = choose(facts)
    first = [list(found)] if found else []
    there = [*first, *(one for one in before if one not in first)]
    return [*there, *_of_users(there, facts)]


def _of_users(there: Sequence[Sequence[int]], facts: Facts) -> list[list[int]]:
    """Return the ranges of users who are in none of those of the node: its file was lost, or is of another time."""
    found: list[list[int]] = []
    for first, last in _subtract(facts.ids.get("ours", ()), [(one[0], one[1]) for one in there]):
        usual = (one for one in (WINDOWS[0], EARLIEST) if one[0] <= first and last <= one[1])
        span = list(next(usual, (first, last)))
        if span not in found:
            found.append(span)
    return found


def problem(facts: Facts) -> str:
    """Return why there are no uids for users; empty if there are some."""
    if (facts.uid_ranges and is_usable((facts.uid_ranges[0][0], facts.uid_ranges[0][1]), facts)) or choose(facts):
        return ""
    exist = " and gids ".join(_shown(maps) for maps in _maps(facts))
    return f"no {ROOM_MIN} uids in a row are left for users: there are uids {exist}, and others are taken"


def is_usable(span: Range, facts: Facts) -> bool:
    """Tell whether all of a range exists on the node and ROOM_MIN uids of it are nobody's subordinates."""
    given = [one for one in facts.ids.get("subordinates", ()) if one]
    exists = all(_subtract([span], _invert(maps)) == [span] for maps in _maps(facts))
    return exists and any(_size(one) >= ROOM_MIN for one in _subtract([span], given))


def choose(facts: Facts) -> Range | None:
    """Return the largest free part of the best window; None if none has ROOM_MIN uids.

    The uids that useradd gives to people are left out first, and taken only where nothing else exists.
    """
    defs = facts.ids.get("login_defs", {})
    others = [*facts.ids.get("subordinates", ()), *facts.ids.get("taken", ()), *_defined(defs, SUBORDINATES)]
    for taken in ([*others, *_defined(defs, PEOPLE)], others):
        for window in WINDOWS:
            parts = [window]
            for maps in _maps(facts):
                parts = _subtract(parts, _invert(maps))
            free = max(_subtract(parts, taken), key=_size, default=None)
            if free and _size(free) >= ROOM_MIN:
                return free
    return None


def _maps(facts: Facts) -> Sequence[Sequence[Sequence[int]]]:
    everything = [[0, (1 << 32) - 2]]
    return [facts.ids.get(kind) or everything for kind in ("uids", "gids")]


def _defined(defs: Any, names: Iterable[tuple[str, int, str, int]]) -> list[Range]:
    return [(defs.get(low, least), defs.get(high, most)) for low, least, high, most in names]


def _invert(there: Iterable[Sequence[int]]) -> list[Range]:
    """Return all numbers outside these ranges."""
    return _subtract([(0, 1 << 32)], there)


def _subtract(parts: Iterable[Sequence[int]], taken: Iterable[Sequence[int]]) -> list[Range]:
    """Return what is left of `parts` without `taken`."""
    left = [(one[0], one[1]) for one in parts]
    for first, last in taken:
        if first <= last:
            pairs = [((low, min(high, first - 1)), (max(low, last + 1), high)) for low, high in left]
            left = [piece for pair in pairs for piece in pair if piece[0] <= piece[1]]
    return left


def _size(one: Range) -> int:
    return one[1] - one[0] + 1


def _shown(spans: Iterable[Sequence[int]]) -> str:
    return ", ".join(f"{first} to {last}" for first, last in spans)
