"""Facts about users and groups of a node: names, group members, and what /etc/shadow says."""

from __future__ import annotations

import grp
import pwd
import time

TYPE_CHECKING = False  # the typing module takes 2 ms to import
if TYPE_CHECKING:
    from typing import Any


def user_name(uid: int) -> str:
    """Return the name of a uid; the number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Return the name of a gid; the number if it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def user_facts(name: str) -> dict[str, Any] | None:
    """Return the facts of a user, with what its policy in /etc/shadow forbids or allows; None if there is none."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return None
    groups = sorted(group.gr_name for group in grp.getgrall() if name in group.gr_mem)
    facts = {"uid": found.pw_uid, "home": found.pw_dir, "shell": found.pw_shell, "groups": groups}
    facts["group"] = group_name(found.pw_gid)
    facts["policy"] = policy_facts(name)
    return facts


def day(number: str) -> str:
    """Return a date from days since 1970, as /etc/shadow counts them."""
    try:
        return time.strftime("%Y-%m-%d", time.gmtime(int(number) * 86400))
    except (ValueError, OverflowError, OSError):
        return f"day {number}"


def policy_facts(name: str) -> list[str]:
    """Return what in an account's line of /etc/shadow will lock it one day, or lets it log in by password."""
    try:
        with open("/etc/shadow", encoding="utf-8", errors="replace") as file:
            fields = next((line.rstrip("\n").split(":") for line in file if line.startswith(f"{name}:")), [])
    except OSError:
        return []
    _, password, changed, least, most, _, inactive, expiry, *_ = [*fields, *[""] * 9]
    ages = most.isdecimal() and int(most) < 99999
    problems = {
        "it has a password": not password.startswith(("*", "!")) and bool(fields),
        "its password must be changed": changed == "0",
        f"its password may be changed after {least} days only": least.isdecimal() and int(least) > 0,
        f"its password expires after {most} days": ages,
        f"it is closed {inactive} days after its password expires": inactive.isdecimal(),
        f"it expires on {day(expiry)}": expiry.isdecimal(),
    }
    return [problem for problem, is_so in problems.items() if is_so]


def group_facts(name: str) -> dict[str, Any] | None:
    """Return gid and members of a group; None if there is none."""
    try:
        found = grp.getgrnam(name)
    except KeyError:
        return None
    return {"gid": found.gr_gid, "members": sorted(found.gr_mem)}
