"""What CodeSmith's accounts are like, whatever the node's policy says: find drift and repair it.

An account has no group but its own, which has no other members; no password, ageing or expiry; CodeSmith's shell; and
no access lists on its home and workspaces. The account of a disabled user is closed. Other rules that an administrator
sets for it are drift.
"""

from __future__ import annotations

import datetime
import grp
import os
import pwd
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple

from agent.helper.accounts import accounts, databases
from agent.helper.ledger.ledger import Ledger, UserRecord
from agent.helper.trees import trees
from agent.shared import acls, uids
from agent.shared.errors import CommandFailed
from agent.shared.names import LOGIN_PREFIX, WORKSPACES, home_of, login_of, path_of
from agent.shared.ownership import is_name
from agent.shared.ownership import is_sealed as is_closed

FOREVER_DAYS = 99999
# Fields of a line in /etc/shadow.
PASSWORD, CHANGED, MIN, MAX, _, INACTIVE, EXPIRY = range(1, 8)


class Expected(NamedTuple):
    """What an account should be: its user, whether it is closed, and the directories that it owns."""

    name: str
    is_disabled: bool
    directories: List[str]


class Accounts:
    """The account databases, read once for any number of accounts."""

    def __init__(self) -> None:
        self._accounts = {account.pw_name: account for account in pwd.getpwall()}
        self._shadow = _read("/etc/shadow")
        self._joined: Dict[str, List[str]] = {}
        self._guests: Dict[str, List[str]] = {}
        # Administrators of each group, who may put anybody into it, themselves too.
        self._administrators: Dict[str, List[str]] = {}
        for group in grp.getgrall():
            self._add(group.gr_name, group.gr_mem)
        for name, fields in _read("/etc/gshadow").items():
            self._administrators[name] = [login for login in fields[2].split(",") if login]
            # Administrators, who may join the group, and members: newgrp reads this file too.
            self._add(name, [login for part in fields[2:4] for login in part.split(",") if login])

    def differences(self, expected: Expected) -> List[str]:
        """Return how an account differs from what it should be; [] when it does not, or when it is gone."""
        login = login_of(expected.name)
        account = self._accounts.get(login)
        if account is None:
            return []
        shadow = self._shadow.get(login, [""] * 9)
        return [*self._of_groups(login), *_of_access(account.pw_shell, shadow, expected), *_of_ageing(shadow),
                *(f"access list on {path}" for path in expected.directories if acls.exist(path))]  # fmt: skip

    def administered(self, login: str) -> Dict[str, List[str]]:
        """Return the groups of others that a login administers, with those who do so beside it and are there."""
        return {
            group: [one for one in found if one != login and one in self._accounts]
            for group, found in self._administrators.items() if login in found and group != login
        }  # fmt: skip

    def _of_groups(self, login: str) -> Iterator[str]:
        if self._joined.get(login):
            yield f"in the group {', '.join(self._joined[login])}"
        if self._guests.get(login):
            yield f"its group has other members: {', '.join(self._guests[login])}"

    def _add(self, group: str, members: Iterable[str]) -> None:
        for login in members:
            for table, key, value in ((self._joined, login, group), (self._guests, group, login)):
                if value not in table.setdefault(key, []) and login != group:
                    table[key].append(value)


def expected_of(ledger: Ledger, record: UserRecord) -> Expected:
    """Return what the account of a user should be.

    A closed account stays closed, also where a restored ledger has forgotten it: only `enable` opens.
    """
    workspaces = [path_of(one) for one in ledger.workspaces_of(record.name)]
    is_disabled = record.state == "disabled" or is_home_closed(record.name)
    return Expected(record.name, is_disabled, [home_of(record.name), *workspaces])


def is_home_closed(name: str) -> bool:
    """Return whether a user's home is closed as `disable` closes it."""
    try:
        return is_closed(os.lstat(home_of(name)))
    except FileNotFoundError:
        return False


