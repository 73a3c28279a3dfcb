"""Who lives on a node: the workspaces and users that CodeSmith made for people there."""

from __future__ import annotations

import os


def read_residents(ledger: str) -> dict[str, list[str]]:
    """Return the workspaces and users in the helper's ledger; ValueError when it cannot be read."""
    import sqlite3  # only here: it is not needed to look at a node

    found: dict[str, list[str]] = {"workspaces": [], "users": []}
    if not os.path.exists(ledger):
        return found
    try:
        database = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=10)
        try:
            for table in found:
                found[table] = [row[0] for row in database.execute(f"SELECT name FROM {table} ORDER BY name")]  # noqa: S608 (our words)
        finally:
            database.close()
    except sqlite3.Error as error:
        raise ValueError(f"{ledger} cannot be read, so nobody knows who lives there: {error}") from error
    return found
