"""What PAM does after sshd accepts a key: /etc/nologin and pam_access refuse logins, pam_group gives groups.

Changes nothing, and imports nothing of the agent: see needs.py.
"""

from __future__ import annotations

import fnmatch
import re
from typing import Iterator, List, Optional, Sequence

SERVICE = "/etc/pam.d/sshd"
ACCESS = "/etc/security/access.conf"
GROUPS = "/etc/security/group.conf"
SEE_GROUPS = f"grep -v '^#' {GROUPS}"
NOLOGIN = ("/etc/nologin", "/run/nologin", "/var/run/nologin")
INCLUDE = ("@include", "include", "substack")
DEPTH_MAX = 8
FIX = f"grep -v '^#' {ACCESS}; ls {' '.join(NOLOGIN[:2])}"


def keeping_out(login: str, groups: Sequence[str], *, uses_pam: bool) -> Iterator[str]:
    """Yield each reason why a login would be refused."""
    for path in NOLOGIN[:2]:
        if _lines(path) is not None:
            yield f"{path} keeps everybody out but root"
    if not uses_pam:
        return
    for words in _modules(SERVICE, "account", DEPTH_MAX):
        if words[0].rpartition("/")[2] != "pam_access.so":
            continue
        file = next((word.partition("=")[2] for word in words if word.startswith("accessfile=")), ACCESS)
        rule = refusing_rule(_lines(file) or [], login, groups)
        if rule:
            yield f"{file} refuses it ({rule})"


def joined(login: str, groups: Sequence[str]) -> List[str]:
    """Return the groups that sessions of a login get from pam_group, at some time of day or always."""
    if not any(words[0].rpartition("/")[2] == "pam_group.so" for words in _modules(SERVICE, "auth", DEPTH_MAX)):
        return []
    found: List[str] = []
    for line in _lines(GROUPS) or []:
        services, _, users, _, given = ([part.strip() for part in line.split(";")] + [""] * 5)[:5]
        if _is_meant(services, ["sshd"]) and _is_meant(users, [login, *(f"%{name}" for name in groups)]):
            found += re.split(r"[\s,]+", given)
    return sorted(set(found))


def _is_meant(field: str, names: Sequence[str]) -> bool:
    """Evaluate a list of group.conf(5): names with *, joined by | and &, with ! before those that it is not."""
    is_meant = False
    for operator, no, pattern in re.findall(r"([|&]?)\s*(!?)\s*([^|&!\s]+)", field):
        found = any(fnmatch.fnmatchcase(name, pattern) for name in names) != bool(no)
        is_meant = (is_meant and found) if operator == "&" else (is_meant or found)
    return is_meant


def refusing_rule(lines: Sequence[str], login: str, groups: Sequence[str]) -> str:
    """Return the rule of access.conf(5) that refuses a login from everywhere; empty when there is none.

    Rules for certain origins are skipped: it is not known from where somebody will log in.
    """
    for line in lines:
        sign, users, origins = ([part.strip() for part in line.split(":", 2)] + ["", "", ""])[:3]
        if sign in ("+", "-") and _names(users.split(), login, groups):
            if sign == "+":
                return ""
            if origins.split()[:1] == ["ALL"]:
                return line.strip()
    return ""


def _names(words: List[str], login: str, groups: Sequence[str]) -> bool:
    """Return whether a list of users (A B EXCEPT C D) includes a login."""
    if "EXCEPT" in words:
        index = words.index("EXCEPT")
        return _names(words[:index], login, groups) and not _names(words[index + 1 :], login, groups)
    return any(word in ("ALL", login) or word.strip("()") in groups for word in words)


def _modules(path: str, kind: str, depth: int) -> Iterator[List[str]]:
    """Yield module and arguments of each line of one kind of a PAM service, included files as well."""
    for line in _lines(path) or []:
        words = line.replace("[", " [ ").split()
        if words[0] == "@include" and depth:
            yield from _modules(f"/etc/pam.d/{words[1]}", kind, depth - 1)
        elif words[0].lstrip("-") == kind and len(words) > 2:
            rest = words[words.index("[") :] if "[" in words else words[1:]
            skip = next((number for number, word in enumerate(rest) if word.endswith("]")), 0) + 1
            if words[1] in INCLUDE and depth:
                yield from _modules(f"/etc/pam.d/{words[2]}", kind, depth - 1)
            elif rest[skip:]:
                yield rest[skip:]


def _lines(path: str) -> Optional[List[str]]:
    """Return the lines of a file without comments and empty lines; None when there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return [line for line in (text.partition("#")[0].strip() for text in file) if line]
    except FileNotFoundError:
        return None
