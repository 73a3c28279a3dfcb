"""Find where the node differs from the ledger: accounts, groups, homes and workspaces.

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
from agent.helper.ledger.ledger import Ledger, LoginRecord, WorkspaceRecord
from agent.helper.runtime import disk_quota
from agent.helper.trees import trees
from agent.shared import uids
from agent.shared.names import HOMES, LOGIN_PREFIX, NO_HOME, WORKSPACES, home_of, is_name, login_of, path_of
from agent.shared.ownership import is_sealed, is_uid

FINDINGS_MAX = 200
# To list and write: for no other login. To pass through (2711) may be wanted, for a web server.
OTHERS, GROUP = 0o006, 0o060


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
    marks: Dict[int, int]


def inspect(ledger: Ledger) -> Dict[str, Any]:
    """Return the rows of the ledger, at most FINDINGS_MAX findings, and how many more there are."""
    logins, users, workspaces = ledger.logins(), ledger.users(), ledger.workspaces()
    node = read_node()
    known = {first: ledger.next_uid(uids.range_from(first, mark)) for first, mark in node.marks.items()}
    disabled = {user.name for user in users if user.state == "disabled"}
    findings = [*compare(logins, workspaces, disabled, known, node), *_not_limited(ledger)]
    uid_of = {login.name: login.uid for login in logins}
    return {
        "users": {user.name: [uid_of[user.name], user.state] for user in users},
        "workspaces": {one.name: [one.user, uid_of[one.name], one.state] for one in workspaces},
        "shares": ledger.shares(),
        "sandboxed": ledger.sandboxed(),
        "findings": findings[:FINDINGS_MAX],
        "more": max(len(findings) - FINDINGS_MAX, 0),
    }


def _not_limited(ledger: Ledger) -> Iterator[Finding]:
    """Yield each workspace whose disk has a limit in the ledger that the file system does not show."""
    for name in ledger.sandboxed():
        limit = (ledger.sandbox(name) or ({},))[0].get("disk_bytes")
        with suppress(FileNotFoundError):  # it has a finding of its own
            if limit is not None and not disk_quota.is_shown(name, limit):
                problem = f"the disk of workspace {name} is not limited to {limit} bytes, as the helper's ledger says"
                yield Finding(name, f"{problem} (inv sandbox.update {name} --disk {limit})")


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
        marks=uid_mark.read(),
    )


def compare(
    logins: List[LoginRecord], workspaces: List[WorkspaceRecord], disabled: Set[str], next_uids: Dict[int, int],
    node: NodeState,
) -> Iterator[Finding]:  # fmt: skip
    """Yield each difference between the rows of the ledger and the node; `disabled` are the users that are."""
    known = {login_of(login.name) for login in logins}
    uid_of = {login.name: login.uid for login in logins}
    for login in logins:
        if login.state == "active":
            yield from (Finding(login.name, text) for text in _of_login(login, node))
    yield from _unknown_accounts(known, node)
    for record in workspaces:
        if record.state == "active":
            found = _of_workspace(record, uid_of[record.name], node, is_disabled=record.user in disabled)
            yield from (Finding(record.name, text) for text in found)
    names = {record.name for record in workspaces}
    ours = {path_of: (node.workspaces, names), _home: (node.homes, {login_of(name) for name in names})}
    for place, (entries, expected) in ours.items():
        for entry, status in sorted(entries.items()):
            if entry not in expected and _is_like_ours(status):
                name = entry[len(LOGIN_PREFIX) :] if place is _home else entry
                problem = f"{place(entry)} is on the node and not in the helper's ledger"
                yield Finding(name, f"{problem} (inv workspace.delete {name} --yes, or restore a newer ledger)")
    for first, mark in sorted(node.marks.items()):
        if mark > next_uids[first]:
            problem = (
                f"the helper's ledger is older than the node: uids up to {mark - 1} were given out, it has them up to"
            )
            advice = "restore a newer one; even without it no uid is given out twice"
            yield Finding("", f"{problem} {next_uids[first] - 1} ({advice})")


def _home(login: str) -> str:
    return f"{HOMES}/{login}"


def _of_login(record: LoginRecord, node: NodeState) -> Iterator[str]:
    login, account = login_of(record.name), node.accounts.get(login_of(record.name))
    if account is None:
        ways = f"inv user.delete {record.name} --yes, or inv workspace.delete {record.name} --yes"
        yield f"the Unix account {login} is gone ({ways})"
        return
    if (account.pw_uid, account.pw_gid, account.pw_dir) != (record.uid, record.uid, NO_HOME):
        problem = f"the Unix account {login} (uid {account.pw_uid}) is not the one in the helper's ledger"
        yield f"{problem} (uid {record.uid}); it is left alone (on the node: getent passwd {login})"
        return
    for path, logins in node.lines.items():
        if login not in logins and os.path.exists(path):
            yield f"{login} has no line in {path} (on the node: pwck -r; grpck -r)"


def _of_workspace(record: WorkspaceRecord, uid: int, node: NodeState, *, is_disabled: bool) -> Iterator[str]:
    places = {path_of(record.name): node.workspaces.get(record.name),
              home_of(record.name): node.homes.get(login_of(record.name))}  # fmt: skip
    for path, status in places.items():
        yield from _of_directory(path, status, uid)
    closed = {is_sealed(status) for status in places.values() if status is not None}
    if is_disabled and False in closed:
        problem = f"user {record.user} is disabled, but workspace {record.name} is not closed"
        yield f"{problem} (inv user.disable {record.user})"
    if not is_disabled and True in closed:
        problem = f"user {record.user} is active, but workspace {record.name} is closed"
        yield f"{problem} (inv user.enable {record.user})"


def _of_directory(path: str, status: Optional[os.stat_result], uid: int) -> Iterator[str]:
    if status is None:
        yield f"{path} is gone (on the node: ls -ld {path})"
    elif not stat.S_ISDIR(status.st_mode) or not _is_of(status, uid):
        yield f"{path} does not belong to uid {uid}, as the helper's ledger says (on the node: ls -ld {path})"
    elif not is_sealed(status) and status.st_mode & (OTHERS if status.st_gid == uid else OTHERS | GROUP):
        mode = stat.S_IMODE(status.st_mode)
        yield f"{path} is open to other logins: its mode is {mode:04o} (on the node: chmod 0700 {path})"


def _is_of(status: os.stat_result, uid: int) -> bool:
    """Tell whether a directory belongs to a uid; a sealed one has it as its group (0 if an older agent sealed it)."""
    return status.st_gid in (0, uid) if is_sealed(status) else status.st_uid == uid


def _unknown_accounts(known: Set[str], node: NodeState) -> Iterator[Finding]:
    for login, account in sorted(node.accounts.items()):
        if login not in known and (is_uid(account.pw_uid) or account.pw_dir == NO_HOME):
            state = "closed" if login in node.expired else "not closed"
            what = f"the Unix account {login} (uid {account.pw_uid}, {state})"
            yield _unknown(login, what, f"getent passwd {login}", node)
    for login, gid in sorted(node.groups.items()):
        if login not in known and login not in node.accounts and is_uid(gid):
            yield _unknown(login, f"the Unix group {login} (gid {gid})", f"groupdel {login}", node)
    left = {login: path for path, logins in node.lines.items() for login in logins if path.endswith("shadow")}
    for login in sorted(left.keys() - known - node.accounts.keys() - node.groups.keys()):
        yield _unknown(login, f"a line of {login} in {left[login]}", "pwck -r; grpck -r", node)


def _unknown(login: str, what: str, command: str, node: NodeState) -> Finding:
    name = login[len(LOGIN_PREFIX) :] if is_name(login[len(LOGIN_PREFIX) :]) else ""
    kind = "workspace" if name in node.workspaces or login in node.homes else "user"
    advice = f"inv {kind}.delete {name}, or restore a newer ledger; on the node: {command}" if name else command
    return Finding(name, f"{what} is on the node and not in the helper's ledger ({advice})")


def _is_like_ours(status: os.stat_result) -> bool:
    return stat.S_ISDIR(status.st_mode) and (is_uid(status.st_uid) or is_sealed(status))


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
