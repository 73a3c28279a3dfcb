"""The audit record of a node: who tried to change what."""
# ruff: noqa: ARG001  Invoke hands every task a context; parameters are named as people type them

from __future__ import annotations

from invoke.context import Context

import codesmith
from codesmith.cli import output
from codesmith.cli.task import task
from codesmith.sdk.api import AuditRecord

COLUMNS = ("time", "method", "target", "peer_login", "outcome", "duration_s", "request_id")


@task(
    name="list",
    help={
        "limit": "At most so many (default: 100).",
        "before": "Only those before a record's `cursor` (--json), or a time as 2026-11-23T00:00:00Z (default: all).",
        "workspace": "Only those that name this workspace (default: any).",
        "user": "Only those that name this user (default: any).",
    },
    harmless=True,
)
def list_(
    c: Context,
    limit: int = 100,
    before: str | None = None,
    workspace: str | None = None,
    user: str | None = None,
    node: str = "",
    file: str = "",
    json: bool = False,
) -> list[AuditRecord]:
    """Show the attempts to change something, refused ones too, newest first."""
    with codesmith.connect(node, file) as client:
        records = client.audit.list(limit=limit, before=before, workspace=workspace, user=user)
    output.show(records, COLUMNS, json=json)
    return records