def repair(expected: Expected) -> None:
    """Make an account what it should be; CommandFailed when a difference stays. The second call changes nothing.

    Sessions that are open keep the groups that they began with.
    """
    found = Accounts()
    if found.differences(expected):
        databases.check_changeable()
        administered = found.administered(login_of(expected.name))
        accounts.reset(expected.name, is_disabled=expected.is_disabled, administered=administered)
        for path in expected.directories:
            _remove_acls(*os.path.split(path))
        left = Accounts().differences(expected)
        if left:
            login = login_of(expected.name)
            raise CommandFailed(
                f"the account {login} differs from what it should be and cannot be repaired: {'; '.join(left)}",
                hint=f"on the node: id {login}; chage -l {login}", command="usermod", exit_code=0, stderr="",
            )  # fmt: skip


def from_node() -> Iterator[Expected]:
    """Yield what each account should be, from account databases and directories alone, without the ledger."""
    known = uids.known()
    owned: Dict[int, List[str]] = {}
    for name in _names(WORKSPACES):
        owned.setdefault(os.lstat(path_of(name)).st_uid, []).append(path_of(name))
    for one in pwd.getpwall():
        name = one.pw_name[len(LOGIN_PREFIX) :]
        is_ours = (one.pw_name, one.pw_dir, one.pw_gid) == (login_of(name), home_of(name), one.pw_uid)
        if is_ours and is_name(name) and any(span.has(one.pw_uid) for span in known):
            yield Expected(name, is_home_closed(name), [one.pw_dir, *owned.get(one.pw_uid, [])])


def report() -> Dict[str, Any]:
    """Return the drift of users' accounts by login (`drift`), and what is wrong with their uids (`uids`)."""
    accounts_now, all_expected = Accounts(), list(from_node())
    drift = {login_of(one.name): accounts_now.differences(one) for one in all_expected}
    users = [(login, pwd.getpwnam(login).pw_uid) for login in drift]
    return {"drift": {login: differences for login, differences in drift.items() if differences},
            "uids": uids.problems(users)}  # fmt: skip


def _of_access(shell: str, shadow: List[str], expected: Expected) -> Iterator[str]:
    if expected.is_disabled:
        is_shut = shell in accounts.NOLOGIN and shadow[EXPIRY] == accounts.EXPIRED
        if not is_shut or not shadow[PASSWORD].startswith("!"):
            yield "disabled, but its account is open"
        return
    if shell != accounts.shell():
        yield f"shell {shell} instead of {accounts.shell()}"
    if shadow[PASSWORD] != accounts.NO_PASSWORD:
        yield "its password is locked" if shadow[PASSWORD].startswith("!") else "it has a password"
    if shadow[EXPIRY]:
        yield f"expires on {_day(shadow[EXPIRY])}"


def _of_ageing(shadow: List[str]) -> Iterator[str]:
    if shadow[CHANGED] == "0":
        yield "its password must be changed at the next login"
    if 0 <= _number(shadow[MAX]) < FOREVER_DAYS:
        yield f"its password expires after {shadow[MAX]} days"
    if _number(shadow[MIN]) > 0:
        yield f"its password may be changed after {shadow[MIN]} days only"
    if _number(shadow[INACTIVE]) >= 0:
        yield f"it is closed {shadow[INACTIVE]} days after its password expires"


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def _day(number: str) -> str:
    try:
        return str(datetime.date(1970, 1, 1) + datetime.timedelta(days=int(number)))
    except (ValueError, OverflowError):
        return f"day {number}"


def _remove_acls(parent: str, name: str) -> None:
    with trees.open_base(parent) as base:
        try:
            directory = os.open(name, trees.DIRECTORY, dir_fd=base)
        except OSError:
            return  # gone, or replaced by something else
        try:
            acls.remove(directory)
        finally:
            os.close(directory)


def _read(path: str) -> Dict[str, List[str]]:
    """Return the fields of an account database by login or group; at least 9, missing ones are empty."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.rstrip("\n").split(":") for line in file]
    except FileNotFoundError:
        return {}
    return {fields[0]: (fields + [""] * 9)[:9] for fields in lines}


def _names(folder: str) -> List[str]:
    try:
        return [entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
