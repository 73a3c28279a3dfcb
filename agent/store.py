"""What the front end remembers: users, workspaces, results by request id, and intents not yet done.

SQLite (WAL, synchronous=FULL): a write that returned survives a power cut. Ownership is not decided here: that is the
helper's ledger. A damaged or newer file makes the store read-only; it is never replaced by an empty one.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from agent.errors import LimitReached, ReadOnly

VERSION = 1
RESULTS_MAX = 1000
RESULT_BYTES_MAX = 1 << 20
TABLES = """
CREATE TABLE users (name TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE workspaces (name TEXT PRIMARY KEY, user TEXT NOT NULL, document TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX workspaces_by_user ON workspaces (user);
CREATE TABLE results (
    id INTEGER PRIMARY KEY, request_id TEXT UNIQUE NOT NULL, digest TEXT NOT NULL, reply TEXT NOT NULL);
CREATE TABLE intents (id INTEGER PRIMARY KEY, method TEXT NOT NULL, params TEXT NOT NULL);
PRAGMA user_version = 1;
"""

# Not part of version 1 as it was first shipped; made when a store is opened.
LATER_TABLES = """
CREATE TABLE IF NOT EXISTS repos (
    workspace TEXT NOT NULL, name TEXT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (workspace, name)) WITHOUT ROWID;
"""

Document = Dict[str, Any]


class Intent(NamedTuple):
    """A change that was begun and not ended."""

    id: int
    method: str
    params: Document


class Store:
    """One connection behind one lock; `damage` says why nothing may be changed (empty: all is well)."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self.damage = ""
        try:
            self._db = _open(path)
        except (sqlite3.Error, ReadOnly) as error:
            self.damage = str(error)
            self._db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
            self._db.executescript(TABLES + LATER_TABLES)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def check_writable(self) -> None:
        """Raise ReadOnly when the store is damaged."""
        if self.damage:
            raise ReadOnly(
                f"the agent's store is damaged, nothing is changed: {self.damage}",
                hint="see `inv node.health`; restore /var/lib/codesmith/state.db from a backup",
            )

    # users and workspaces

    def get_user(self, name: str) -> Optional[Document]:
        """Return the user's document with its `workspaces` filled in."""
        row = self._one("SELECT document FROM users WHERE name = ?", name)
        return None if row is None else self._with_workspaces(json.loads(row[0]))

    def list_users(self) -> List[Document]:
        """Return all users by name."""
        owned: Dict[str, List[str]] = {}
        for name, user in self._all("SELECT name, user FROM workspaces ORDER BY name"):
            owned.setdefault(user, []).append(name)
        documents = [json.loads(row[0]) for row in self._all("SELECT document FROM users ORDER BY name")]
        return [{**document, "workspaces": owned.get(document["name"], [])} for document in documents]

    def put_user(self, document: Document) -> None:
        """Write a user's document."""
        self._write("INSERT OR REPLACE INTO users VALUES (?, ?)", document["name"], _dumps(document))

    def remove_user(self, name: str) -> None:
        """Forget a user."""
        self._write("DELETE FROM users WHERE name = ?", name)

    def get_workspace(self, name: str) -> Optional[Document]:
        """Return the workspace's document."""
        row = self._one("SELECT document FROM workspaces WHERE name = ?", name)
        return None if row is None else {**json.loads(row[0]), "repos": self._repo_names(name)}

    def list_workspaces(self, user: Optional[str] = None) -> List[Document]:
        """Return all workspaces, or those of one user, by name."""
        if user is None:
            rows = self._all("SELECT document FROM workspaces ORDER BY name")
        else:
            rows = self._all("SELECT document FROM workspaces WHERE user = ? ORDER BY name", user)
        repos: Dict[str, List[str]] = {}
        for workspace, name, text in self._all("SELECT workspace, name, document FROM repos ORDER BY workspace, name"):
            if json.loads(text)["state"] == "ready":
                repos.setdefault(workspace, []).append(name)
        documents = [json.loads(row[0]) for row in rows]
        return [{**document, "repos": repos.get(document["name"], [])} for document in documents]

    def put_workspace(self, document: Document) -> None:
        """Write a workspace's document; its repos are not part of it."""
        document = {key: value for key, value in document.items() if key != "repos"}
        self._write(
            "INSERT OR REPLACE INTO workspaces VALUES (?, ?, ?)", document["name"], document["user"], _dumps(document)
        )

    def remove_workspace(self, name: str) -> None:
        """Forget a workspace and its repos."""
        with self._lock, self._db:
            self._db.execute("BEGIN")
            self._db.execute("DELETE FROM repos WHERE workspace = ?", (name,))
            self._db.execute("DELETE FROM workspaces WHERE name = ?", (name,))

    def get_repo(self, workspace: str, name: str) -> Optional[Document]:
        """Return the document of a repo: state is pending while it is being made, ready afterwards."""
        row = self._one("SELECT document FROM repos WHERE workspace = ? AND name = ?", workspace, name)
        return None if row is None else json.loads(row[0])

    def list_repos(self, workspace: str) -> List[Document]:
        """Return the ready repos of a workspace, by name."""
        rows = self._all("SELECT document FROM repos WHERE workspace = ? ORDER BY name", workspace)
        return [document for document in (json.loads(row[0]) for row in rows) if document["state"] == "ready"]

    def claim_repo(self, workspace: str, document: Document) -> Optional[Document]:
        """Write a new repo's document; or return the one that has its name already, and write nothing."""
        with self._lock:
            sql = "INSERT OR IGNORE INTO repos VALUES (?, ?, ?)"
            if self._db.execute(sql, (workspace, document["name"], _dumps(document))).rowcount:
                return None
        return self.get_repo(workspace, document["name"]) or self.claim_repo(workspace, document)

    def complete_repo(self, workspace: str, document: Document) -> bool:
        """Write a repo's document over its earlier one; False when that is gone or another one (another token)."""
        with self._lock:
            sql = "UPDATE repos SET document = ? WHERE workspace = ? AND name = ? AND instr(document, ?) > 0"
            values = (_dumps(document), workspace, document["name"], _dumps(document["token"]))
            return bool(self._db.execute(sql, values).rowcount)

    def remove_repo(self, workspace: str, name: str) -> None:
        """Forget a repo."""
        self._write("DELETE FROM repos WHERE workspace = ? AND name = ?", workspace, name)

    def counts(self) -> Dict[str, int]:
        """Return how many users, workspaces and sandboxes there are."""
        users = self._one("SELECT count(*) FROM users") or (0,)
        workspaces = self._one("SELECT count(*) FROM workspaces") or (0,)
        sandboxes = self._one("SELECT count(*) FROM workspaces WHERE json_extract(document, '$.sandbox') IS NOT NULL")
        return {"users": users[0], "workspaces": workspaces[0], "sandboxes": (sandboxes or (0,))[0]}

    # intents and results

    def begin(self, method: str, params: Document) -> int:
        """Journal a change before its first side effect; return the intent's id."""
        return self._write("INSERT INTO intents (method, params) VALUES (?, ?)", method, _dumps(params))

    def end(self, intent: Optional[int], request_id: Optional[str], digest: str, reply: Document) -> None:
        """Forget the intent and keep the reply for a repeated request id, in one transaction."""
        text = _dumps(reply)
        if len(text) > RESULT_BYTES_MAX:
            # Too long to keep; but a repeated call must not run again.
            text = _dumps({"error": LimitReached("was done before; its result was too long to keep").to_dict()})
        with self._lock, self._db:
            self._db.execute("BEGIN")
            if intent is not None:
                self._db.execute("DELETE FROM intents WHERE id = ?", (intent,))
            if request_id is not None:
                self._db.execute(
                    "INSERT OR REPLACE INTO results (request_id, digest, reply) VALUES (?, ?, ?)",
                    (request_id, digest, text),
                )
                self._db.execute("DELETE FROM results WHERE id <= (SELECT max(id) FROM results) - ?", (RESULTS_MAX,))

    def intents(self) -> List[Intent]:
        """Return the changes that were begun and not ended, oldest first."""
        rows = self._all("SELECT id, method, params FROM intents ORDER BY id")
        return [Intent(row[0], row[1], json.loads(row[2])) for row in rows]

    def result_of(self, request_id: str) -> Optional[Tuple[str, Document]]:
        """Return (digest of the call, its reply) of an earlier call with this request id."""
        row = self._one("SELECT digest, reply FROM results WHERE request_id = ?", request_id)
        return None if row is None else (row[0], json.loads(row[1]))

    def _repo_names(self, workspace: str) -> List[str]:
        return [document["name"] for document in self.list_repos(workspace)]

    def _with_workspaces(self, document: Document) -> Document:
        rows = self._all("SELECT name FROM workspaces WHERE user = ? ORDER BY name", document["name"])
        return {**document, "workspaces": [row[0] for row in rows]}

    def _one(self, sql: str, *values: Any) -> Optional[Tuple[Any, ...]]:
        with self._lock:
            row: Optional[Tuple[Any, ...]] = self._db.execute(sql, values).fetchone()
            return row

    def _all(self, sql: str, *values: Any) -> List[Tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def _write(self, sql: str, *values: Any) -> int:
        with self._lock:
            return int(self._db.execute(sql, values).lastrowid or 0)


def _open(path: str) -> sqlite3.Connection:
    is_new = not os.path.exists(path)
    database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    version = database.execute("PRAGMA user_version").fetchone()[0]
    tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if version == 0 and tables == 0:
        if not is_new and os.path.getsize(path) > 0:
            raise ReadOnly(f"{path} has no tables of ours")
        database.executescript(f"BEGIN; {TABLES} COMMIT;")
    elif version != VERSION:
        raise ReadOnly(f"{path} has version {version}, this agent knows {VERSION}")
    found = database.execute("PRAGMA quick_check").fetchone()[0]
    if found != "ok":
        raise ReadOnly(f"{path}: {found}")
    # Only now: a file that is not ours stays as it is, to the byte.
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.executescript(LATER_TABLES)
    return database


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
