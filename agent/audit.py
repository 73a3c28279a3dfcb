"""The audit record: one line of JSON per attempt to change something, refused ones too.

Appended to a file that only root and the agent can write, and to the journal. JSON escaping keeps a line a line.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
import threading
from typing import Any, Dict, Iterator, Optional

from agent.clock import now

# What a call may be about. Everything else (keys, environment, standard input, argv) stays out of the record.
TARGETS = ("name", "user", "workspace")
PATH = "/var/log/codesmith/audit.jsonl"
# A refused call may hold anything: of a word no more than this is kept, so a line is short and always whole.
TEXT_MAX = 128
FIELDS = {"time", "method", "request_id", "peer_uid", "peer_login", "target", "outcome", "duration_s"}
LINE_BYTES_MAX = 16384
CHUNK_BYTES = 65536


class Audit:
    """An append-only file; a record is on disk before its call is answered."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def write(
        self, method: str, params: Dict[str, Any], *, peer_uid: Optional[int], outcome: str, duration_s: float
    ) -> None:
        """Append one record; `outcome` is "ok" or the kind of the error."""
        request_id = params.get("request_id")
        record = {
            "time": now(),
            "method": method,
            "request_id": request_id[:TEXT_MAX] if isinstance(request_id, str) else None,
            "peer_uid": peer_uid,
            "peer_login": login_of_uid(peer_uid),
            "target": {field: params[field][:TEXT_MAX] for field in TARGETS if isinstance(params.get(field), str)},
            "outcome": outcome,
            "duration_s": round(duration_s, 4),
        }
        line = json.dumps(record, separators=(",", ":"))
        try:
            with self._lock:
                os.write(self._fd, line.encode() + b"\n")
                os.fsync(self._fd)
        except OSError as error:  # a full disk: what makes room must stay possible, and the journal has the record
            print(f"the audit file cannot be written: {error}", file=sys.stderr, flush=True)
        print("audit " + line, file=sys.stderr, flush=True)


def login_of_uid(uid: Optional[int]) -> Optional[str]:
    """Return the account name of a uid; None when it has none."""
    if uid is None:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def read_backwards(path: str = PATH) -> Iterator[Dict[str, Any]]:
    """Give the records, newest first, with one chunk of the file in memory at a time.

    What is no record of ours (a line that a power cut tore) is left out.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        for line in _lines_backwards(descriptor):
            record = _parse(line)
            if record is not None:
                yield record
    finally:
        os.close(descriptor)


def _lines_backwards(descriptor: int) -> Iterator[bytes]:
    """Give the lines of a file, last first; a line that is longer than any of ours comes cut."""
    place, rest = os.fstat(descriptor).st_size, b""
    while place > 0:
        size = min(CHUNK_BYTES, place)
        place -= size
        first, *others = (os.pread(descriptor, size, place) + rest).split(b"\n")
        yield from reversed(others)
        rest = first[-LINE_BYTES_MAX:]
    yield rest


def _parse(line: bytes) -> Optional[Dict[str, Any]]:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and set(record) == FIELDS else None
