"""audit.*: who tried to change what, and what came of it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Dict, Iterator, List, Optional

from agent.contract.fields import Keywords, Name
from agent.contract.method import method
from agent.contract.types import AuditRecord
from agent.frontend import audit
from agent.frontend.context import Context
from agent.shared.errors import InvalidParams

LIMIT, LIMIT_MAX = 100, 1000


@method("audit.list")
def list_(
    context: Context,
    *,
    limit: Annotated[
        Optional[int],
        Keywords({"minimum": 1, "maximum": LIMIT_MAX, "description": f"At most so many (default {LIMIT})."}),
    ] = None,
    before: Annotated[
        Optional[str],
        Keywords(
            {
                "maxLength": 64,
                "description": "Only those before this: the `cursor` of a record, for the next page; or those with an "
                "earlier time (RFC 3339 with its zone).",
                "errorMessage": "must be the cursor of a record, or a time with its zone, like 2026-11-23T12:00:00Z",
            }
        ),
    ] = None,
    workspace: Annotated[Optional[Name], Keywords({"description": "Only attempts that name this workspace."})] = None,
    user: Annotated[Optional[Name], Keywords({"description": "Only attempts that name this user."})] = None,
) -> List[AuditRecord]:
    """Return the attempts to change something, refused ones too, newest first.

    Page by page: `before` is the `cursor` of the last record; no record is missed or repeated, whatever the clock does.
    """
    cursor = before if before is not None and re.fullmatch(audit.CURSOR, before) else ""
    end = None if before is None or cursor else _parse_before(before)
    found: List[AuditRecord] = []
    for record in _read(context.audit_file, cursor):
        if (
            (end is None or audit.parse_time(record["time"]) < end)
            and (workspace is None or _names(record, "workspace", workspace))
            and (user is None or _names(record, "user", user))
        ):
            found.append(record)  # type: ignore[arg-type]
            if len(found) == (limit or LIMIT):
                break
    return found


def _read(path: str, cursor: str) -> Iterator[Dict[str, Any]]:
    try:
        yield from audit.read_backwards(path, cursor)
    except LookupError:
        problem = "is the cursor of a record that is not there any more: its file was moved away"
        raise InvalidParams.of("before", problem) from None


def _names(record: Dict[str, Any], kind: str, name: str) -> bool:
    """Tell whether a record is about this user or workspace: by that field, or as the name of a method of that kind."""
    target: Dict[str, str] = record["target"]
    return target.get(kind) == name or (record["method"].startswith(f"{kind}.") and target.get("name") == name)


def _parse_before(text: str) -> datetime:
    try:
        return audit.parse_time(text)
    except ValueError:
        problem = "must be the cursor of a record, or a time of RFC 3339 with its zone, as 2026-11-23T00:00:00Z"
        raise InvalidParams.of("before", problem) from None
