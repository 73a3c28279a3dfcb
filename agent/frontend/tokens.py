"""Tokens: secrets that open one workspace to whoever shows them on scoped.sock.

The client makes the secret; the node has its SHA-256 alone. A token is of one workspace and its owner: it is worth
nothing once the workspace is deleted, made anew or assigned to another user.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Dict, List, Optional, Set

from agent.contract.records.token import Token as TokenRecord
from agent.frontend import audit
from agent.frontend.callers import Token
from agent.frontend.store import Store
from agent.frontend.stream import owner_of
from agent.frontend.token_streams import TokenStreams
from agent.shared.clock import now, to_text
from agent.shared.errors import AgentError, AlreadyExists, InvalidParams, LimitReached, NotFound

ID_DIGITS = 12
OF_WORKSPACE_MAX, ALL_MAX = 64, 4096
PRESETS: Dict[str, Any] = {"read": ("read",), "work": ("read", "work")}


class TokenBook:
    """The tokens of the node; safe to use from many threads."""

    def __init__(self, store: Store, contract: Dict[str, Any]) -> None:
        self._store, self._lock, self.streams = store, threading.Lock(), TokenStreams()
        self._scope_of = {entry["name"]: entry["x-scope"] for entry in contract.get("methods", ())}
        # Revoked while the change that deletes them has not ended; and the minute of each one's last use.
        self._revoked: Set[str] = set()
        self._used: Dict[str, int] = {}

    def methods_of(self, preset: Optional[str], named: Optional[List[str]]) -> List[str]:
        """Return the methods of a preset, or those that are named; InvalidParams for one that no token may have."""
        if preset is not None and named is not None:
            raise InvalidParams.of("methods", "are in place of a preset: give one of both")
        if named is None:
            return sorted(name for name, scope in self._scope_of.items() if scope in PRESETS[preset or "work"])
        for name in named:
            scope = self._scope_of.get(name)
            if scope is None:
                raise InvalidParams.of("methods", f"{name[:64]!r} is no method; rpc.discover lists them")
            if scope not in PRESETS["work"]:
                raise InvalidParams.of("methods", f"{name} is the operators' alone: no token may have it")
        return sorted(set(named))

    def create(
        self, document: Dict[str, Any], sha256: str, preset: Optional[str], methods: List[str],
        expires_at: Optional[str], label: str, by: str,
    ) -> TokenRecord:  # fmt: skip
        """Store a token of a workspace. Called again for a change that was interrupted, it stores the same one."""
        of_workspace, of_all = self._store.count_tokens(document["name"])
        if of_workspace >= OF_WORKSPACE_MAX or of_all >= ALL_MAX:
            problem = f"workspace {document['name']!r} has {of_workspace} tokens, the node {of_all}"
            raise LimitReached(problem, hint="inv token.list; inv token.revoke ID")
        # Not the digest itself, which nobody needs to see.
        token = hashlib.sha256(f"id:{sha256}".encode()).hexdigest()[:ID_DIGITS]
        if self._store.get_token(token) is not None:
            raise AlreadyExists("this secret has a token already", hint="make another secret")
        record: TokenRecord = {
            "id": token, "label": label, "workspace": document["name"],
            "preset": "read" if preset == "read" else "work" if preset == "work" else None, "methods": methods,
            "created_at": now(), "expires_at": expires_at, "last_used_at": None, "by": by,
        }  # fmt: skip
        with self._lock:
            self._revoked.discard(token)
        self._store.put_token(sha256, {**record, "owner": list(owner_of(document))})
        return record

    def list(self, workspace: Optional[str]) -> List[TokenRecord]:
        """Return the tokens of a workspace, or all, oldest first."""
        return [_shown(document) for document in self._store.list_tokens(workspace)]

    def revoke(self, token: str) -> None:
        """Forget a token and end its streams; NotFound when there is none."""
        if self._store.get_token(token) is None:
            raise NotFound(f"no token {token!r} on this node", hint="inv token.list")
        self._end([token])
        self._store.remove_token(token)

    def revoke_all(self, workspace: str) -> None:
        """Forget the tokens of a workspace and end their streams."""
        self._end([document["id"] for document in self._store.list_tokens(workspace)])
        self._store.remove_tokens(workspace)

    def find(self, secret: str) -> Optional[Token]:
        """Return the valid token of a secret; None when it is unknown, revoked, expired or of another owner."""
        document = self._store.token_of(hashlib.sha256(secret.encode("ascii")).hexdigest())
        if document is None or not self._is_valid(document):
            return None
        self._note_use(document)
        return Token(document["id"], document["label"], document["workspace"], frozenset(document["methods"]))

    def is_valid(self, token: Token) -> bool:
        """Return whether a token is still what it was when it was found."""
        try:
            document = self._store.get_token(token.id)
        except (AgentError, sqlite3.Error):
            return False
        return document is not None and self._is_valid(document)

    def _is_valid(self, document: Dict[str, Any]) -> bool:
        with self._lock:
            if document["id"] in self._revoked:
                return False
        if document["expires_at"] is not None and audit.parse_time(document["expires_at"]).timestamp() <= time.time():
            return False
        workspace = self._store.get_workspace(document["workspace"])
        return workspace is not None and list(owner_of(workspace)) == document["owner"]

    def _note_use(self, document: Dict[str, Any]) -> None:
        """Write the minute of a use, once: a write to the disk for each call would take longer than the call."""
        minute = int(time.time() // 60)
        with self._lock:
            if self._used.get(document["id"]) == minute:
                return
            self._used[document["id"]] = minute
        with suppress(AgentError, sqlite3.Error):  # a full disk
            at = to_text(datetime.fromtimestamp(minute * 60, timezone.utc), "seconds")
            self._store.touch_token(document["id"], at)

    def _end(self, tokens: List[str]) -> None:
        with self._lock:
            self._revoked.update(tokens)
        self.streams.end(tokens)


def expiry(text: Optional[str]) -> Optional[str]:
    """Return the time of an expiry in UTC; InvalidParams unless it is a time to come."""
    if text is None:
        return None
    try:
        at = audit.parse_time(text)
    except ValueError:
        raise InvalidParams.of("expires_at", "must be a time of RFC 3339 with its zone") from None
    if at.timestamp() <= time.time():
        raise InvalidParams.of("expires_at", "is past")
    return to_text(at.astimezone(timezone.utc), "milliseconds")


def _shown(document: Dict[str, Any]) -> TokenRecord:
    return {key: value for key, value in document.items() if key != "owner"}  # type: ignore[return-value]
