"""Find where the node differs from the ledger: accounts, groups, homes, keys and workspaces.

Reading the node (`NodeState`) and comparing are separate. What an administrator made, and does not look like
CodeSmith's, is no finding.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from contextlib import suppress
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set

from agent.helper.accounts import accounts
from agent.helper.ledger import uid_mark
from agent.helper.ledger.ledger import Ledger, UserRecord, WorkspaceRecord
from agent.helper.trees import handover, trees
from agent.shared import uids
from agent.shared.names import HOMES, LOGIN_PREFIX, STAGING, WORKSPACES, home_of, login_of, path_of
from agent.shared.ownership import is_name, is_sealed, is_uid

FINDINGS_MAX = 200
KEYS = ".ssh/authorized_keys"


class Finding(NamedTuple):
    """One difference: the name of the user or workspace ("" for neither), and a text that ends with the next step."""

    name: str
    text: str


class NodeState(NamedTuple):
    """What the node has under CodeSmith's names, by login or by workspace."""

    accounts: Dict[str, pwd.struct_passwd]
    groups: Dict[str, int]
    lines: Dict[str, Set[str]]
    expired: Set[str]
    homes: Dict[str, os.stat_result]
    workspaces: Dict[str, os.stat_result]
    moving: Set[str]
    marks: Dict[int, int]


def inspect(ledger: Ledger) -> Dict[str, Any]:
    """Return the rows of the ledger, at most FINDINGS_MAX findings, and how many more there are."""
    users, workspaces = ledger.users(), ledger.workspaces()
    node = read_node()
    known = {first: ledger.next_uid(uids.range_from(first, mark)) for first, mark in node.marks.items()}
    findings = list(compare(users, workspaces, known, node))
    return {
        "users": {user.name: [user.uid, user.state] for user in users},
        "workspaces": {one.name: [one.user, one.state] for one in workspaces},
        "sandboxed": ledger.sandboxed(),
        "findings": findings[:FINDINGS_MAX],
        "more": max(len(findings) - FINDINGS_MAX, 0),
    }


def read_node() -> NodeState:
    """Read account databases and directories."""
    lines = {path: _logins_in(path) for path in accounts.DATABASES}
    return NodeState(
        accounts={one.pw_name: one for one in pwd.getpwall() if one.pw_name.startswith(LOGIN_PREFIX)},
        groups={one.gr_name: one.gr_gid for one in grp.getgrall() if one.gr_name.startswith(LOGIN_PREFIX)},
        lines={path: set(logins) for path, logins in lines.items()},
        expired={login for login, fields in lines["/etc/shadow"].items() if fields[6:7] == [accounts.EXPIRED]},
        homes=_entries(HOMES),
        workspaces=_entries(WORKSPACES),
        moving={name for name in _entries(STAGING) if name.startswith(trees.MOVING_PREFIX)},
        marks=uid_mark.read(),
    )


def compare(
    users: List[UserRecord], workspaces: List[WorkspaceRecord], next_uids: Dict[int, int], node: NodeState
) -> Iterator[Finding]:
    """Yield each difference between the rows of the ledger and the node."""
    known = {login_of(user.name) for user in users}
    for user in users:
        if user.state in ("active", "disabled"):
            yield from (Finding(user.name, text) for text in _of_user(user, node))
    yield from _unknown_accounts(known, node)
    for login, status in sorted(node.homes.items()):
        if login not in known and _is_like_ours(status):
            keys = f", with {KEYS}" if _has_keys(login, status.st_uid) else ""
            yield _unknown(login, f"the home {HOMES}/{login}{keys}", f"ls -la {HOMES}/{login}")
    uid_of = {user.name: user.uid for user in users}
    for record in workspaces:
        if record.state == "active":
            yield from _of_workspace(record, uid_of[record.user], node)
    names = {record.name for record in workspaces}
    for name, status in sorted(node.workspaces.items()):
        if name not in names and _is_like_ours(status):
            problem = f"the workspace {path_of(name)} is on the node and not in the helper's ledger"
            yield Finding(name, f"{problem} (inv workspace.delete {name}, or restore a newer ledger)")
    places = {entry for name in names for _, entry in handover.places_of(name)}
    for entry in sorted(node.moving - places):
        name = entry[len(trees.MOVING_PREFIX) :].partition(".")[0]
        yield Finding(
            name, f"{STAGING}/{entry} belongs to no workspace in the helper's ledger (on the node: ls -la {STAGING})"
        )
    for first, mark in sorted(node.marks.items()):
        if mark > next_uids[first]:
            problem = (
                f"the helper's ledger is older than the node: uids up to {mark - 1} were given out, it has them up to"
            )
            advice = "restore a newer one; even without it no uid is given out twice"
            yield Finding("", f"{problem} {next_uids[first] - 1} ({advice})")


