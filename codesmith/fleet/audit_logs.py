"""The audit logs of several nodes as one."""

from __future__ import annotations

import heapq
import itertools
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from codesmith.errors import BadArgument
from codesmith.fleet import lists
from codesmith.fleet.report import Row
from codesmith.fleet.selection import Choice
from codesmith.sdk.api import AuditRecord

if TYPE_CHECKING:
    from codesmith.sdk.client import Client

# The position of a record in the log of its node.
CURSOR = re.compile(r"[0-9a-f]{1,16}-[0-9a-f]{16}")


def show(
    choice: Choice,
    ask: Callable[[Client], list[AuditRecord]],
    columns: Sequence[str],
    *,
    limit: int,
    before: str | None,
) -> list[AuditRecord] | list[Row]:
    """Show records and return them, newest first; of several nodes the newest `limit` of all, each with its node."""
    if before and CURSOR.fullmatch(before) and lists.is_of_several(choice):
        hint = "give the time of the last record, or the one node that the cursor is of"
        raise BadArgument("--before takes a time for several nodes: a cursor is of one log", hint=hint)
    return lists.show(choice, ask, columns, joined=lambda logs: merged(logs, limit))


def merged(logs: Sequence[Sequence[Row]], limit: int) -> list[Row]:
    """Return the newest records of several logs as one, then the rows of nodes that failed.

    Those of one log keep their order, whatever its clock did.
    """
    failed = [row for log in logs for row in log if "error" in row]
    whole = [log for log in logs if not any("error" in row for row in log)]
    newest = heapq.merge(*whole, key=lambda row: datetime.fromisoformat(row["time"]), reverse=True)
    return [*itertools.islice(newest, limit), *failed]
