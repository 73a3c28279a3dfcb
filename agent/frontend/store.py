"""What the front end remembers: users, workspaces and repositories, beside jobs and the journal of changes.

Ownership is not decided here: the helper's ledger decides it.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from typing import Dict, Iterator, List, Optional

from agent.frontend.journal import Document
from agent.frontend.kept_jobs import KeptJobs
from agent.frontend.store_file import dumps
from agent.shared.errors import ReadOnly


class Store(KeptJobs):
    """The whole store: one connection behind one lock, safe to use from many threads."""

    def get_user(self, name: str) -> Optional[Document]:
        """Return a user's document with its `workspaces`; None when there is none."""
        row = self._one("SELECT document FROM users WHERE name = ?", name)
        return None if row is None else self._with_workspaces(json.loads(row[0]))

    def user_of_uid(self, uid: int) -> Optional[Document]:
        """Return the document of the user whose login has this uid; None when there is none."""
        row = self._one("SELECT document FROM users WHERE json_extract(document, '$.uid') = ?", uid)
        return None if row is None else json.loads(row[0])

    def workspaces_open_to(self, user: str) -> List[str]:
        """Return the names of the workspaces that a user may enter: its own, and those shared with it."""
        own, shared = "SELECT name FROM workspaces WHERE user = ?", "SELECT workspace FROM shares WHERE user = ?"
        return sorted({row[0] for sql in (own, shared) for row in self._all(sql, user)})

    def list_users(self) -> Iterator[Document]:
        """Yield the documents of all users, by name."""
        owned: Dict[str, List[str]] = {}
        for name, user in self._all("SELECT name, user FROM workspaces ORDER BY name"):
            owned.setdefault(user, []).append(name)
        for row in self._all("SELECT document FROM users ORDER BY name"):
            document = json.loads(row[0])
            yield {**document, "workspaces": owned.get(document["name"], [])}

    def put_user(self, document: Document) -> None:
        """Write a user's document."""
        self._write(("INSERT OR REPLACE INTO users VALUES (?, ?)", document["name"], dumps(document)))

    def remove_user(self, name: str) -> None:
        """Forget a user."""
        self._write(("DELETE FROM shares WHERE user = ?", name), ("DELETE FROM users WHERE name = ?", name))

    def get_workspace(self, name: str) -> Optional[Document]:
        """Return a workspace's document with its `repos` and `shared_with`; None when there is none."""
        row = self._one("SELECT document FROM workspaces WHERE name = ?", name)
        if row is None:
            return None
        shared_with = [row[0] for row in self._all("SELECT user FROM shares WHERE workspace = ? ORDER BY user", name)]
        return {**json.loads(row[0]), "repos": self._repo_names(name), "shared_with": shared_with}

    def list_workspaces(self, user: Optional[str] = None) -> Iterator[Document]:
        """Yield the documents of all workspaces, or of one user's, by name; they are never all decoded at once."""
        if user is None:
            rows = self._all("SELECT document FROM workspaces ORDER BY name")
        else:
            rows = self._all("SELECT document FROM workspaces WHERE user = ? ORDER BY name", user)
        repos: Dict[str, List[str]] = {}
        for workspace, name, text in self._all("SELECT workspace, name, document FROM repos ORDER BY workspace, name"):
            if json.loads(text)["state"] == "ready":
                repos.setdefault(workspace, []).append(name)
        shared: Dict[str, List[str]] = {}
        for workspace, name in self._all("SELECT workspace, user FROM shares ORDER BY workspace, user"):
            shared.setdefault(workspace, []).append(name)
        for row in rows:
            document = json.loads(row[0])
            document["repos"] = repos.get(document["name"], [])
            document["shared_with"] = shared.get(document["name"], [])
            yield document

    def put_workspace(self, document: Document) -> None:
        """Write a workspace's document; its repos and with whom it is shared are not part of it."""
        document = {key: value for key, value in document.items() if key not in ("repos", "shared_with")}
        sql = "INSERT OR REPLACE INTO workspaces VALUES (?, ?, ?)"
        self._write((sql, document["name"], document["user"], dumps(document)))

    def change_workspace(self, name: str, fields: Document) -> None:
        """Write some fields of a workspace's document. Other fields stay, also when another change writes them now."""
        places = ", ".join(f"'$.{field}', json(?)" for field in fields)
        change = f"user = coalesce(?, user), document = json_set(document, {places})"
        sql = f"UPDATE workspaces SET {change} WHERE name = ?"  # noqa: S608 (fields are named by our own code)
        self._write((sql, fields.get("user"), *map(dumps, fields.values()), name))

    def owner_of(self, workspace: str) -> Optional[str]:
        """Return the user whose workspace this is; None when there is none, or the store is damaged."""
        with suppress(sqlite3.Error, ReadOnly):
            row = self._one("SELECT user FROM workspaces WHERE name = ?", workspace)
            return None if row is None else str(row[0])
        return None

    def id_of(self, workspace: str) -> Optional[str]:
        """Return the id of a workspace, which no other of its name has; None when there is none."""
        row = self._one("SELECT json_extract(document, '$.id') FROM workspaces WHERE name = ?", workspace)
        return None if row is None else str(row[0])

    def put_shares(self, workspace: str, users: List[str]) -> None:
        """Write with whom a workspace is shared."""
        insert = "INSERT INTO shares VALUES (?, ?)"
        delete = ("DELETE FROM shares WHERE workspace = ?", workspace)
        self._write(delete, *((insert, workspace, user) for user in users))

    def remove_workspace(self, name: str) -> None:
        """Forget a workspace, its repos and with whom it is shared."""
        self._write(
            ("DELETE FROM shares WHERE workspace = ?", name),
            ("DELETE FROM repos WHERE workspace = ?", name),
            ("DELETE FROM jobs WHERE workspace = ?", name),
            ("DELETE FROM asked_jobs WHERE workspace = ?", name),
            ("DELETE FROM tokens WHERE workspace = ?", name),
            ("DELETE FROM workspaces WHERE name = ?", name),
        )

    def get_repo(self, workspace: str, name: str) -> Optional[Document]:
        """Return the document of a repo; its state is pending while it is created, then ready. None when absent."""
        row = self._one("SELECT document FROM repos WHERE workspace = ? AND name = ?", workspace, name)
        return None if row is None else json.loads(row[0])

    def list_repos(self, workspace: str) -> List[Document]:
        """Return the ready repos of a workspace, by name."""
        rows = self._all("SELECT document FROM repos WHERE workspace = ? ORDER BY name", workspace)
        return [document for document in (json.loads(row[0]) for row in rows) if document["state"] == "ready"]

    def claim_repo(self, workspace: str, document: Document) -> Optional[Document]:
        """Store a new repo's document and return None; or return the document that has the name, and store nothing."""
        with self._lock:
            sql = "INSERT OR IGNORE INTO repos VALUES (?, ?, ?)"
            if self.database.write((sql, workspace, document["name"], dumps(document))).rowcount:
                return None
        return self.get_repo(workspace, document["name"]) or self.claim_repo(workspace, document)

    def complete_repo(self, workspace: str, document: Document) -> bool:
        """Replace a repo's document; False when it is gone, or another call made it (it has another token)."""
        with self._lock:
            sql = "UPDATE repos SET document = ? WHERE workspace = ? AND name = ? AND instr(document, ?) > 0"
            values = (dumps(document), workspace, document["name"], dumps(document["token"]))
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

    def _repo_names(self, workspace: str) -> List[str]:
        return [document["name"] for document in self.list_repos(workspace)]

    def _with_workspaces(self, document: Document) -> Document:
        rows = self._all("SELECT name FROM workspaces WHERE user = ? ORDER BY name", document["name"])
        return {**document, "workspaces": [row[0] for row in rows]}
