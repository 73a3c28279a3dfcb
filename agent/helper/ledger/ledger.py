"""The record of the users and workspaces that CodeSmith made, written before the first side effect of each change.

Only root can read it. Uids come from CodeSmith's range, and none is given out twice. For each range that the node has
had, the ledger keeps the next unused uid.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from agent.shared import uids
from agent.shared.database import Database, Layout
from agent.shared.errors import AgentError, LimitReached, ReadOnly
from agent.shared.uids import EARLIEST, Range

PATH = "/var/lib/codesmith-helper/ledger.db"
# At most this share of a range, and this many uids, are given out in a day. Without a limit an attacker in the front
# end could use up all of them within an hour, for good.
SHARE_PER_DAY, UIDS_PER_DAY_MAX, DAY_S = 15, 50000, 86400
LAYOUT = Layout(
    1,
    """
CREATE TABLE users (
    name TEXT PRIMARY KEY, uid INTEGER UNIQUE NOT NULL, state TEXT NOT NULL, created_at TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE workspaces (
    name TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES users (name), id TEXT NOT NULL, state TEXT NOT NULL,
    created_at TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX workspaces_by_user ON workspaces (user);
CREATE TABLE uids (next INTEGER NOT NULL);
INSERT INTO uids VALUES (70000);
""",
    # Added later.
    """
CREATE TABLE IF NOT EXISTS assignments (workspace TEXT PRIMARY KEY, user TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS heirs (
    workspace TEXT NOT NULL, user TEXT NOT NULL, PRIMARY KEY (workspace, user)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS disabled (name TEXT PRIMARY KEY, was TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sandboxes (
    workspace TEXT PRIMARY KEY REFERENCES workspaces (name) ON DELETE CASCADE,
    limits TEXT NOT NULL, network TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS given (at INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS given_by_time ON given (at);
CREATE TABLE IF NOT EXISTS sweeps (uid INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS marks (first INTEGER PRIMARY KEY, next INTEGER NOT NULL);
""",
)


class UserRecord(NamedTuple):
    """A user that exists (active, disabled), is being made (pending) or is being removed (leaving)."""

    name: str
    uid: int
    state: str
    created_at: str


class WorkspaceRecord(NamedTuple):
    """A workspace that exists (active), is being made (pending), assigned (moving) or removed (leaving)."""

    name: str
    user: str
    id: str
    state: str
    created_at: str


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

    def user(self, name: str) -> Optional[UserRecord]:
        """Return the record of a user."""
        row = self._database.one("SELECT name, uid, state, created_at FROM users WHERE name = ?", name)
        return None if row is None else UserRecord(*row)

    def user_of_uid(self, uid: int) -> Optional[UserRecord]:
        """Return the record of the user that has a uid."""
        row = self._database.one("SELECT name, uid, state, created_at FROM users WHERE uid = ?", uid)
        return None if row is None else UserRecord(*row)

    def users(self) -> List[UserRecord]:
        """Return the records of all users, by name."""
        rows = self._database.all("SELECT name, uid, state, created_at FROM users ORDER BY name")
        return [UserRecord(*row) for row in rows]

    def restore_user(self, name: str, uid: int, created_at: str) -> UserRecord:
        """Restore the record of a user whose account is CodeSmith's; uids up to its own are used up from now on."""
        within = next((one for one in uids.known() if one.has(uid)), Range(uid, uid))
        self._database.write(
            ("INSERT OR REPLACE INTO marks VALUES (?, ?)", within.first, max(self.next_uid(within), uid + 1)),
            ("UPDATE uids SET next = ? WHERE ? BETWEEN next AND ?", uid + 1, uid, EARLIEST.last),
            ("INSERT INTO users VALUES (?, ?, 'active', ?)", name, uid, created_at),
        )
        return UserRecord(name, uid, "active", created_at)

    def add_user(self, name: str, created_at: str, first_free: int, within: Range) -> UserRecord:
        """Record a pending user with the next uid, at least `first_free`; the uid is used up from now on."""
        uid = max(self.next_uid(within), first_free)
        if uid > within.last:
            raise LimitReached(f"all uids from {within} have been given out, or are in use")
        limit = uids_per_day(within)
        at = int(time.time())
        # Both sides: a clock that was wrong for a while leaves times far ahead, which do not count.
        day = (at - DAY_S, at + DAY_S)
        count = self._database.one("SELECT count(*) FROM given WHERE at BETWEEN ? AND ?", *day)
        if count is not None and count[0] >= limit:
            problem = f"{limit} uids were given out on this node within a day, and none is given twice"
            raise LimitReached(problem, hint="inv audit.list; more are there tomorrow")
        self._database.write(
            ("INSERT OR REPLACE INTO marks VALUES (?, ?)", within.first, uid + 1),
            # For a release from before there were ranges, should the agent be downgraded.
            ("UPDATE uids SET next = ? WHERE ? BETWEEN next AND ?", uid + 1, uid, EARLIEST.last),
            ("INSERT INTO users VALUES (?, ?, 'pending', ?)", name, uid, created_at),
            ("DELETE FROM given WHERE at NOT BETWEEN ? AND ?", *day),
            ("INSERT INTO given VALUES (?)", at),
        )
        return UserRecord(name, uid, "pending", created_at)

    def next_uid(self, within: Range) -> int:
        """Return the lowest uid of a range above all that were given out of it or of a range that overlaps with it."""
        row = self._database.one("SELECT next FROM uids")
        if row is None:
            raise damaged(self._database.path, ReadOnly("it does not know which uids were given out"))
        used = [(EARLIEST.first, int(row[0])), *self._database.all("SELECT first, next FROM marks")]
        marks = [int(mark) for first, mark in used if first <= within.last and mark > first]
        return max([within.first, *marks])

    def disable_user(self, name: str, before: Dict[str, Any]) -> None:
        """Mark a user disabled and store its state before that; a second call does not overwrite the state."""
        self._database.write(
            ("INSERT OR IGNORE INTO disabled VALUES (?, ?)", name, json.dumps(before)),
            ("UPDATE users SET state = 'disabled' WHERE name = ?", name),
        )

    def before_disabled(self, name: str) -> Optional[Dict[str, Any]]:
        """Return a disabled user's state before that; None for a user that is not disabled."""
        row = self._database.one("SELECT was FROM disabled WHERE name = ?", name)
        return None if row is None else dict(json.loads(row[0]))

    def change_before_disabled(self, name: str, before: Dict[str, Any]) -> None:
        """Replace the state that `enable` will restore."""
        self._database.write(("UPDATE disabled SET was = ? WHERE name = ?", json.dumps(before), name))

    def enable_user(self, name: str) -> None:
        """Mark a user active and drop its state from before it was disabled."""
        self._database.write(
            ("DELETE FROM disabled WHERE name = ?", name),
            ("UPDATE users SET state = 'active' WHERE name = ?", name),
        )

    def mark_user(self, name: str, state: str) -> None:
        """Set a user's state: pending, active or leaving."""
        self._database.write(("UPDATE users SET state = ? WHERE name = ?", state, name))

    def remove_user(self, name: str) -> None:
        """Drop the record of a user; its uid stays used up."""
        self._database.write(
            ("DELETE FROM disabled WHERE name = ?", name),
            ("DELETE FROM users WHERE name = ?", name),
        )

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
        """Return the names of a user's workspaces, and of those that are being assigned to it."""
        both = "SELECT name FROM workspaces WHERE user = ? UNION SELECT workspace FROM heirs WHERE user = ?"
        return [row[0] for row in self._database.all(f"{both} ORDER BY 1", user, user)]

    def add_workspace(self, record: WorkspaceRecord) -> None:
        """Record a pending workspace."""
        self._database.write(("INSERT INTO workspaces VALUES (?, ?, ?, ?, ?)", *record))

    def mark_workspace(self, name: str, state: str) -> None:
        """Set a workspace's state: pending, active, moving (to another user) or leaving."""
        self._database.write(("UPDATE workspaces SET state = ? WHERE name = ?", state, name))

    def assignment(self, name: str) -> Optional[str]:
        """Return the user that a workspace is being assigned to; None without an assignment."""
        row = self._database.one("SELECT user FROM assignments WHERE workspace = ?", name)
        return None if row is None else str(row[0])

    def assignees(self, name: str) -> List[str]:
        """Return all users that the unfinished assignment has named; each may own parts of the tree."""
        return [row[0] for row in self._database.all("SELECT user FROM heirs WHERE workspace = ?", name)]

    def begin_assignment(self, name: str, user: str) -> None:
        """Record that a workspace is being assigned to a user."""
        self._database.write(
            ("INSERT OR REPLACE INTO assignments VALUES (?, ?)", name, user),
            ("INSERT OR IGNORE INTO heirs VALUES (?, ?)", name, user),
            ("UPDATE workspaces SET state = 'moving' WHERE name = ?", name),
        )

    def end_assignment(self, name: str, user: str) -> None:
        """Record that a workspace belongs to a user now, and that no assignment is pending."""
        self._database.write(
            ("UPDATE workspaces SET user = ?, state = 'active' WHERE name = ?", user, name),
            ("DELETE FROM assignments WHERE workspace = ?", name),
            ("DELETE FROM heirs WHERE workspace = ?", name),
        )

    def remove_workspace(self, name: str, *, and_user: Optional[str] = None) -> None:
        """Drop the record of a workspace, and of its user if named, in one transaction."""
        self._database.write(
            ("DELETE FROM workspaces WHERE name = ?", name),
            ("DELETE FROM assignments WHERE workspace = ?", name),
            ("DELETE FROM heirs WHERE workspace = ?", name),
            ("DELETE FROM disabled WHERE name = ?", and_user),
            ("DELETE FROM users WHERE name = ?", and_user),
        )

    def sandbox(self, workspace: str) -> Optional[Tuple[Dict[str, float], str]]:
        """Return (limits, network) of a workspace's sandbox; None without one."""
        row = self._database.one("SELECT limits, network FROM sandboxes WHERE workspace = ?", workspace)
        return None if row is None else (json.loads(row[0]), row[1])

    def sandboxed(self) -> List[str]:
        """Return the names of the workspaces that have a sandbox."""
        return [row[0] for row in self._database.all("SELECT workspace FROM sandboxes")]

    def put_sandbox(self, workspace: str, limits: Dict[str, float], network: str) -> None:
        """Set a workspace's sandbox."""
        values = (workspace, json.dumps(limits), network)
        self._database.write(("INSERT OR REPLACE INTO sandboxes VALUES (?, ?, ?)", *values))

    def remove_sandbox(self, workspace: str) -> None:
        """Drop a workspace's sandbox."""
        self._database.write(("DELETE FROM sandboxes WHERE workspace = ?", workspace))


def uids_per_day(within: Range) -> int:
    """Return how many uids of a range may be given out in a day."""
    return min((within.last - within.first + 1) // SHARE_PER_DAY, UIDS_PER_DAY_MAX)


def damaged(path: str, error: Exception) -> ReadOnly:
    """Return the error of every verb while the ledger cannot be read."""
    hint = f"restore {path} from a backup, without {os.path.basename(path)}-*"
    return ReadOnly(f"the helper's ledger is damaged, nothing is changed: {error}", hint=hint)
