"""Which uids and gids exist on a node, and which are taken."""

from __future__ import annotations

import grp
import os
import pwd

TYPE_CHECKING = False  # the typing module takes 2 ms to import
if TYPE_CHECKING:
    from typing import Any

LOGIN_DEFS = ("/etc/login.defs", "/usr/etc/login.defs")


def id_facts(lowest: int, no_home: str) -> dict[str, Any]:
    """Return which ids exist (`uids`, `gids`) and which from `lowest` on are taken: ranges, both ends included.

    Our accounts (`ours`), whose home is `no_home`, do not count: so a lost range is chosen again as it was.
    """
    accounts = pwd.getpwall()
    ours = {one.pw_uid for one in accounts if one.pw_dir == no_home}
    numbers = {number for one in accounts for number in (one.pw_uid, one.pw_gid)}
    numbers = (numbers | {one.gr_gid for one in grp.getgrall()}) - ours
    return {
        "uids": mapped("/proc/self/uid_map"),
        "gids": mapped("/proc/self/gid_map"),
        "subordinates": [one for path in ("/etc/subuid", "/etc/subgid") for one in subordinates(path)],
        "taken": merged(sorted(number for number in numbers if number >= lowest)),
        "ours": merged(sorted(one.pw_uid for one in accounts if is_login(one, no_home) and one.pw_uid >= lowest)),
        "login_defs": login_defs(),
    }


def is_login(account: pwd.struct_passwd, no_home: str) -> bool:
    """Tell whether an account has the name, home and group of one that CodeSmith makes."""
    ids, name = (account.pw_uid, account.pw_gid), account.pw_name
    return name.startswith("cs-") and account.pw_dir == no_home and ids[0] == ids[1]


def mapped(path: str) -> list[list[int]]:
    """Return the ranges of ids that exist in this user namespace."""
    rows = (line.split() for line in read_lines(path))
    return [[int(inside), int(inside) + int(count) - 1] for inside, _, count in rows]


def subordinates(path: str) -> list[list[int]]:
    """Return all ranges in a file of subordinate ids."""
    found = [line.split(":") for line in read_lines(path)]
    numbers = [(int(one[1]), int(one[2])) for one in found if len(one) == 3 and (one[1] + one[2]).isdecimal()]
    return [[first, first + count - 1] for first, count in numbers if count]


def login_defs() -> dict[str, int]:
    """Return the limits of uids and gids in login.defs, by their names there."""
    path = next((path for path in LOGIN_DEFS if os.path.exists(path)), LOGIN_DEFS[0])
    words = [line.split() for line in read_lines(path)]
    pairs = [(one[0], one[1]) for one in words if len(one) > 1 and one[0].endswith(("ID_MIN", "ID_MAX"))]
    return {name: int(value) for name, value in pairs if value.isdecimal()}


def merged(numbers: list[int]) -> list[list[int]]:
    """Return sorted numbers as ranges."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number <= found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def read_lines(path: str) -> list[str]:
    """Return the lines of a file; none if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []
