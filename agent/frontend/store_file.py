"""The front end's database file: opening it, its tables, writes that are held back until a change ends.

A damaged file, or one of a newer agent, makes the store read-only.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from contextlib import contextmanager, suppress
from typing import Any, Callable, Iterator, List, Optional

from agent.shared.database import Database, Layout, Row, Statement
from agent.shared.disk_reserve import DiskReserve
from agent.shared.errors import STORE_HINT, LimitReached, ReadOnly

LAYOUT = Layout(
    2,
    """
CREATE TABLE users (name TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE workspaces (name TEXT PRIMARY KEY, user TEXT NOT NULL, document TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX workspaces_by_user ON workspaces (user);
CREATE TABLE shares (workspace TEXT NOT NULL, user TEXT NOT NULL, PRIMARY KEY (workspace, user)) WITHOUT ROWID;
CREATE TABLE repos (
    workspace TEXT NOT NULL, name TEXT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (workspace, name)) WITHOUT ROWID;
CREATE TABLE results (
    id INTEGER PRIMARY KEY, request_id TEXT UNIQUE NOT NULL, digest TEXT NOT NULL, reply TEXT NOT NULL);
CREATE TABLE intents (id INTEGER PRIMARY KEY, method TEXT NOT NULL, params TEXT NOT NULL);
CREATE TABLE callers (
    intent INTEGER PRIMARY KEY REFERENCES intents (id) ON DELETE CASCADE, uid INTEGER NOT NULL);
CREATE TABLE records (id INTEGER PRIMARY KEY, line TEXT NOT NULL);
""",
    """
CREATE TABLE IF NOT EXISTS jobs (
    workspace TEXT NOT NULL, id TEXT NOT NULL, started_at TEXT NOT NULL, has_ended INTEGER NOT NULL,
    is_asked INTEGER NOT NULL, document TEXT NOT NULL, PRIMARY KEY (workspace, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS asked_jobs (
    number INTEGER PRIMARY KEY, workspace TEXT NOT NULL, id TEXT NOT NULL, UNIQUE (workspace, id));
CREATE TABLE IF NOT EXISTS tokens (
    id TEXT PRIMARY KEY, workspace TEXT NOT NULL, sha256 TEXT UNIQUE NOT NULL, document TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tokens_by_workspace ON tokens (workspace);
CREATE TABLE IF NOT EXISTS token_callers (
    intent INTEGER PRIMARY KEY REFERENCES intents (id) ON DELETE CASCADE, mark TEXT NOT NULL);
""",
)


class HeldWrites(threading.local):
    """What this thread holds back until its change ends, and what it calls then; None outside of a change."""

    held: Optional[List[Statement]] = None

    def __init__(self) -> None:
        self.at_end: List[Callable[[], object]] = []


class StoreFile:
    """One connection behind one lock; `damage` says why the store is read-only, and is empty otherwise."""

    def __init__(self, path: str) -> None:
        self._lock, self._mine = threading.Lock(), HeldWrites()
        self.path, self.damage, self._reserve = path, "", DiskReserve(os.path.dirname(path))
        # The file may be intact, but the disk is too full to open it.
        self.has_no_room_to_open = False
        try:
            self._database: Optional[Database] = Database(path, LAYOUT)
            self._database.check()
            with suppress(LimitReached):  # node.health says so
                self._database.reserve.ensure()
        except (sqlite3.Error, ReadOnly) as error:
            self.damage, self._database = str(error), None
            self.has_no_room_to_open = isinstance(error, sqlite3.OperationalError) and not self.has_room()
            if self.has_no_room_to_open:
                self.damage = f"the disk of {self._reserve.folder} is full: {error}"

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()

    def has_room(self) -> bool:
        """Return whether the disk has room for a new change."""
        return self._reserve.has_room()

    @property
    def database(self) -> Database:
        """The file. ReadOnly when it is damaged, for reads too: what it holds cannot be trusted."""
        if self.has_no_room_to_open:
            raise ReadOnly(f"the agent's store cannot be opened: {self.damage}", hint=f"df {self._reserve.folder}")
        if self.damage or self._database is None:
            raise ReadOnly(
                f"the agent's store is damaged, nothing is changed: {self.damage}",
                hint=STORE_HINT,
            )
        return self._database

    def ensure_room(self) -> None:
        """Raise LimitReached when the disk has no room for what a change stores."""
        with self._lock:
            self.database.reserve.ensure()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Hold back what this thread writes about users and workspaces until `end` or `flush` writes it.

        So the writes of a change and its result reach the disk together, or not at all.
        """
        self._mine.held = []
        try:
            yield
        finally:
            at_end, self._mine.at_end, self._mine.held = self._mine.at_end, [], None
            for callback in at_end:
                callback()

    def when_written(self, callback: Callable[[], object]) -> None:
        """Call back when this thread's change has ended, whether it was written or not; outside of a change at once."""
        if self._mine.held is None:
            callback()
        else:
            self._mine.at_end.append(callback)

    def flush(self) -> None:
        """Write what this thread holds back, if anything."""
        held = self._mine.held
        if held:
            self._mine.held = []
            with self._lock:
                self.database.write(*held)

    def _one(self, sql: str, *values: Any) -> Optional[Row]:
        with self._lock:
            return self.database.one(sql, *values)

    def _all(self, sql: str, *values: Any) -> List[Row]:
        with self._lock:
            return self.database.all(sql, *values)

    def _write(self, *statements: Statement) -> None:
        if self._mine.held is not None:
            self._mine.held += statements
            return
        with self._lock:
            self.database.write(*statements)


def dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
