"""Errors of the operating system and of SQLite, as errors of the contract."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import contextmanager
from typing import Iterator, Union

from agent.helper.ledger import ledger
from agent.shared import database, os_errors
from agent.shared.errors import AgentError, CommandFailed
from agent.shared.names import BASE

HINTS = {
    errno.EROFS: "mount | grep -w ro",
    errno.EPERM: f"on the node: lsattr -aR {BASE} | grep -E '^[^ ]*[ia]'; chattr -ia PATH",
}


@contextmanager
def pending_on_error() -> Iterator[None]:
    """Set data.pending on every error: the change is half-done, and the same verb again completes it."""
    try:
        yield
    except AgentError as error:
        error.data["pending"] = True
        raise
    except (OSError, sqlite3.DatabaseError) as error:
        problem = as_error(error)
        problem.data["pending"] = True
        raise problem from error


def as_error(error: Union[OSError, sqlite3.DatabaseError]) -> AgentError:
    """Return the error of the contract: a full disk, a read-only file system, a ledger that cannot be read, ..."""
    if isinstance(error, sqlite3.OperationalError):
        return database.as_error(error, ledger.PATH)
    if isinstance(error, sqlite3.DatabaseError):
        return ledger.damaged(ledger.PATH, error)
    where = f"{error.filename}: " if isinstance(error.filename, str) else ""
    text = f"{where}{error.strerror or error}"
    if error.errno in os_errors.NO_ROOM:
        return os_errors.no_room(error, BASE)
    hint = HINTS.get(error.errno or 0, "inv node.logs")
    return CommandFailed(f"the system refused: {text}", hint=hint, command="", exit_code=error.errno, stderr=text)
