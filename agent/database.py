"""One SQLite file of ours: made whole or not at all, checked when it is opened, and written although the disk is full.

WAL and synchronous=FULL: a write that returned survives a power cut. A file that is damaged, cut short, from the future
or not ours is refused and stays as it is, to the byte; it is never replaced by an empty one.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from typing import Any, List, NamedTuple, Optional, Tuple

from agent.ballast import Ballast
from agent.errors import LimitReached, ReadOnly

Statement = Tuple[Any, ...]
Row = Tuple[Any, ...]
# What SQLite says when a disk is full: while it writes, and while it makes the files beside a database.
FULL = ("full", "disk I/O error", "unable to open")


class Layout(NamedTuple):
    """What is in a database: its version, its tables, and those that came later and are made when missing."""

    version: int
    tables: str
    later_tables: str


class Database:
    """One connection; safe to use from several threads when one lock is around it."""

    def __init__(self, path: str, layout: Layout, *, timeout_s: float = 5.0) -> None:
        self.path, self.ballast = path, Ballast(os.path.dirname(path))
        self._timeout_s = timeout_s
        try:
            self._connection = self._open(layout)
        except sqlite3.OperationalError as error:
            if not _is_full(error) or not self.ballast.let_go():
                raise
            self._connection = self._open(layout)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def one(self, sql: str, *values: Any) -> Optional[Row]:
        """Return the first row."""
        row: Optional[Row] = self._connection.execute(sql, values).fetchone()
        return row

    def all(self, sql: str, *values: Any) -> List[Row]:
        """Return all rows."""
        return self._connection.execute(sql, values).fetchall()

    def write(self, *statements: Statement, uses_ballast: bool = True) -> sqlite3.Cursor:
        """Execute (sql, values...) statements, all or none; on disk when it returns. The last one's cursor is returned.

        On a full disk the ballast is let go for it.
        """
        try:
            return self._write(statements)
        except sqlite3.OperationalError as error:
            if not uses_ballast or not _is_full(error) or not self.ballast.let_go():
                raise
            return self._write(statements)

    def check(self) -> None:
        """Raise ReadOnly when the file is damaged."""
        found = self._connection.execute("PRAGMA quick_check").fetchone()[0]
        if found != "ok":
            raise ReadOnly(f"{self.path}: {found}")

    def _write(self, statements: Tuple[Statement, ...]) -> sqlite3.Cursor:
        connection = self._connection
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            for sql, *values in statements:
                cursor = connection.execute(sql, values)
        return cursor

    def _open(self, layout: Layout) -> sqlite3.Connection:
        if not os.path.lexists(self.path):
            self._make(layout)
        connection = _connect(self.path, self._timeout_s)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != layout.version:
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            what = f"version {version}, this agent knows {layout.version}" if tables else "no tables of ours"
            raise ReadOnly(f"{self.path} has {what}")
        # Only now: a file that is not ours stays as it is, to the byte.
        connection.executescript(layout.later_tables)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _make(self, layout: Layout) -> None:
        """Make the file under another name first: so one without tables is always a damaged one.

        Linked, not renamed: somebody else who made it meanwhile keeps theirs.
        """
        temporary = f"{self.path}.{secrets.token_hex(8)}"
        try:
            connection = _connect(temporary, self._timeout_s)
            connection.executescript(f"BEGIN; {layout.tables} PRAGMA user_version = {layout.version}; COMMIT;")
            connection.close()
            os.link(temporary, self.path)
        except FileExistsError:
            pass
        finally:
            for path in (temporary, f"{temporary}-journal"):
                if os.path.exists(path):
                    os.unlink(path)
        _sync(os.path.dirname(self.path))


def full_disk(error: sqlite3.Error, path: str) -> LimitReached:
    """Return what SQLite says about a disk as an error of the contract."""
    folder = os.path.dirname(path)
    return LimitReached(f"the store in {folder} cannot be written: {error}", hint=f"df {folder}")


def _is_full(error: sqlite3.OperationalError) -> bool:
    return any(word in str(error) for word in FULL)


def _connect(path: str, timeout_s: float) -> sqlite3.Connection:
    return sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=timeout_s)


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
