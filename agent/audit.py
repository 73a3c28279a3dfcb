"""The audit record: one line of JSON per attempt to change something, refused ones too.

Appended to a file that only root and the agent can write, and to the journal. JSON escaping keeps a line a line.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
import threading
from typing import Any, Dict, Optional

from agent.clock import now

# What a call may be about. Everything else (keys, environment, standard input, argv) stays out of the record.
TARGETS = ("name", "user", "workspace")


class Audit:
    """An append-only file; a record is on disk before its call is answered."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def write(
        self, method: str, params: Dict[str, Any], *, peer_uid: Optional[int], outcome: str, duration_s: float
    ) -> None:
        """Append one record; `outcome` is "ok" or the kind of the error."""
        record = {
            "time": now(),
            "method": method,
            "request_id": params.get("request_id"),
            "peer_uid": peer_uid,
            "peer_login": login_of_uid(peer_uid),
            "target": {field: params[field] for field in TARGETS if isinstance(params.get(field), str)},
            "outcome": outcome,
            "duration_s": round(duration_s, 4),
        }
        line = json.dumps(record, separators=(",", ":"))[:8192]
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