def _of_user(user: UserRecord, node: NodeState) -> Iterator[str]:
    login, account = login_of(user.name), node.accounts.get(login_of(user.name))
    if account is None:
        yield f"the Unix account {login} of user {user.name} is gone (inv user.delete {user.name})"
        return
    ids = (account.pw_uid, account.pw_gid, account.pw_dir)
    if ids != (user.uid, user.uid, home_of(user.name)):
        problem = (
            f"the Unix account {login} (uid {account.pw_uid}) is not the one in the helper's ledger (uid {user.uid})"
        )
        yield f"{problem}; it is left alone (on the node: getent passwd {login})"
        return
    for path, logins in node.lines.items():
        if login not in logins and os.path.exists(path):
            yield f"{login} has no line in {path} (on the node: pwck -r; grpck -r)"
    closed = {login in node.expired, login in node.homes and is_sealed(node.homes[login])}
    if user.state == "disabled" and closed != {True}:
        yield f"user {user.name} is disabled, but {login} is not fully closed (inv user.disable {user.name})"
    if user.state == "active" and True in closed:
        yield f"user {user.name} is active, but {login} or its home is closed (inv user.enable {user.name})"
    yield from _of_directory(home_of(user.name), node.homes.get(login), user.uid)


def _of_workspace(record: WorkspaceRecord, uid: int, node: NodeState) -> Iterator[Finding]:
    for text in _of_directory(path_of(record.name), node.workspaces.get(record.name), uid):
        yield Finding(record.name, text)


def _of_directory(path: str, status: Optional[os.stat_result], uid: int) -> Iterator[str]:
    if status is None:
        yield f"{path} is gone (on the node: ls -ld {path})"
    elif not stat.S_ISDIR(status.st_mode) or not _is_of(status, uid):
        yield f"{path} does not belong to uid {uid}, as the helper's ledger says (on the node: ls -ld {path})"


def _is_of(status: os.stat_result, uid: int) -> bool:
    """Tell whether a directory belongs to a uid; a sealed one has it as its group (0 if an older agent sealed it)."""
    return status.st_gid in (0, uid) if is_sealed(status) else status.st_uid == uid


def _unknown_accounts(known: Set[str], node: NodeState) -> Iterator[Finding]:
    for login, account in sorted(node.accounts.items()):
        if login not in known and (is_uid(account.pw_uid) or account.pw_dir.startswith(home_of(""))):
            closed = "closed" if login in node.expired else "open to anyone who has its key"
            yield _unknown(
                login, f"the Unix account {login} (uid {account.pw_uid}, {closed})", f"getent passwd {login}"
            )
    for login, gid in sorted(node.groups.items()):
        if login not in known and login not in node.accounts and is_uid(gid):
            yield _unknown(login, f"the Unix group {login} (gid {gid})", f"groupdel {login}")
    left = {login: path for path, logins in node.lines.items() for login in logins if path.endswith("shadow")}
    for login in sorted(left.keys() - known - node.accounts.keys() - node.groups.keys()):
        yield _unknown(login, f"a line of {login} in {left[login]}", "pwck -r; grpck -r")


def _unknown(login: str, what: str, command: str) -> Finding:
    name = login[len(LOGIN_PREFIX) :] if is_name(login[len(LOGIN_PREFIX) :]) else ""
    advice = f"inv user.delete {name}, or restore a newer ledger; on the node: {command}" if name else command
    return Finding(name, f"{what} is on the node and not in the helper's ledger ({advice})")


def _is_like_ours(status: os.stat_result) -> bool:
    return stat.S_ISDIR(status.st_mode) and (is_uid(status.st_uid) or is_sealed(status))


def _has_keys(login: str, uid: int) -> bool:
    """Tell whether a home has a file of keys, without following links of its user."""
    folder, _, name = KEYS.rpartition("/")
    try:
        return bool(trees.read_inside(HOMES, login, uid, (folder,), name))
    except OSError:
        return False


def _entries(folder: str) -> Dict[str, os.stat_result]:
    status_of: Dict[str, os.stat_result] = {}
    with trees.open_base(folder) as base, os.scandir(base) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # it was removed meanwhile
                status_of[entry.name] = entry.stat(follow_symlinks=False)
    return status_of


def _logins_in(path: str) -> Dict[str, List[str]]:
    """Return the fields of CodeSmith's logins in an account database, by login."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.rstrip("\n").split(":") for line in file if line.startswith(LOGIN_PREFIX)]
    except FileNotFoundError:
        return {}
    return {fields[0]: fields[1:] for fields in lines}
