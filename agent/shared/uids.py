"""The uids of this node: the ranges that prepare chose, and subordinate uids of other users.

Prepare writes the ranges to a file that only root can write. The first is for new users, the others have existing ones.
"""

from __future__ import annotations

import functools
import json
import os
from typing import Any, Iterator, List, NamedTuple, Tuple

from agent.shared.errors import Unsupported

FILE = "/etc/codesmith/uids.json"
MAPS = ("/proc/self/uid_map", "/proc/self/gid_map")
SUBORDINATES = ("/etc/subuid", "/etc/subgid")
PREPARE = "inv node.prepare"


class Range(NamedTuple):
    """Uids from `first` to `last`, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first} to {self.last}"

    def has(self, uid: int) -> bool:
        """Return whether a uid is in the range."""
        return self.first <= uid <= self.last


# The range of nodes from before prepare chose one, and the range that it chooses unless part of it is taken.
EARLIEST, USUAL = Range(70000, 99999), Range(1879048192, 2147483646)


class Subordinate(NamedTuple):
    """Uids or gids that /etc/subuid or /etc/subgid give to a user, who may take on each of them."""

    owner: str
    range: Range
    file: str


def ranges(path: str = FILE) -> List[Range]:
    """Return the ranges of this node, the one for new users first; [] when the file is lost, damaged or not root's."""
    try:
        with open(path, encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            if found.st_uid != 0 or found.st_mode & 0o022:
                return []
            return [Range(int(first), int(last)) for first, last in json.load(file)["ranges"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def known(path: str = FILE) -> List[Range]:
    """Return the ranges that may have users on this node; when the file is lost, the usual ones."""
    return ranges(path) or [USUAL, EARLIEST]


def range_from(first: int, mark: int) -> Range:
    """Return the range of this node that begins with `first`; if it has none, the range from `first` to `mark`."""
    return next((one for one in known() if one.first == first), Range(first, max(first, mark)))


def for_new_users(path: str = FILE) -> Range:
    """Return the range for new users; Unsupported if there is none, or its uids do not exist here or are others'."""
    chosen = ranges(path)
    if not chosen:
        raise Unsupported(f"{path} does not say which uids are free for users", hint=PREPARE)
    for number in chosen[0]:
        if not is_mapped(number):
            problem = f"uid {number} does not exist on this node: {_describe_maps()}"
            raise Unsupported(f"{problem}; {path} has {chosen[0]}", hint=PREPARE)
    if _is_all_given(chosen[0]):
        raise Unsupported(f"the uids from {chosen[0]} are somebody's in {' or '.join(SUBORDINATES)}", hint=PREPARE)
    return chosen[0]


def is_mapped(uid: int) -> bool:
    """Return whether a number exists as uid and gid in the user namespace that this node runs in."""
    return all(any(one.has(uid) for one in mapped(path)) for path in MAPS)


@functools.cache
def mapped(path: str) -> List[Range]:
    """Return the uids or gids that exist in this user namespace; they do not change while a process is in it."""
    with open(path, encoding="utf-8") as file:
        lines = [line.split() for line in file]
    return [Range(int(inside), int(inside) + int(count) - 1) for inside, _, count in lines]


def subordinates() -> List[Subordinate]:
    """Return all subordinate uids and gids, by number; the owner may be a name or a number."""
    return sorted((one for path in SUBORDINATES for one in _read_subordinates(path)), key=lambda one: one.range)


def _is_all_given(span: Range) -> bool:
    """Tell whether each number of a range is somebody's subordinate uid or gid."""
    uid = span.first
    for one in subordinates():
        if one.range.first > uid:
            break
        uid = max(uid, one.range.last + 1)
    return uid > span.last


def owners_of(uid: int, among: List[Subordinate]) -> List[str]:
    """Return a phrase for each subordinate range that a number is in; an empty list when there is none."""
    return [f"in the range of {one.owner} in {one.file} ({one.range})" for one in among if one.range.has(uid)]


def problems(users: List[Tuple[str, int]]) -> List[str]:
    """Return which uids of logins are another user's subordinate uid, or do not exist here; empty when all is well."""
    texts: List[str] = []
    among = subordinates()
    for login, uid in users:
        texts += [f"uid {uid} of {login} is {owner}" for owner in owners_of(uid, among)]
        if not is_mapped(uid):
            texts.append(f"uid {uid} of {login} does not exist on this node")
    return texts


def _describe_maps() -> str:
    parts = [", ".join(str(one) for one in mapped(path)) for path in MAPS]
    return f"uids {parts[0]}, gids {parts[1]}"


def _read_subordinates(path: str) -> Iterator[Subordinate]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        fields: List[Any] = line.split(":")
        if len(fields) == 3 and fields[1].isdecimal() and fields[2].isdecimal() and int(fields[2]):
            first = int(fields[1])
            yield Subordinate(fields[0], Range(first, first + int(fields[2]) - 1), path)
