"""Compares what the node's sshd does with logins of users, and what it must do, by `sshd -T`.

A setting of ours proves nothing: an earlier Match block wins over it, a list of allowed groups keeps logins out, and a
replaced sshd_config does not read it.
"""

from __future__ import annotations

import fnmatch
import grp
import json
import os
import pwd
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from agent.shared import sshd_blocks
from agent.shared.errors import CommandFailed, Unsupported
from agent.shared.names import DOOR_FILE, ENTER, KEYS, LOGIN_PREFIX, LOGINS_GROUP
from agent.shared.run import run

SETTINGS = "/etc/ssh/sshd_config.d/40-codesmith.conf"
# No account has this name, and no user can have it: our settings name it, so that they can be seen without a login.
NOBODY = f"{LOGIN_PREFIX}-check"
# Not here: GSSAPIAuthentication and KerberosAuthentication, which servers of a domain have. `authenticationmethods`
# lets a key in and nothing else, and not every build of sshd lets us turn them off for some logins.
EXPECTED = {
    "allowagentforwarding": "no",
    "allowstreamlocalforwarding": "no",
    "allowtcpforwarding": "no",
    "authenticationmethods": "publickey",
    "authorizedkeyscommand": "none",
    "authorizedkeysfile": f"{KEYS}/%u",
    "authorizedprincipalscommand": "none",
    "authorizedprincipalsfile": "none",
    "chrootdirectory": "none",
    "disableforwarding": "yes",
    "forcecommand": ENTER,
    "gatewayports": "no",
    "hostbasedauthentication": "no",
    "kbdinteractiveauthentication": "no",
    "passwordauthentication": "no",
    "permittty": "yes",
    "permittunnel": "no",
    "permituserenvironment": "no",
    "permituserrc": "no",
    "pubkeyauthentication": "yes",
    "trustedusercakeys": "none",
    "x11forwarding": "no",
}
# Variables of the client that reach `enter`: none that a program loader or Python reads.
ACCEPTED = ("LANG", "LC_*")
# When all of these differ, it is not one block that wins: our file is not read.
OURS = ("authorizedkeysfile", "disableforwarding", "forcecommand", "permituserrc")
# Of logins that sshd_config tells apart. Looking at one takes some 20 ms.
KINDS_MAX = 50
USER_NAMESPACES = "/proc/sys/user/max_user_namespaces"
# Complete: sshd shows nothing where a Match block asks for what is not said here.
CONNECTION = "host=x,addr=198.18.0.1,laddr=198.18.0.2,lport=22,rdomain=x"
TIMEOUT_S = 5.0
Settings = Dict[str, List[str]]


class Problem(NamedTuple):
    """One difference: a keyword of sshd_config, what is wrong with it, and the next step."""

    keyword: str
    problem: str
    fix: str


