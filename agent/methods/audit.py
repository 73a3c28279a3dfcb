"""audit.*: who tried to change what, and the outcome."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Dict, Iterator, List, Optional

from agent.contract.fields import Keywords, Name
from agent.contract.method import method
from agent.contract.records.audit import AuditRecord
from agent.frontend import audit
from agent.frontend.context import Context
from agent.shared.errors import InvalidParams

LIMIT, LIMIT_MAX = 100, 1000


@method("audit.list", scope="operator")
def list_(
    context: Context,
    *,
    limit: Annotated[
        Optional[int],
        Keywords({"minimum": 1, "maximum": LIMIT_MAX, "description": f"Return at most so many (default {LIMIT})."}),
    ] = None,
    before: Annotated[
        Optional[str],
        Keywords(
            {
                "maxLength": 64,
                "description": "Only records before this: the `cursor` of a record, for the next page, or a time "
                "(RFC 3339 with its zone).",
                "errorMessage": "must be the cursor of a record, or a time with its zone, like 2026-11-23T12:00:00Z",
            }
        ),
    ] = None,
    workspace: Annotated[Optional[Name], Keywords({"description": "Only attempts that name this workspace."})] = None,
    user: Annotated[
        Optional[Name],
        Keywords({"description": "Only what names this user, or was done in a workspace that was theirs then."}),
    ] = None,
) -> List[AuditRecord]:
    """Return the attempts to change something, refused ones too, newest first.

    For the next page, pass the `cursor` of the last record as `before`: no record is missed or repeated, even if the
    clock was set.
    """
    cursor = before if before is not None and re.fullmatch(audit.CURSOR, before) else ""
    end = None if before is None or cursor else _parse_before(before)
    records: List[AuditRecord] = []
    for record in _read(context.audit_file, cursor):
        if (
            (end is None or audit.parse_time(record["time"]) < end)
            and (workspace is None or _is_about(record, "workspace", workspace))
            and (user is None or user == record["owner"] or _is_about(record, "user", user))
        ):
            records.append(record)  # type: ignore[arg-type]
            if len(records) == (limit or LIMIT):
                break
    return records


def _read(path: str, cursor: str) -> Iterator[Dict[str, Any]]:
    try:
        yield from audit.read_backwards(path, cursor)
    except LookupError:
        problem = "is the cursor of a record that is no longer there: its file was moved away"
        raise InvalidParams.of("before", problem) from None


def _is_about(record: Dict[str, Any], kind: str, name: str) -> bool:
    """Return whether a record names this user or workspace: in the field `kind`, or as `name` of a `kind.*` method."""
    target: Dict[str, str] = record["target"]
    return target.get(kind) == name or (record["method"].startswith(f"{kind}.") and target.get("name") == name)


def _parse_before(text: str) -> datetime:
    try:
        return audit.parse_time(text)
    except ValueError:
        problem = "must be the cursor of a record, or a time of RFC 3339 with its zone, as 2026-11-23T00:00:00Z"
        raise InvalidParams.of("before", problem) from None
