"""What the front end remembers: users, workspaces, results by request id, and intents not yet done.

Ownership is not decided here: that is the helper's ledger. A damaged or newer file makes the store read-only.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from contextlib import contextmanager, suppress
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from agent.shared.database import Database, Layout, Row, Statement
from agent.shared.disk_reserve import DiskReserve
from agent.shared.errors import STORE_HINT, LimitReached, ReadOnly

RESULTS_MAX = 1000
RESULT_BYTES_MAX = 1 << 20
# What no record begins with.
ANNOUNCED = "?"
LAYOUT = Layout(
    1,
    """
CREATE TABLE users (name TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE workspaces (name TEXT PRIMARY KEY, user TEXT NOT NULL, document TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX workspaces_by_user ON workspaces (user);
CREATE TABLE results (
    id INTEGER PRIMARY KEY, request_id TEXT UNIQUE NOT NULL, digest TEXT NOT NULL, reply TEXT NOT NULL);
CREATE TABLE intents (id INTEGER PRIMARY KEY, method TEXT NOT NULL, params TEXT NOT NULL);
""",
    # Not part of version 1 as it was first shipped.
    """
CREATE TABLE IF NOT EXISTS repos (
    workspace TEXT NOT NULL, name TEXT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (workspace, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (id INTEGER PRIMARY KEY, line TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS callers (
    intent INTEGER PRIMARY KEY REFERENCES intents (id) ON DELETE CASCADE, uid INTEGER NOT NULL);
""",
)

Document = Dict[str, Any]


class Intent(NamedTuple):
    """A change that was begun and not ended."""

    id: int
    method: str
    params: Document
    peer_uid: Optional[int] = None


class Ending(NamedTuple):
    """What a change leaves when it ends: its intents are forgotten, its reply is kept by its request id.

    `line` is its audit record, kept until the audit file has it; it takes the place of the one that was `announced`.
    """

    intents: Sequence[int]
    request_id: Optional[str]
    digest: str
    reply: Document
    line: str
    announced: Optional[int] = None


class Writes(threading.local):
    """What this thread holds back until its change ends; None while there is no change."""

    held: Optional[List[Statement]] = None


class Store:
    """One connection behind one lock; `damage` says why nothing may be changed (empty: all is well)."""

    def __init__(self, path: str) -> None:
        self._lock, self._mine = threading.Lock(), Writes()
        self._written: List[int] = []
        self.path, self.damage, self._ballast = path, "", DiskReserve(os.path.dirname(path))
        # Nothing is wrong with it: there is no room to open it.
        self.is_shut_out = False
        try:
            self._database: Optional[Database] = Database(path, LAYOUT)
            self._database.check()
            with suppress(LimitReached):  # node.health says so
                self._database.reserve.ensure()
        except (sqlite3.Error, ReadOnly) as error:
            self.damage, self._database = str(error), None
            self.is_shut_out = isinstance(error, sqlite3.OperationalError) and not self.has_room()
            if self.is_shut_out:
                self.damage = f"the disk of {self._ballast.folder} is full: {error}"

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()

    def has_room(self) -> bool:
        """Tell whether its disk has room for something new."""
        return self._ballast.has_room()

    @property
    def database(self) -> Database:
        """The file; ReadOnly when it is damaged: what is in it is not known, so nothing is said about it either."""
        if self.is_shut_out:
            raise ReadOnly(f"the agent's store cannot be opened: {self.damage}", hint=f"df {self._ballast.folder}")
        if self.damage or self._database is None:
            raise ReadOnly(
                f"the agent's store is damaged, nothing is changed: {self.damage}",
                hint=STORE_HINT,
            )
        return self._database

    def ensure_room(self) -> None:
        """Raise LimitReached when the disk has no room for what a change leaves."""
        with self._lock:
            self.database.reserve.ensure()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Hold back what this thread writes about users and workspaces until `end` or `flush` writes it.

        So what a change stores and its result are on disk together, or neither.
        """
        self._mine.held = []
        try:
            yield
        finally:
            self._mine.held = None

    def flush(self) -> None:
        """Write what was held back, if anything is."""
        held = self._mine.held
        if held:
            self._mine.held = []
            with self._lock:
                self.database.write(*held)

    # users and workspaces

    def get_user(self, name: str) -> Optional[Document]:
        """Return the user's document with its `workspaces` filled in."""
        row = self._one("SELECT document FROM users WHERE name = ?", name)
        return None if row is None else self._with_workspaces(json.loads(row[0]))

    def list_users(self) -> Iterator[Document]:
        """Yield all users by name."""
        owned: Dict[str, List[str]] = {}
        for name, user in self._all("SELECT name, user FROM workspaces ORDER BY name"):
            owned.setdefault(user, []).append(name)
        for row in self._all("SELECT document FROM users ORDER BY name"):
            document = json.loads(row[0])
            yield {**document, "workspaces": owned.get(document["name"], [])}

    def put_user(self, document: Document) -> None:
        """Write a user's document."""
        self._write(("INSERT OR REPLACE INTO users VALUES (?, ?)", document["name"], _dumps(document)))

    def remove_user(self, name: str) -> None:
        """Forget a user."""
        self._write(("DELETE FROM users WHERE name = ?", name))

    def get_workspace(self, name: str) -> Optional[Document]:
        """Return the workspace's document."""
        row = self._one("SELECT document FROM workspaces WHERE name = ?", name)
        return None if row is None else {**json.loads(row[0]), "repos": self._repo_names(name)}

    def list_workspaces(self, user: Optional[str] = None) -> Iterator[Document]:
        """Yield all workspaces, or those of one user, by name: thousands of them are never in memory at once."""
        if user is None:
            rows = self._all("SELECT document FROM workspaces ORDER BY name")
        else:
            rows = self._all("SELECT document FROM workspaces WHERE user = ? ORDER BY name", user)
        repos: Dict[str, List[str]] = {}
        for workspace, name, text in self._all("SELECT workspace, name, document FROM repos ORDER BY workspace, name"):
            if json.loads(text)["state"] == "ready":
                repos.setdefault(workspace, []).append(name)
        for row in rows:
            document = json.loads(row[0])
            document["repos"] = repos.get(document["name"], [])
            yield document

    def put_workspace(self, document: Document) -> None:
        """Write a workspace's document; its repos are not part of it."""
        document = {key: value for key, value in document.items() if key != "repos"}
        sql = "INSERT OR REPLACE INTO workspaces VALUES (?, ?, ?)"
        self._write((sql, document["name"], document["user"], _dumps(document)))

    def change_workspace(self, name: str, fields: Document) -> None:
        """Write some fields of a workspace's document; the others stay, also those that another change writes now."""
        places = ", ".join(f"'$.{field}', json(?)" for field in fields)
        change = f"user = coalesce(?, user), document = json_set(document, {places})"
        sql = f"UPDATE workspaces SET {change} WHERE name = ?"  # noqa: S608 (fields are named by our own code)
        self._write((sql, fields.get("user"), *map(_dumps, fields.values()), name))

    def remove_workspace(self, name: str) -> None:
        """Forget a workspace and its repos."""
        self._write(
            ("DELETE FROM repos WHERE workspace = ?", name),
            ("DELETE FROM workspaces WHERE name = ?", name),
        )

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
            if self.database.write((sql, workspace, document["name"], _dumps(document))).rowcount:
                return None
        return self.get_repo(workspace, document["name"]) or self.claim_repo(workspace, document)

    def complete_repo(self, workspace: str, document: Document) -> bool:
        """Write a repo's document over its earlier one; False when that is gone or another one (another token)."""
        with self._lock:
            sql = "UPDATE repos SET document = ? WHERE workspace = ? AND name = ? AND instr(document, ?) > 0"
            values = (_dumps(document), workspace, document["name"], _dumps(document["token"]))
            return bool(self.database.write((sql, *values)).rowcount)

    def remove_repo(self, workspace: str, name: str) -> None:
        """Forget a repo."""
        self._write(("DELETE FROM repos WHERE workspace = ? AND name = ?", workspace, name))

    def counts(self) -> Dict[str, int]:
        """Return how many users, workspaces and sandboxes there are."""
        users = self._one("SELECT count(*) FROM users") or (0,)
        workspaces = self._one("SELECT count(*) FROM workspaces") or (0,)
        sandboxes = self._one("SELECT count(*) FROM workspaces WHERE json_extract(document, '$.sandbox') IS NOT NULL")
        return {"users": users[0], "workspaces": workspaces[0], "sandboxes": (sandboxes or (0,))[0]}

    # intents, results and audit records

    def begin(self, method: str, params: Document, peer_uid: Optional[int] = None) -> Intent:
        """Journal a change before its first side effect."""
        statements = [("INSERT INTO intents (method, params) VALUES (?, ?)", method, _dumps(params))]
        if peer_uid is not None:
            statements.append(("INSERT INTO callers VALUES (last_insert_rowid(), ?)", peer_uid))  # type: ignore[arg-type]
        with self._lock:
            cursor = self.database.write(*self._forgotten_records(), *statements)
            self._written = []
            return Intent(int(cursor.lastrowid or 0), method, params, peer_uid)

    def forget_intents(self, intents: Sequence[int]) -> None:
        """Let go of changes that others stand for."""
        self._write(*(("DELETE FROM intents WHERE id = ?", intent) for intent in intents))

    def end(self, ending: Ending) -> int:
        """Write how a change ended, with all that it held back, in one transaction; return its audit record's id."""
        text = _dumps(ending.reply)
        if len(text) > RESULT_BYTES_MAX:
            # Too long to keep; but a repeated call must not run again.
            text = _dumps({"error": LimitReached("was done before; its result was too long to keep").to_dict()})
        statements = list(self._mine.held or [])
        statements += [("DELETE FROM intents WHERE id = ?", intent) for intent in ending.intents]
        if ending.request_id is not None:
            statements += _kept(ending.request_id, ending.digest, text)
        statements.append(("DELETE FROM records WHERE id = ?", ending.announced))
        statements.append(("INSERT INTO records (line) VALUES (?)", ending.line))
        with self._lock:
            # A result alone is not worth the ballast.
            statements[:0] = self._forgotten_records()
            cursor = self.database.write(*statements, uses_ballast=bool(ending.intents))
            self._written, self._mine.held = [], None
            return int(cursor.lastrowid or 0)

    def announce(self, ending: Ending) -> int:
        """Write how a change that is not taken up again ended if it is cut off; return its audit record's id."""
        insert = ("INSERT INTO records (line) VALUES (?)", ANNOUNCED + ending.line)
        kept = [] if ending.request_id is None else _kept(ending.request_id, ending.digest, _dumps(ending.reply))
        with self._lock:
            cursor = self.database.write(*self._forgotten_records(), *kept, insert, uses_ballast=False)
            self._written = []
            return int(cursor.lastrowid or 0)

    def change_record(self, record: int, line: str) -> None:
        """Write the audit record in the place of one that was announced."""
        with self._lock:
            self.database.write(("UPDATE records SET line = ? WHERE id = ?", line, record))

    def forget_result(self, request_id: str) -> None:
        """Let a call with this request id be carried out."""
        self._write(("DELETE FROM results WHERE request_id = ?", request_id))

    def forget_record(self, record: int) -> None:
        """An audit record is in the audit file: drop it here, together with the next write."""
        with self._lock:
            self._written.append(record)

    def records(self) -> List[Tuple[int, str]]:
        """Return the audit records that may not be in the audit file, the announced ones with ANNOUNCED before them."""
        return [(row[0], row[1]) for row in self._all("SELECT id, line FROM records ORDER BY id")]

    def intents(self) -> List[Intent]:
        """Return the changes that were begun and not ended, oldest first; none when the store is damaged."""
        if self.damage:
            return []
        sql = "SELECT id, method, params, uid FROM intents LEFT JOIN callers ON intent = id ORDER BY id"
        return [Intent(row[0], row[1], json.loads(row[2]), row[3]) for row in self._all(sql)]

    def result_of(self, request_id: str) -> Optional[Tuple[str, Document]]:
        """Return (digest of the call, its reply) of an earlier call with this request id."""
        row = self._one("SELECT digest, reply FROM results WHERE request_id = ?", request_id)
        return None if row is None else (row[0], json.loads(row[1]))

    def _repo_names(self, workspace: str) -> List[str]:
        return [document["name"] for document in self.list_repos(workspace)]

    def _with_workspaces(self, document: Document) -> Document:
        rows = self._all("SELECT name FROM workspaces WHERE user = ? ORDER BY name", document["name"])
        return {**document, "workspaces": [row[0] for row in rows]}

    def _forgotten_records(self) -> List[Statement]:
        return [("DELETE FROM records WHERE id = ?", record) for record in self._written]

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


def _kept(request_id: str, digest: str, text: str) -> List[Statement]:
    """Return the statements that keep a reply, and the last ones beside it."""
    return [
        ("INSERT OR REPLACE INTO results (request_id, digest, reply) VALUES (?, ?, ?)", request_id, digest, text),
        ("DELETE FROM results WHERE id <= (SELECT max(id) FROM results) - ?", RESULTS_MAX),
    ]


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
