"""The residents of a node: its workspaces and users, from the helper's ledger."""

from __future__ import annotations

import os


def read_residents(ledger: str) -> dict[str, list[str]]:
    """Return the names of workspaces and users in the helper's ledger; ValueError if it cannot be read."""
    import sqlite3  # only here: a plain probe must not need it

    found: dict[str, list[str]] = {"workspaces": [], "users": []}
    if not os.path.exists(ledger):
        return found
    # While nobody has it open, SQLite would make files beside it, and leave them there.
    mode = "mode=ro" if os.path.exists(f"{ledger}-wal") else "mode=ro&immutable=1"
    try:
        database = sqlite3.connect(f"file:{ledger}?{mode}", uri=True, timeout=10)
        try:
            for table in found:
                found[table] = [row[0] for row in database.execute(f"SELECT name FROM {table} ORDER BY name")]  # noqa: S608 (fixed names)
        finally:
            database.close()
    except sqlite3.Error as error:
        raise ValueError(f"{ledger} cannot be read, so its workspaces and users are unknown: {error}") from error
    return found
