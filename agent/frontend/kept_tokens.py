"""Tokens in the store: the SHA-256 of each secret, and what it reaches."""

from __future__ import annotations

import json
from typing import List, Optional, Tuple

from agent.frontend.journal import Document, Journal
from agent.frontend.store_file import dumps


class KeptTokens(Journal):
    """The store with its tokens."""

    def put_token(self, sha256: str, document: Document) -> None:
        """Write a token; its secret has this SHA-256."""
        sql = "INSERT INTO tokens VALUES (?, ?, ?, ?)"
        self._write((sql, document["id"], document["workspace"], sha256, dumps(document)))

    def get_token(self, token: str) -> Optional[Document]:
        """Return a token by its id; None when there is none."""
        row = self._one("SELECT document FROM tokens WHERE id = ?", token)
        return None if row is None else json.loads(row[0])

    def token_of(self, sha256: str) -> Optional[Document]:
        """Return the token whose secret has this SHA-256; None when there is none."""
        row = self._one("SELECT document FROM tokens WHERE sha256 = ?", sha256)
        return None if row is None else json.loads(row[0])

    def list_tokens(self, workspace: Optional[str] = None) -> List[Document]:
        """Return the tokens of a workspace, or all, oldest first."""
        if workspace is None:
            rows = self._all("SELECT document FROM tokens")
        else:
            rows = self._all("SELECT document FROM tokens WHERE workspace = ?", workspace)
        return sorted((json.loads(row[0]) for row in rows), key=lambda one: (one["created_at"], one["id"]))

    def count_tokens(self, workspace: str) -> Tuple[int, int]:
        """Return how many tokens a workspace has, and all together."""
        row = self._one("SELECT count(*) FILTER (WHERE workspace = ?), count(*) FROM tokens", workspace) or (0, 0)
        return int(row[0]), int(row[1])

    def touch_token(self, token: str, used_at: str) -> None:
        """Write when a token was used; it is no part of a change."""
        sql = "UPDATE tokens SET document = json_set(document, '$.last_used_at', ?) WHERE id = ?"
        with self._lock:
            self.database.write((sql, used_at, token), may_use_reserve=False)

    def remove_token(self, token: str) -> None:
        """Forget a token."""
        self._write(("DELETE FROM tokens WHERE id = ?", token))

    def remove_tokens(self, workspace: str) -> None:
        """Forget the tokens of a workspace."""
        self._write(("DELETE FROM tokens WHERE workspace = ?", workspace))
