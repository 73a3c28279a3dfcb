"""The audit log of a node: who tried to change what."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

from typing import Unpack

from invoke.context import Context

from codesmith.cli.task import task
from codesmith.fleet import one_node
from codesmith.fleet.one_node import OneNode
from codesmith.sdk.api import AuditRecord

COLUMNS = ("time", "method", "target", "peer_login", "outcome", "exit_code", "killed_by", "duration_s", "request_id")


@task(
    name="list",
    help={
        "limit": "How many records at most (default: 100).",
        "before": "Only records before this `cursor` (see --json) or time, as 2026-11-23T00:00:00Z (default: all).",
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
    **where: Unpack[OneNode],
) -> list[AuditRecord]:
    """Show who tried to change what, refused attempts too, and how jobs ended, newest first.

    Example: audit.list --workspace shop --limit 20
    """
    return one_node.call(
        where, lambda client: client.audit.list(limit=limit, before=before, workspace=workspace, user=user), COLUMNS
    )
