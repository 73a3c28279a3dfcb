"""What CodeSmith's accounts are like, whatever the node's policy says: find drift and repair it.

An account is closed: expired, locked, without a shell; that of an active user with a key is open for the node's sshd
alone, in the group for which sshd has our settings, and its sessions there have bounds. It has no other group but its
own, which has no other members, no access lists on its home and workspace, and nothing that cron, at or a user manager
would start. Other rules that an administrator sets for it are drift.
"""

from __future__ import annotations

import datetime
import grp
import os
import pwd
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

from agent.helper.accounts import accounts, databases, login_keys, login_marks, schedules, session_limits
from agent.helper.trees import trees
from agent.shared import acls, sshd_door, uids
from agent.shared.errors import CommandFailed
from agent.shared.names import ENTER, LOGIN_PREFIX, LOGINS, LOGINS_GROUP, NO_HOME, home_of, is_name, login_of, path_of

FOREVER_DAYS = 99999
# Fields of a line in /etc/shadow.
PASSWORD, CHANGED, MIN, MAX, _, INACTIVE, EXPIRY = range(1, 8)


class Accounts:
    """The account databases, read once for any number of accounts."""

    def __init__(self) -> None:
        self._accounts = {account.pw_name: account for account in pwd.getpwall()}
        self._shadow = _read("/etc/shadow")
        self._is_door_open = sshd_door.is_open()
        # Where prepare has made no such directory yet, no login has its file.
        self._has_marks = os.path.isdir(LOGINS)
        self._has_group = accounts.has_logins_group()
        self._scheduled = schedules.owners()
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

    def differences(self, name: str) -> List[str]:
        """Return how an account differs from what it should be; [] when it does not, or when it is gone."""
        return [*self._of_access(name), *self.other_differences(name)]

    def other_differences(self, name: str) -> List[str]:
        """Return how an account differs from what it should be, but for what opens and closes it."""
        login = login_of(name)
        account = self._accounts.get(login)
        if account is None:
            return []
        shadow, word = self._shadow.get(login, [""] * 9), login_marks.read(account.pw_uid)
        return [*([f"it has no file in {LOGINS}"] if self._has_marks and word is None else []),
                *self._of_groups(login, is_user=word == login_marks.USER), *_of_ageing(shadow),
                *(f"it has {one}" for one in self._scheduled.get(login, []) + self._scheduled.get(account.pw_uid, [])),
                *(f"access list on {path}" for path in _directories(name) if acls.exist(path))]  # fmt: skip

    def _of_access(self, name: str) -> Iterator[str]:
        login = login_of(name)
        account = self._accounts.get(login)
        if account is None:
            return
        is_open = self.is_open(name, login_marks.read(account.pw_uid))
        of_account = _of_open_account if is_open else _of_closed_account
        yield from of_account(account.pw_shell, self._shadow.get(login, [""] * 9))
        if is_open and not session_limits.are_there(account.pw_uid):
            yield "its sessions at sshd have no bounds"

    def is_open(self, name: str, word: Optional[str]) -> bool:
        """Tell whether a login with this word in its file must be open for the node's sshd: if it has a key, too."""
        return self._is_door_open and word == login_marks.USER and login_keys.exist(name)

    def administered(self, login: str) -> Dict[str, List[str]]:
        """Return the groups of others that a login administers, with those who do so beside it and are there."""
        return {
            group: [one for one in found if one != login and one in self._accounts]
            for group, found in self._administrators.items() if login in found and group != login
        }  # fmt: skip

    def _of_groups(self, login: str, *, is_user: bool) -> Iterator[str]:
        joined = self._joined.get(login, [])
        others = [group for group in joined if group != LOGINS_GROUP]
        if others:
            yield f"in the group {', '.join(others)}"
        if is_user and self._has_group and LOGINS_GROUP not in joined:
            yield f"not in the group {LOGINS_GROUP}"
        if self._guests.get(login):
            yield f"its group has other members: {', '.join(self._guests[login])}"

    def _add(self, group: str, members: Iterable[str]) -> None:
        for login in members:
            for table, key, value in ((self._joined, login, group), (self._guests, group, login)):
                if value not in table.setdefault(key, []) and login != group:
                    table[key].append(value)


def repair(name: str, word: str) -> None:
    """Make an account what it should be; CommandFailed when a difference stays. The second call changes nothing.

    `word` says whether it is that of an active user (login_marks.USER). Processes that run already keep the groups that
    they began with.
    """
    account = accounts.find(name)
    if account is None:
        return
    login_marks.write(account.pw_uid, word)
    found = Accounts()
    if found.differences(name):
        databases.check_changeable()
        is_open = found.is_open(name, word)
        if is_open:
            session_limits.ensure(account.pw_uid)
        if found.other_differences(name):
            accounts.reset(name, found.administered(login_of(name)), is_user=word == login_marks.USER, is_open=is_open)
            schedules.remove(name, account.pw_uid)
            for path in _directories(name):
                _remove_acls(*os.path.split(path))
        elif is_open:
            accounts.open_access(name)
        else:
            accounts.close_access(name)
        left = Accounts().differences(name)
        if left:
            login = login_of(name)
            raise CommandFailed(
                f"the account {login} differs from what it should be and cannot be repaired: {'; '.join(left)}",
                hint=f"on the node: id {login}; chage -l {login}", command="usermod", exit_code=0, stderr="",
            )  # fmt: skip


def from_node() -> Dict[str, int]:
    """Return the names of CodeSmith's logins and their uids, from the account databases alone, without the ledger."""
    known = uids.known()
    names: Dict[str, int] = {}
    for one in pwd.getpwall():
        name = one.pw_name[len(LOGIN_PREFIX) :]
        is_ours = (one.pw_name, one.pw_dir, one.pw_gid) == (login_of(name), NO_HOME, one.pw_uid)
        if is_ours and is_name(name) and any(span.has(one.pw_uid) for span in known):
            names[name] = one.pw_uid
    return names


def report() -> Dict[str, Any]:
    """Return the drift of accounts by login (`drift`), and what is wrong with their uids (`uids`)."""
    accounts_now, names = Accounts(), from_node()
    drift = {login_of(name): accounts_now.differences(name) for name in names}
    return {"drift": {login: differences for login, differences in drift.items() if differences},
            "uids": uids.problems([(login_of(name), uid) for name, uid in names.items()])}  # fmt: skip


def _directories(name: str) -> Tuple[str, str]:
    """Return the directories that a login owns, if it is that of a workspace."""
    return home_of(name), path_of(name)


def _of_closed_account(shell: str, shadow: List[str]) -> Iterator[str]:
    if shell not in accounts.NOLOGIN:
        yield f"it has the shell {shell}"
    if not shadow[PASSWORD].startswith("!"):
        yield "its password is not locked"
    if shadow[EXPIRY] != accounts.EXPIRED:
        yield f"it expires on {_day(shadow[EXPIRY])}" if shadow[EXPIRY] else "it does not expire"


def _of_open_account(shell: str, shadow: List[str]) -> Iterator[str]:
    if shell != ENTER:
        yield f"it has the shell {shell} and not {ENTER}"
    if shadow[PASSWORD] != "*":
        yield "its password is locked" if shadow[PASSWORD].startswith("!") else "it has a password"
    if shadow[EXPIRY]:
        yield f"it expires on {_day(shadow[EXPIRY])}"


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
