"""The record of the logins, users and workspaces that CodeSmith made, written before the first side effect of a change.

Only root can read it. A login is a Unix account of the name of a user, of a workspace or of both. Uids come from
CodeSmith's range, and none is given out twice. For each range that the node has had, the ledger keeps the next unused
uid.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

from agent.shared import uids
from agent.shared.database import Database, Layout, Statement
from agent.shared.errors import AgentError, LimitReached, ReadOnly
from agent.shared.uids import Range

PATH = "/var/lib/codesmith-helper/ledger.db"
# At most this share of a range, and this many uids, are given out in a day. Without a limit an attacker in the front
# end could use up all of them within an hour, for good.
SHARE_PER_DAY, UIDS_PER_DAY_MAX, DAY_S = 15, 50000, 86400
LAYOUT = Layout(
    2,
    """
CREATE TABLE logins (
    name TEXT PRIMARY KEY, uid INTEGER UNIQUE NOT NULL, state TEXT NOT NULL, created_at TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE users (
    name TEXT PRIMARY KEY REFERENCES logins (name), state TEXT NOT NULL, created_at TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE workspaces (
    name TEXT PRIMARY KEY REFERENCES logins (name), user TEXT NOT NULL REFERENCES users (name), id TEXT NOT NULL,
    state TEXT NOT NULL, created_at TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX workspaces_by_user ON workspaces (user);
CREATE TABLE shares (
    workspace TEXT NOT NULL REFERENCES workspaces (name) ON DELETE CASCADE,
    user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE, PRIMARY KEY (workspace, user)) WITHOUT ROWID;
CREATE INDEX shares_by_user ON shares (user);
CREATE TABLE seals (
    workspace TEXT PRIMARY KEY REFERENCES workspaces (name) ON DELETE CASCADE, rights TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sandboxes (
    workspace TEXT PRIMARY KEY REFERENCES workspaces (name) ON DELETE CASCADE,
    limits TEXT NOT NULL, network TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE given (at INTEGER NOT NULL);
CREATE INDEX given_by_time ON given (at);
CREATE TABLE sweeps (uid INTEGER PRIMARY KEY);
CREATE TABLE marks (first INTEGER PRIMARY KEY, next INTEGER NOT NULL);
""",
    "",
)


class LoginRecord(NamedTuple):
    """A login that exists (active), is being made (pending) or is being removed (leaving)."""

    name: str
    uid: int
    state: str
    created_at: str


class UserRecord(NamedTuple):
    """A user that exists (active, disabled) or is being made (pending). It has the login of its name."""

    name: str
    state: str
    created_at: str


class WorkspaceRecord(NamedTuple):
    """A workspace that exists (active), is being made (pending) or is being removed (leaving).

    It has the login of its name, which owns its files; `user` says whose it is.
    """

    name: str
    user: str
    id: str
    state: str
    created_at: str


# full, none, or the lists of hosts: {"allow": [...], "deny": [...]}.
Network = Union[str, Dict[str, List[str]]]
Record = Union[LoginRecord, UserRecord, WorkspaceRecord]
TABLES = {LoginRecord: "logins", UserRecord: "users", WorkspaceRecord: "workspaces"}


class Ledger:
    """One connection to the ledger's file. A write is on disk when it returns."""

    # Set by the helper before it forks: checking the whole file takes milliseconds with thousands of workspaces.
    is_checked = False

    def __init__(self, path: str = PATH) -> None:
        try:
            self._database = Database(path, LAYOUT, timeout_s=30)
            if not self.is_checked:
                self._database.check()
        except sqlite3.OperationalError:
            raise  # a full disk or a lock, not damage
        except (sqlite3.Error, ReadOnly) as error:
            raise damaged(path, error) from None

    @classmethod
    def check_once(cls) -> None:
        """Check the file once for this process and its children; if it is damaged, each of them checks it again."""
        try:
            cls().close()
        except (AgentError, sqlite3.Error, OSError):
            return
        cls.is_checked = True

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def ensure_room(self) -> None:
        """Raise LimitReached when the disk has no space for the writes of a change."""
        self._database.reserve.ensure()

    def free_reserve(self) -> bool:
        """Release the disk reserve, for a change that frees more than that; False when it is released already."""
        return self._database.reserve.release()

    def login(self, name: str) -> Optional[LoginRecord]:
        """Return the record of a login."""
        row = self._database.one("SELECT name, uid, state, created_at FROM logins WHERE name = ?", name)
        return None if row is None else LoginRecord(*row)

    def login_of_uid(self, uid: int) -> Optional[LoginRecord]:
        """Return the record of the login that has a uid."""
        row = self._database.one("SELECT name, uid, state, created_at FROM logins WHERE uid = ?", uid)
        return None if row is None else LoginRecord(*row)

    def logins(self) -> List[LoginRecord]:
        """Return the records of all logins, by name."""
        rows = self._database.all("SELECT name, uid, state, created_at FROM logins ORDER BY name")
        return [LoginRecord(*row) for row in rows]

    def new_login(self, name: str, created_at: str, first_free: int, within: Range) -> LoginRecord:
        """Return a pending login with the next uid, at least `first_free`, to be added; LimitReached without one."""
        uid = max(self.next_uid(within), first_free)
        if uid > within.last:
            raise LimitReached(f"all uids from {within} have been given out, or are in use")
        limit = uids_per_day(within)
        count = self._database.one("SELECT count(*) FROM given WHERE at BETWEEN ? AND ?", *_day())
        if count is not None and count[0] >= limit:
            problem = f"{limit} uids were given out on this node within a day, and none is given twice"
            raise LimitReached(problem, hint="inv audit.list; more are there tomorrow")
        return LoginRecord(name, uid, "pending", created_at)

    def add(self, *records: Record) -> None:
        """Add records, all or none; a login before its user and its workspace. Its uid is used up from now on."""
        statements: List[Statement] = []
        for record in records:
            places = ", ".join("?" * len(record))
            statements.append((f"INSERT INTO {TABLES[type(record)]} VALUES ({places})", *record))  # noqa: S608 (fixed names)
            if isinstance(record, LoginRecord):
                within = next((one for one in uids.known() if one.has(record.uid)), Range(record.uid, record.uid))
                mark = max(self.next_uid(within), record.uid + 1)
                statements.append(("INSERT OR REPLACE INTO marks VALUES (?, ?)", within.first, mark))
                if record.state == "pending":
                    statements.append(("DELETE FROM given WHERE at NOT BETWEEN ? AND ?", *_day()))
                    statements.append(("INSERT INTO given VALUES (?)", int(time.time())))
        if statements:
            self._database.write(*statements)

    def next_uid(self, within: Range) -> int:
        """Return the lowest uid of a range above all that were given out of it or of a range that overlaps with it."""
        used = self._database.all("SELECT first, next FROM marks")
        return max([within.first, *(int(mark) for first, mark in used if first <= within.last and mark > first)])

    def activate(self, name: str) -> None:
        """Mark what is pending of a name as active: its login, its user, its workspace."""
        tables = ("logins", "users", "workspaces")
        sql = "UPDATE {} SET state = 'active' WHERE name = ? AND state = 'pending'"
        self._database.write(*((sql.format(table), name) for table in tables))

    def drop_pending(self, name: str) -> None:
        """Drop what is pending of a name; its uid stays used up."""
        tables = ("workspaces", "users", "logins")
        sql = "DELETE FROM {} WHERE name = ? AND state = 'pending'"
        self._database.write(*((sql.format(table), name) for table in tables))

    def mark_leaving(self, name: str) -> None:
        """Mark a login as being removed."""
        self._database.write(("UPDATE logins SET state = 'leaving' WHERE name = ?", name))

    def remove(self, name: str, *, workspace: bool = False, user: bool = False) -> None:
        """Drop the records of a workspace, a user or both, and that of their login when neither is left."""
        of_workspace = [("DELETE FROM workspaces WHERE name = ?", name)] if workspace else []
        of_user = [("DELETE FROM users WHERE name = ?", name)] if user else []
        kept = "SELECT name FROM users UNION SELECT name FROM workspaces"
        of_login = f"DELETE FROM logins WHERE name = ? AND name NOT IN ({kept})"  # noqa: S608 (no value is in it)
        self._database.write(*of_workspace, *of_user, (of_login, name))

    def user(self, name: str) -> Optional[UserRecord]:
        """Return the record of a user."""
        row = self._database.one("SELECT name, state, created_at FROM users WHERE name = ?", name)
        return None if row is None else UserRecord(*row)

    def users(self) -> List[UserRecord]:
        """Return the records of all users, by name."""
        rows = self._database.all("SELECT name, state, created_at FROM users ORDER BY name")
        return [UserRecord(*row) for row in rows]

    def mark_user(self, name: str, state: str) -> None:
        """Set a user's state: active or disabled."""
        self._database.write(("UPDATE users SET state = ? WHERE name = ?", state, name))

    def add_sweep(self, uid: int) -> None:
        """Record that the search for a deleted user's leftovers in shared directories is not finished."""
        self._database.write(("INSERT OR IGNORE INTO sweeps VALUES (?)", uid))

    def sweeps(self) -> List[int]:
        """Return the uids of deleted users whose leftovers are still to be searched for."""
        return [row[0] for row in self._database.all("SELECT uid FROM sweeps ORDER BY uid")]

    def end_sweep(self, uid: int) -> None:
        """Record that the search for a uid's leftovers is finished."""
        self._database.write(("DELETE FROM sweeps WHERE uid = ?", uid))

    def workspace(self, name: str) -> Optional[WorkspaceRecord]:
        """Return the record of a workspace."""
        row = self._database.one("SELECT name, user, id, state, created_at FROM workspaces WHERE name = ?", name)
        return None if row is None else WorkspaceRecord(*row)

    def workspaces(self) -> List[WorkspaceRecord]:
        """Return the records of all workspaces."""
        rows = self._database.all("SELECT name, user, id, state, created_at FROM workspaces")
        return [WorkspaceRecord(*row) for row in rows]

    def workspaces_of(self, user: str) -> List[str]:
        """Return the names of a user's own workspaces."""
        return [row[0] for row in self._database.all("SELECT name FROM workspaces WHERE user = ? ORDER BY 1", user)]

    def workspaces_open_to(self, user: str) -> List[str]:
        """Return the names of the workspaces that a user may enter: its own, and those shared with it."""
        both = "SELECT name FROM workspaces WHERE user = ? UNION SELECT workspace FROM shares WHERE user = ?"
        return [row[0] for row in self._database.all(f"{both} ORDER BY 1", user, user)]

    def mark_workspace(self, name: str, state: str) -> None:
        """Set a workspace's state: pending, active or leaving."""
        self._database.write(("UPDATE workspaces SET state = ? WHERE name = ?", state, name))

    def assign(self, name: str, user: str) -> None:
        """Record that a workspace is another user's; it is not shared with that one any more."""
        self._database.write(
            ("UPDATE workspaces SET user = ? WHERE name = ?", user, name),
            ("DELETE FROM shares WHERE workspace = ? AND user = ?", name, user),
        )

    def shares(self) -> Dict[str, List[str]]:
        """Return the users with whom workspaces are shared, by workspace."""
        found: Dict[str, List[str]] = {}
        for workspace, user in self._database.all("SELECT workspace, user FROM shares ORDER BY 1, 2"):
            found.setdefault(workspace, []).append(user)
        return found

    def share(self, name: str, user: str) -> None:
        """Record that a user may enter a workspace too."""
        self._database.write(("INSERT OR IGNORE INTO shares VALUES (?, ?)", name, user))

    def unshare(self, name: str, user: str) -> None:
        """Record that a user may not enter a workspace any more."""
        self._database.write(("DELETE FROM shares WHERE workspace = ? AND user = ?", name, user))

    def seal(self, workspace: str) -> Optional[Dict[str, Any]]:
        """Return the rights that a workspace's directories had before they were sealed; None when they are not."""
        row = self._database.one("SELECT rights FROM seals WHERE workspace = ?", workspace)
        return None if row is None else dict(json.loads(row[0]))

    def put_seal(self, workspace: str, rights: Dict[str, Any]) -> None:
        """Store the rights that a workspace's directories have before they are sealed."""
        self._database.write(("INSERT OR REPLACE INTO seals VALUES (?, ?)", workspace, json.dumps(rights)))

    def remove_seal(self, workspace: str) -> None:
        """Drop the rights of a workspace whose directories are not sealed any more."""
        self._database.write(("DELETE FROM seals WHERE workspace = ?", workspace))

    def sandbox(self, workspace: str) -> Optional[Tuple[Dict[str, float], Network]]:
        """Return (limits, network) of a workspace's sandbox; None without one."""
        row = self._database.one("SELECT limits, network FROM sandboxes WHERE workspace = ?", workspace)
        return None if row is None else (json.loads(row[0]), _network(row[1]))

    def sandboxed(self) -> List[str]:
        """Return the names of the workspaces that have a sandbox."""
        return [row[0] for row in self._database.all("SELECT workspace FROM sandboxes")]

    def put_sandbox(self, workspace: str, limits: Dict[str, float], network: Network) -> None:
        """Set a workspace's sandbox."""
        values = (workspace, json.dumps(limits), network if isinstance(network, str) else json.dumps(network))
        self._database.write(("INSERT OR REPLACE INTO sandboxes VALUES (?, ?, ?)", *values))

    def remove_sandbox(self, workspace: str) -> None:
        """Drop a workspace's sandbox."""
        self._database.write(("DELETE FROM sandboxes WHERE workspace = ?", workspace))


def _network(text: str) -> Network:
    """Return a network as it was stored: a mode, or the lists of hosts as JSON."""
    lists: Network = json.loads(text) if text.startswith("{") else text
    return lists


def _day() -> Tuple[int, int]:
    """Return the times that count as within a day of now.

    Both sides: a clock that was wrong for a while leaves times far ahead, which do not count.
    """
    at = int(time.time())
    return at - DAY_S, at + DAY_S


def uids_per_day(within: Range) -> int:
    """Return how many uids of a range may be given out in a day."""
    return min((within.last - within.first + 1) // SHARE_PER_DAY, UIDS_PER_DAY_MAX)


def damaged(path: str, error: Exception) -> ReadOnly:
    """Return the error of every verb while the ledger cannot be read."""
    hint = f"restore {path} from a backup, without {os.path.basename(path)}-*"
    return ReadOnly(f"the helper's ledger is damaged, nothing is changed: {error}", hint=hint)
