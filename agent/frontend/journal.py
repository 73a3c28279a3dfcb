"""Changes in the store: pending ones, results by request id, and audit records on their way to the audit file."""

from __future__ import annotations

import json
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from agent.frontend.store_file import StoreFile, dumps
from agent.shared.database import Statement
from agent.shared.errors import LimitReached

RESULTS_MAX = 1000
RESULT_BYTES_MAX = 1 << 20
# Before the record of a command that is still running. No record begins with it.
ANNOUNCED = "?"
Document = Dict[str, Any]


class Intent(NamedTuple):
    """A change that was begun and has not ended."""

    id: int
    method: str
    params: Document
    peer_uid: Optional[int] = None
    # The id and the label of the token that the caller showed.
    token: Optional[Dict[str, str]] = None


class Ending(NamedTuple):
    """What is stored when a change ends: its intents are deleted, its reply is kept by its request id.

    `line` is its audit record, stored until the audit file has it. It replaces the one that was `announced`.
    """

    intents: Sequence[int]
    request_id: Optional[str]
    digest: str
    reply: Document
    line: str
    announced: Optional[int] = None


class Journal(StoreFile):
    """The store file with its pending changes, results and audit records."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._written: List[int] = []

    def begin(
        self, method: str, params: Document, peer_uid: Optional[int] = None, token: Optional[Dict[str, str]] = None
    ) -> Intent:
        """Journal a change before its first side effect."""
        statements = [("INSERT INTO intents (method, params) VALUES (?, ?)", method, dumps(params))]
        if peer_uid is not None:
            statements.append(("INSERT INTO callers VALUES (last_insert_rowid(), ?)", peer_uid))  # type: ignore[arg-type]
        if token is not None:
            newest = "INSERT INTO token_callers SELECT max(id), ? FROM intents"
            statements.append((newest, dumps(token)))  # type: ignore[arg-type]
        with self._lock:
            self.database.write(*self._forgotten_records(), *statements)
            self._written = []
            newest = (self.database.one("SELECT max(id) FROM intents") or (0,))[0]
            return Intent(int(newest), method, params, peer_uid, token)

    def forget_intents(self, intents: Sequence[int]) -> None:
        """Delete pending changes that another one supersedes."""
        self._write(*(("DELETE FROM intents WHERE id = ?", intent) for intent in intents))

    def end(self, ending: Ending) -> int:
        """Write how a change ended and the writes it held back, in one transaction; return its audit record's id."""
        text = dumps(ending.reply)
        if len(text) > RESULT_BYTES_MAX:
            # Too long to keep, but a repeated call must not run again.
            text = dumps({"error": LimitReached("was done before; its result was too long to keep").to_dict()})
        statements = list(self._mine.held or [])
        statements += [("DELETE FROM intents WHERE id = ?", intent) for intent in ending.intents]
        if ending.request_id is not None:
            statements += _kept(ending.request_id, ending.digest, text)
        statements.append(("DELETE FROM records WHERE id = ?", ending.announced))
        statements.append(("INSERT INTO records (line) VALUES (?)", ending.line))
        with self._lock:
            # A result alone is not worth the disk reserve.
            statements[:0] = self._forgotten_records()
            cursor = self.database.write(*statements, may_use_reserve=bool(ending.intents))
            self._written, self._mine.held = [], None
            return int(cursor.lastrowid or 0)

    def announce(self, ending: Ending) -> int:
        """Write beforehand how a change that is not resumed has ended if it is interrupted; return its record's id."""
        insert = ("INSERT INTO records (line) VALUES (?)", ANNOUNCED + ending.line)
        kept = [] if ending.request_id is None else _kept(ending.request_id, ending.digest, dumps(ending.reply))
        with self._lock:
            cursor = self.database.write(*self._forgotten_records(), *kept, insert, may_use_reserve=False)
            self._written = []
            return int(cursor.lastrowid or 0)

    def change_record(self, record: int, line: str) -> None:
        """Replace an audit record that was announced."""
        with self._lock:
            self.database.write(("UPDATE records SET line = ? WHERE id = ?", line, record))

    def forget_result(self, request_id: str) -> None:
        """Delete the result of a request id, so that a call with it is carried out."""
        self._write(("DELETE FROM results WHERE request_id = ?", request_id))

    def forget_record(self, record: int) -> None:
        """Delete an audit record, which the audit file has, with the next write."""
        with self._lock:
            self._written.append(record)

    def records(self) -> List[Tuple[int, str]]:
        """Return id and line of the records that may not be in the audit file; announced ones begin with ANNOUNCED."""
        return [(row[0], row[1]) for row in self._all("SELECT id, line FROM records ORDER BY id")]

    def intents(self) -> List[Intent]:
        """Return the pending changes, oldest first; none when the store is damaged."""
        if self.damage:
            return []
        joined = "LEFT JOIN callers ON callers.intent = id LEFT JOIN token_callers ON token_callers.intent = id"
        rows = self._all(f"SELECT id, method, params, uid, mark FROM intents {joined} ORDER BY id")  # noqa: S608
        return [Intent(row[0], row[1], json.loads(row[2]), row[3], json.loads(row[4] or "null")) for row in rows]

    def result_of(self, request_id: str) -> Optional[Tuple[str, Document]]:
        """Return the digest and the reply of an earlier call with this request id; None when there was none."""
        row = self._one("SELECT digest, reply FROM results WHERE request_id = ?", request_id)
        return None if row is None else (row[0], json.loads(row[1]))

    def _forgotten_records(self) -> List[Statement]:
        return [("DELETE FROM records WHERE id = ?", record) for record in self._written]


def _kept(request_id: str, digest: str, text: str) -> List[Statement]:
    """Return the statements that store a reply and delete all but the last RESULTS_MAX."""
    return [
        ("INSERT OR REPLACE INTO results (request_id, digest, reply) VALUES (?, ?, ?)", request_id, digest, text),
        ("DELETE FROM results WHERE id <= (SELECT max(id) FROM results) - ?", RESULTS_MAX),
    ]
