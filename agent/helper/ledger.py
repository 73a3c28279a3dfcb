"""The truth about what is ours: users and workspaces, written before the first side effect of each change.

Readable by root only. Uids come from a range of our own, each once: a uid that was given out never comes back.
"""

from __future__ import annotations

import json
import os
import sqlite3
from typing import Dict, List, NamedTuple, Optional, Tuple

from agent.errors import LimitReached, ReadOnly

PATH = "/var/lib/codesmith-helper/ledger.db"
VERSION = 1
# Above what Debian gives to people, systemd to dynamic users and the 16-bit nobody; below the first subordinate uid.
UID_FIRST, UID_LAST = 70000, 99999
TABLES = """
CREATE TABLE users (
    name TEXT PRIMARY KEY, uid INTEGER UNIQUE NOT NULL, state TEXT NOT NULL, created_at TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE workspaces (
    name TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES users (name), id TEXT NOT NULL, state TEXT NOT NULL,
    created_at TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX workspaces_by_user ON workspaces (user);
CREATE TABLE uids (next INTEGER NOT NULL);
INSERT INTO uids VALUES (70000);
PRAGMA user_version = 1;
"""


# Came with sandboxes; a ledger from before gets it when it is opened.
SANDBOXES = """
CREATE TABLE IF NOT EXISTS sandboxes (
    workspace TEXT PRIMARY KEY REFERENCES workspaces (name) ON DELETE CASCADE,
    limits TEXT NOT NULL, network TEXT NOT NULL) WITHOUT ROWID
"""


class UserRecord(NamedTuple):
    """A user we made, are making (pending) or are removing (leaving)."""

    name: str
    uid: int
    state: str
    created_at: str


class WorkspaceRecord(NamedTuple):
    """A workspace we made, are making or are removing."""

    name: str
    user: str
    id: str
    state: str
    created_at: str


class Ledger:
    """One connection; every write is on disk when it returns."""

    def __init__(self, path: str = PATH) -> None:
        old_umask = os.umask(0o077)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
            self._open(path)
        except sqlite3.Error as error:
            raise ReadOnly(
                f"the helper's ledger {path} is damaged, nothing is changed: {error}", hint="restore it from a backup"
            ) from None
        finally:
            os.umask(old_umask)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def user(self, name: str) -> Optional[UserRecord]:
        """Return the record of a user."""
        row = self._db.execute("SELECT name, uid, state, created_at FROM users WHERE name = ?", (name,)).fetchone()
        return None if row is None else UserRecord(*row)

    def add_user(self, name: str, created_at: str, first_free: int) -> UserRecord:
        """Record a pending user with the next uid, at least `first_free`; the uid is used up from now on."""
        uid = max(self.next_uid(), first_free)
        if uid > UID_LAST:
            raise LimitReached(f"all uids from {UID_FIRST} to {UID_LAST} have been given out")
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("UPDATE uids SET next = ?", (uid + 1,))
            self._db.execute("INSERT INTO users VALUES (?, ?, 'pending', ?)", (name, uid, created_at))
        return UserRecord(name, uid, "pending", created_at)

    def next_uid(self) -> int:
        """Return the lowest uid that was never given out."""
        return int(self._db.execute("SELECT next FROM uids").fetchone()[0])

    def mark_user(self, name: str, state: str) -> None:
        """Write a user's state: pending, active or leaving."""
        self._db.execute("UPDATE users SET state = ? WHERE name = ?", (state, name))

    def remove_user(self, name: str) -> None:
        """Forget a user; its uid stays used up."""
        self._db.execute("DELETE FROM users WHERE name = ?", (name,))

    def workspace(self, name: str) -> Optional[WorkspaceRecord]:
        """Return the record of a workspace."""
        row = self._db.execute(
            "SELECT name, user, id, state, created_at FROM workspaces WHERE name = ?", (name,)
        ).fetchone()
        return None if row is None else WorkspaceRecord(*row)

    def workspaces_of(self, user: str) -> List[str]:
        """Return the names of a user's workspaces."""
        return [row[0] for row in self._db.execute("SELECT name FROM workspaces WHERE user = ? ORDER BY name", (user,))]

    def add_workspace(self, record: WorkspaceRecord) -> None:
        """Record a pending workspace."""
        self._db.execute("INSERT INTO workspaces VALUES (?, ?, ?, ?, ?)", record)

    def mark_workspace(self, name: str, state: str) -> None:
        """Write a workspace's state: pending, active or leaving."""
        self._db.execute("UPDATE workspaces SET state = ? WHERE name = ?", (state, name))

    def remove_workspace(self, name: str, *, and_user: Optional[str] = None) -> None:
        """Forget a workspace, and its user if named, both or none."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM workspaces WHERE name = ?", (name,))
            self._db.execute("DELETE FROM users WHERE name = ?", (and_user,))

    def sandbox(self, workspace: str) -> Optional[Tuple[Dict[str, float], str]]:
        """Return (limits, network) of a workspace's sandbox."""
        row = self._db.execute("SELECT limits, network FROM sandboxes WHERE workspace = ?", (workspace,)).fetchone()
        return None if row is None else (json.loads(row[0]), row[1])

    def put_sandbox(self, workspace: str, limits: Dict[str, float], network: str) -> None:
        """Write a workspace's sandbox."""
        values = (workspace, json.dumps(limits), network)
        self._db.execute("INSERT OR REPLACE INTO sandboxes VALUES (?, ?, ?)", values)

    def remove_sandbox(self, workspace: str) -> None:
        """Forget a workspace's sandbox."""
        self._db.execute("DELETE FROM sandboxes WHERE workspace = ?", (workspace,))

    def _open(self, path: str) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            self._db.executescript(f"BEGIN; {TABLES} COMMIT;")
        elif version != VERSION:
            raise ReadOnly(f"the helper's ledger {path} has version {version}, this agent knows {VERSION}")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.execute(SANDBOXES)
