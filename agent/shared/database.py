"""One SQLite file: created whole or not at all, checked when opened, writable on a full disk by its disk reserve.

WAL and synchronous=FULL: a write that returned survives a power cut. A file that is damaged, truncated, newer or
foreign is refused and not changed; it is never replaced by an empty one.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import stat
from contextlib import closing
from typing import Any, FrozenSet, List, NamedTuple, Optional, Tuple

from agent.shared import os_errors
from agent.shared.disk_reserve import DiskReserve
from agent.shared.errors import AgentError, InUse, LimitReached, ReadOnly

Statement = Tuple[Any, ...]
Row = Tuple[Any, ...]
# Errors of SQLite on a full disk: when it writes, and when it creates the files beside a database.
FULL = ("full", "disk I/O error", "unable to open")


class Layout(NamedTuple):
    """The content of a database: its version, its tables, and later tables, which are created when missing."""

    version: int
    tables: str
    later_tables: str


class Database:
    """One connection to a database file. Threads that share it need a lock around it."""

    def __init__(self, path: str, layout: Layout, *, timeout_s: float = 5.0) -> None:
        self.path, self.reserve = path, DiskReserve(os.path.dirname(path))
        self._timeout_s = timeout_s
        try:
            self.connection = self._open(layout)
        except sqlite3.OperationalError as error:
            if not _is_full(error) or not self.reserve.release():
                raise
            self.connection = self._open(layout)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def one(self, sql: str, *values: Any) -> Optional[Row]:
        """Return the first row of a query; None when it has none."""
        row: Optional[Row] = self.connection.execute(sql, values).fetchone()
        return row

    def all(self, sql: str, *values: Any) -> List[Row]:
        """Return all rows of a query."""
        return self.connection.execute(sql, values).fetchall()

    def write(self, *statements: Statement, may_use_reserve: bool = True) -> sqlite3.Cursor:
        """Execute (sql, values...) statements, all or none, and return the cursor of the last one.

        They are on disk when it returns. On a full disk the disk reserve is released for them.
        """
        try:
            return self._write(statements)
        except sqlite3.OperationalError as error:
            if not may_use_reserve or not _is_full(error) or not self.reserve.release():
                raise
            return self._write(statements)

    def check(self) -> None:
        """Raise ReadOnly when the file is damaged or cannot be written."""
        problem = self.connection.execute("PRAGMA quick_check").fetchone()[0]
        if problem != "ok":
            raise ReadOnly(f"{self.path}: {problem}")
        self.check_writable()

    def check_writable(self) -> None:
        """Raise ReadOnly when this process may not write the file, a file beside it or their folder."""
        for path in (os.path.dirname(self.path), self.path, *_wal_files(self.path)):
            if os.path.lexists(path) and not os.access(path, os.W_OK):
                raise ReadOnly(f"{path} cannot be written")

    def check_private(self) -> None:
        """Raise ReadOnly when another uid owns or may write the file, a file beside it or their folder."""
        for path in (os.path.dirname(self.path), self.path, *_wal_files(self.path)):
            if not os.path.lexists(path):
                continue
            entry, me = os.lstat(path), os.geteuid()
            is_link = stat.S_ISLNK(entry.st_mode)
            if entry.st_uid != me or is_link or entry.st_mode & 0o022:
                mode = 700 if stat.S_ISDIR(entry.st_mode) else 600
                state = "is a link" if is_link else f"belongs to uid {entry.st_uid}, mode {entry.st_mode & 0o7777:04o}"
                problem = f"{path} {state}: others than uid {me} may have changed its content"
                fix = f"check it, or restore a backup; then on the node: chown {me} {path}; chmod {mode} {path}"
                raise ReadOnly(f"{problem} ({fix})")

    def _write(self, statements: Tuple[Statement, ...]) -> sqlite3.Cursor:
        connection = self.connection
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            for sql, *values in statements:
                cursor = connection.execute(sql, values)
        return cursor

    def _open(self, layout: Layout) -> sqlite3.Connection:
        # Before the file itself: another process creates these after it.
        remains = [path for path in (self.reserve.path, *_wal_files(self.path)) if os.path.lexists(path)]
        if not os.path.lexists(self.path):
            if remains:
                raise ReadOnly(f"{self.path} is gone, but {remains[0]} is there")
            self.create(layout)
        self.check_private()
        connection = _connect(self.path, self._timeout_s)
        try:
            self._check_layout(connection, layout)
        except BaseException:
            connection.close()
            raise
        # Only now: a foreign file is not changed.
        connection.executescript(layout.later_tables)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _check_layout(self, connection: sqlite3.Connection, layout: Layout) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == layout.version and _statements_of(layout.tables) <= _statements(connection):
            return  # as this release makes them; a look at the columns takes as long as opening the file
        columns = _columns(connection)
        if not columns or (version == layout.version and not _columns_of(layout.tables) <= columns):
            raise ReadOnly(f"{self.path} does not have the tables of CodeSmith")
        if version != layout.version:
            raise ReadOnly(f"{self.path} has version {version}, this agent knows {layout.version}")

    def create(self, layout: Layout) -> None:
        """Create the file under another name first, so that a file without tables is always a damaged one.

        It is linked, not renamed: a file that another process created meanwhile stays.
        """
        temporary = f"{self.path}.{os.urandom(8).hex()}"
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
        sync_folder(os.path.dirname(self.path))


def as_error(error: sqlite3.OperationalError, path: str) -> AgentError:
    """Return an error of SQLite as an error of the contract: full disk, quota, locked file or unusable file."""
    folder = os.path.dirname(path)
    text = f"the store in {folder} cannot be written: {error}"
    cause = os_errors.probe(folder)
    if cause is not None:
        return os_errors.no_room(cause, folder, text)
    if _is_full(error) and not ("unable to open" in str(error) and DiskReserve(folder).has_room()):
        return LimitReached(text, hint=f"df {folder}")
    if "locked" in str(error):
        return InUse(text, hint=f"fuser -v {path}")
    return ReadOnly(text, hint=f"ls -la {folder}; mount | grep -w ro")


def _wal_files(path: str) -> Tuple[str, str]:
    return f"{path}-wal", f"{path}-shm"


def _columns(connection: sqlite3.Connection) -> FrozenSet[Row]:
    tables = "sqlite_master AS t, pragma_table_info(t.name) AS c WHERE t.type = 'table'"
    return frozenset(connection.execute(f"SELECT t.name, c.name FROM {tables}"))  # noqa: S608 (no value is in it)


def _statements(connection: sqlite3.Connection) -> FrozenSet[Row]:
    return frozenset(connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table'"))


@functools.cache
def _columns_of(tables: str) -> FrozenSet[Row]:
    with closing(_connect(":memory:", 0)) as connection:
        connection.executescript(tables)
        return _columns(connection)


@functools.cache
def _statements_of(tables: str) -> FrozenSet[Row]:
    with closing(_connect(":memory:", 0)) as connection:
        connection.executescript(tables)
        return _statements(connection)


def _is_full(error: sqlite3.OperationalError) -> bool:
    return any(word in str(error) for word in FULL)


def _connect(path: str, timeout_s: float) -> sqlite3.Connection:
    return sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=timeout_s)


def sync_folder(folder: str) -> None:
    """Write the entries of a directory to disk: files that were created, renamed and removed in it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
