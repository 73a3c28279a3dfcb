"""One SQLite file of ours: made whole or not at all, checked when it is opened, and written although the disk is full.

WAL and synchronous=FULL: a write that returned survives a power cut. A file that is damaged, cut short, from the future
or not ours is refused and stays as it is, to the byte; it is never replaced by an empty one.
"""

from __future__ import annotations

import functools
import os
import secrets
import sqlite3
import stat
from contextlib import closing
from typing import Any, FrozenSet, List, NamedTuple, Optional, Tuple

from agent.shared import os_errors
from agent.shared.disk_reserve import DiskReserve
from agent.shared.errors import AgentError, InUse, LimitReached, ReadOnly

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
        self.path, self.reserve = path, DiskReserve(os.path.dirname(path))
        self._timeout_s = timeout_s
        try:
            self._connection = self._open(layout)
        except sqlite3.OperationalError as error:
            if not _is_full(error) or not self.reserve.let_go():
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
            if not uses_ballast or not _is_full(error) or not self.reserve.let_go():
                raise
            return self._write(statements)

    def check(self) -> None:
        """Raise ReadOnly when the file is damaged."""
        found = self._connection.execute("PRAGMA quick_check").fetchone()[0]
        if found != "ok":
            raise ReadOnly(f"{self.path}: {found}")
        self.check_writable()

    def check_writable(self) -> None:
        """Raise ReadOnly when the file, or one beside it, belongs to somebody else, or its disk can only be read."""
        for path in (os.path.dirname(self.path), self.path, *_beside(self.path)):
            if os.path.lexists(path) and not os.access(path, os.W_OK):
                raise ReadOnly(f"{path} cannot be written")

    def check_private(self) -> None:
        """Raise ReadOnly when others than we own the file, one beside it or their folder, or may write there."""
        for path in (os.path.dirname(self.path), self.path, *_beside(self.path)):
            if not os.path.lexists(path):
                continue
            found, me = os.lstat(path), os.geteuid()
            is_link = stat.S_ISLNK(found.st_mode)
            if found.st_uid != me or is_link or found.st_mode & 0o022:
                mode = 700 if stat.S_ISDIR(found.st_mode) else 600
                whose = "is a link" if is_link else f"belongs to uid {found.st_uid}, mode {found.st_mode & 0o7777:04o}"
                problem = f"{path} {whose}: others than uid {me} may have changed what is in it"
                way = f"look at it, or restore a backup; then on the node: chown {me} {path}; chmod {mode} {path}"
                raise ReadOnly(f"{problem} ({way})")

    def _write(self, statements: Tuple[Statement, ...]) -> sqlite3.Cursor:
        connection = self._connection
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            for sql, *values in statements:
                cursor = connection.execute(sql, values)
        return cursor

    def _open(self, layout: Layout) -> sqlite3.Connection:
        # Looked for first: they are made after the file.
        left = [path for path in (self.reserve.path, *_beside(self.path)) if os.path.lexists(path)]
        if not os.path.lexists(self.path):
            if left:
                raise ReadOnly(f"{self.path} is gone, and {left[0]} is left of it")
            self._make(layout)
        self.check_private()
        connection = _connect(self.path, self._timeout_s)
        try:
            self._check_ours(connection, layout)
        except BaseException:
            connection.close()
            raise
        # Only now: a file that is not ours stays as it is, to the byte.
        connection.executescript(layout.later_tables)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _check_ours(self, connection: sqlite3.Connection, layout: Layout) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        columns = _columns(connection)
        if not columns or (version == layout.version and not _columns_of(layout.tables) <= columns):
            raise ReadOnly(f"{self.path} has no tables of ours")
        if version != layout.version:
            raise ReadOnly(f"{self.path} has version {version}, this agent knows {layout.version}")

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
        sync_folder(os.path.dirname(self.path))


def as_error(error: sqlite3.OperationalError, path: str) -> AgentError:
    """Return what SQLite says as an error of the contract: a full disk, a file that is held, or one it cannot use."""
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


def _beside(path: str) -> Tuple[str, str]:
    return f"{path}-wal", f"{path}-shm"


def _columns(connection: sqlite3.Connection) -> FrozenSet[Row]:
    tables = "sqlite_master AS t, pragma_table_info(t.name) AS c WHERE t.type = 'table'"
    return frozenset(connection.execute(f"SELECT t.name, c.name FROM {tables}"))  # noqa: S608 (no value is in it)


@functools.cache
def _columns_of(tables: str) -> FrozenSet[Row]:
    with closing(_connect(":memory:", 0)) as connection:
        connection.executescript(tables)
        return _columns(connection)


def _is_full(error: sqlite3.OperationalError) -> bool:
    return any(word in str(error) for word in FULL)


def _connect(path: str, timeout_s: float) -> sqlite3.Connection:
    return sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=timeout_s)


def sync_folder(folder: str) -> None:
    """Have what was renamed, made and removed in a directory on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