def is_open() -> bool:
    """Tell whether prepare has opened the door of people who have only a key."""
    try:
        with open(DOOR_FILE, encoding="utf-8") as file:
            return bool(json.load(file)["open"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def problems() -> List[Problem]:
    """Return the differences for users' logins, those of all first; [] when sshd does what it must."""
    if not _has_user_namespaces():
        problem = (
            "user.max_user_namespaces is 0: from inside a workspace of its own a user could take over `enter` outside"
        )
        fix = "raise it (sysctl user.max_user_namespaces), then: inv node.prepare"
        return [Problem("user.max_user_namespaces", problem, fix)]
    logins = [NOBODY, *kinds(_logins(), sshd_blocks.patterns())]
    if len(logins) > KINDS_MAX:
        problem = f"sshd_config has more than {KINDS_MAX - 1} kinds of rules for logins of users, too many to look at"
        return [Problem("Match", problem, "have rules for groups of them, by patterns, then: inv node.prepare")]
    try:
        for login in logins:
            found = list(compare(login, _shown(login)))
            if found:
                return found  # what is wrong for all is wrong for each
        return list(_of_blocks(logins))
    except Unsupported:
        return [Problem("sshd", "this node has no OpenSSH server", "install openssh-server, then: inv node.prepare")]
    except CommandFailed as error:
        why = (str(error.data.get("stderr", "")).strip().splitlines() or [error.problem])[-1]
        return [Problem("sshd", f"sshd -T fails: {why}", "on the node, as root: sshd -T")]


def kinds(logins: Sequence[str], patterns: Sequence[str]) -> List[str]:
    """Return one login of each kind: to those of one kind the same patterns for names of users and groups apply."""
    found: Dict[Tuple[bool, ...], str] = {}
    for login in logins:
        found.setdefault(tuple(fnmatch.fnmatchcase(login, pattern) for pattern in patterns), login)
    return list(found.values())


def _has_user_namespaces() -> bool:
    """Tell whether runtimes have user namespaces: without one they may trace other processes of their logins."""
    try:
        with open(USER_NAMESPACES, encoding="ascii") as file:
            return int(file.read()) > 0
    except (OSError, ValueError):
        return False


def _shown(login: str, text: str = "") -> Settings:
    """Return the settings for a login as sshd shows them, of its configuration or of `text`."""
    of_text = ("-f", "/dev/stdin") if text else ()
    return parse(run("sshd", "-T", *of_text, "-C", f"user={login},{CONNECTION}", timeout_s=TIMEOUT_S, text=text).stdout)


def _of_blocks(logins: Sequence[str]) -> Iterator[Problem]:
    """Yield what is wrong for connections that a Match block before ours is for: as if it were for all of them."""
    for block in sshd_blocks.blocks_before(SETTINGS):
        for login in logins:
            found = list(_of_settings(login, _shown(login, f"{block.text}Match all\nInclude {SETTINGS}\n")))
            if found:
                yield from (one._replace(problem=f"{one.problem}, by `{block.line}`") for one in found)
                break


def report() -> Dict[str, Any]:
    """Return the differences, and whether the door is open, for programs."""
    return {"open": is_open(), "problems": [one._asdict() for one in problems()]}


def parse(text: str) -> Settings:
    """Return the settings that `sshd -T` prints, by keyword; a list has a line for each value."""
    found: Settings = {}
    for line in text.splitlines():
        keyword, _, value = line.strip().partition(" ")
        found.setdefault(keyword.lower(), []).append(value)
    return found


def compare(login: str, there: Settings) -> Iterator[Problem]:
    """Yield the differences for one login."""
    whose = "logins of users" if login == NOBODY else login
    if all(_is_wrong(keyword, there) for keyword in OURS):
        problem = f"sshd does not read {SETTINGS}, or an earlier Match block replaces all of it for {whose}"
        fix = f"put `Include {os.path.dirname(SETTINGS)}/*.conf` first in /etc/ssh/sshd_config, then: inv node.prepare"
        yield Problem("Include", problem, fix)
        return
    yield from _of_settings(login, there)
    yield from _of_access(login, there)


def _of_settings(login: str, there: Settings) -> Iterator[Problem]:
    whose = "logins of users" if login == NOBODY else login
    for keyword, expected in EXPECTED.items():
        if _is_wrong(keyword, there):
            problem = f"{keyword} is {' '.join(there[keyword])} for {whose}, and must be {expected}"
            yield Problem(keyword, problem, _earlier(keyword))
    others = sorted(set(" ".join(there.get("acceptenv", [])).split()) - set(ACCEPTED))
    if others:
        problem = f"acceptenv lets {' '.join(others)} in for {whose}"
        yield Problem("acceptenv", problem, _earlier("acceptenv"))


def _earlier(keyword: str) -> str:
    place = "a Match block of /etc/ssh/sshd_config or of a file before 40-codesmith.conf sets it"
    if keyword == "permituserenvironment":
        place = "/etc/ssh/sshd_config or a file beside it sets it"
    return f"{place}: grep -rin {keyword} /etc/ssh/sshd_config /etc/ssh/sshd_config.d; then: inv node.prepare"


def _is_wrong(keyword: str, there: Settings) -> bool:
    """Tell whether a keyword has another value; one that this sshd does not have is right."""
    return keyword in there and " ".join(there[keyword]).lower() != EXPECTED[keyword].lower()


def _of_access(login: str, there: Settings) -> Iterator[Problem]:
    """Yield which of the lists of users and groups keeps a login out; a limit to certain hosts does not."""
    lists = {
        word: " ".join(there.get(word, [])).split() for word in ("allowusers", "denyusers", "allowgroups", "denygroups")
    }
    whose = "logins of users" if login == NOBODY else login
    names, groups = [login], [LOGINS_GROUP] if login == NOBODY else [LOGINS_GROUP, login]
    if lists["denyusers"] and _matches(names, lists["denyusers"]):
        yield Problem("DenyUsers", f"DenyUsers {' '.join(lists['denyusers'])} keeps {whose} out", _lists("DenyUsers"))
    if lists["denygroups"] and _matches(groups, lists["denygroups"]):
        yield Problem(
            "DenyGroups", f"DenyGroups {' '.join(lists['denygroups'])} keeps {whose} out", _lists("DenyGroups")
        )
    if lists["allowusers"] and not _matches(names, lists["allowusers"]):
        fix = f"add {LOGIN_PREFIX}* to AllowUsers in sshd_config, reload sshd, then: inv node.prepare"
        yield Problem("AllowUsers", f"AllowUsers {' '.join(lists['allowusers'])} keeps {whose} out", fix)
    if lists["allowgroups"] and not _matches(groups, lists["allowgroups"]):
        fix = f"add {LOGINS_GROUP} to AllowGroups in sshd_config, reload sshd, then: inv node.prepare"
        yield Problem("AllowGroups", f"AllowGroups {' '.join(lists['allowgroups'])} keeps {whose} out", fix)


def _lists(keyword: str) -> str:
    return f"take the logins out of {keyword} in sshd_config, reload sshd, then: inv node.prepare"


def _matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Tell whether a name matches one of sshd's patterns, whose part behind @ is a host; a `!` pattern denies."""
    said = [(one.startswith("!"), one.lstrip("!").partition("@")[0]) for one in patterns]
    for name in names:
        hits = [is_not for is_not, pattern in said if fnmatch.fnmatchcase(name, pattern)]
        if hits and not any(hits):
            return True
    return False


def _logins() -> List[str]:
    """Return the logins of users; sshd knows no groups of one whose account is gone."""
    try:
        members = grp.getgrnam(LOGINS_GROUP).gr_mem
    except KeyError:
        return []
    return sorted({one.pw_name for one in pwd.getpwall()} & set(members))
