"""What the proxies of workspaces have refused, as they write it down. They talk to hostile clients: it is checked."""

from __future__ import annotations

import json
import os
import re
import stat
from typing import Any, List, Optional, Tuple

from agent.contract.records.sandbox import DeniedHost
from agent.frontend.runtime_client import TIME, is_count
from agent.shared.egress_paths import DENIED, DENIED_BYTES_MAX, LIVE, POLICIES
from agent.shared.nesting import check_depth

HOSTS_MAX = 100
HOST_MAX = 253
PORT_MAX = 65535


def of(workspace: str, folders: Tuple[str, ...] = (LIVE, POLICIES)) -> List[DeniedHost]:
    """Return the hosts that the proxy of a workspace has refused since its runtime was made, the last one first."""
    # The proxy's own file while it runs; the copy when it has ended.
    for folder in folders:
        text = _read(f"{folder}/{workspace}/{DENIED}")
        if text is not None:
            return _parse(text)
    return []


def _read(path: str) -> Optional[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return file.read(DENIED_BYTES_MAX)


def _parse(text: bytes) -> List[DeniedHost]:
    try:
        check_depth(text)
        found = json.loads(text)
    except ValueError:
        return []
    rows = found[-HOSTS_MAX:] if isinstance(found, list) else []
    return [row for row in map(_row, reversed(rows)) if row is not None]


def _row(row: Any) -> Optional[DeniedHost]:
    row = row if isinstance(row, dict) else {}
    host, port, count, last_at = (row.get(key) for key in ("host", "port", "count", "last_at"))
    if not (isinstance(host, str) and re.fullmatch(f"[!-~]{{1,{HOST_MAX}}}", host)):
        return None
    if not (is_count(port) and port <= PORT_MAX and is_count(count) and count < 1 << 53):
        return None
    if not (isinstance(last_at, str) and re.fullmatch(TIME, last_at)):
        return None
    return {"host": host, "port": port, "count": count, "last_at": last_at}
