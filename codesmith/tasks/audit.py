"""The audit logs of nodes: who tried to change what."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from invoke.context import Context

from codesmith.cli.task import task
from codesmith.fleet import audit_logs
from codesmith.fleet.report import Row
from codesmith.fleet.selection import Choice
from codesmith.sdk.api import AuditRecord

if TYPE_CHECKING:
    from codesmith.sdk.client import Client

COLUMNS = ("time", "method", "target", "peer_login", "outcome", "exit_code", "killed_by", "duration_s", "request_id")


@task(
    name="list",
    help={
        "limit": "How many records at most, of all nodes together (default: 100).",
        "before": "Only records before this time, as 2026-11-23T00:00:00Z, or, of one node, this `cursor` of --json "
        "(default: all).",
        "workspace": "Only records that name this workspace (default: any).",
        "user": "Only what names this user, or was done in a workspace that was theirs then (default: any).",
    },
    harmless=True,
    watchable=True,
)
def list_(
    c: Context,
    limit: int = 100,
    before: str | None = None,
    workspace: str | None = None,
    user: str | None = None,
    **choice: Unpack[Choice],
) -> list[AuditRecord] | list[Row]:
    """Show who tried to change what, refused attempts too, and how jobs ended, newest first.

    Example: audit.list --workspace shop --limit 20
    Example: audit.list --all
    """

    def ask(client: Client) -> list[AuditRecord]:
        return client.audit.list(limit=limit, before=before, workspace=workspace, user=user)

    return audit_logs.show(choice, ask, COLUMNS, limit=limit, before=before)
