"""Tokens: what an AI agent or a CI job is given to work in one workspace, and nothing else."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

import contextlib
from typing import Any, Unpack

from invoke.context import Context

from codesmith.cli import output
from codesmith.cli.task import task
from codesmith.fleet import lists, one_node, selection
from codesmith.fleet.one_node import OneNode
from codesmith.fleet.report import Row
from codesmith.fleet.selection import Choice
from codesmith.sdk.api import Token, TokenRevoked
from codesmith.workspace import tokens

COLUMNS = ("id", "label", "workspace", "preset", "expires_at", "last_used_at", "by")


@task(
    help={
        "workspace": "The workspace that it opens.",
        "preset": "read: what only looks; work: that, and all work in the workspace (default: work).",
        "method": "A single method in place of a preset, such as workspace.exec; repeatable (default: a preset).",
        "expires": "When it ends: 30m, 8h, 7d, or a time such as 2026-12-24T18:00:00Z (default: when it is revoked).",
        "label": "A text for people and for audit records (default: none).",
        "out": "The new file for the secret (default: one in the state directory).",
        "endpoint": "Serve a socket of this machine that only takes tokens, for a container or CI (default: none).",
    },
    choices={"preset": ("read", "work")},
)
def create(
    c: Context,
    workspace: str,
    preset: str | None = None,
    method: list[str] | None = None,
    expires: str | None = None,
    label: str | None = None,
    out: str | None = None,
    endpoint: bool = False,
    **where: Unpack[OneNode],
) -> dict[str, Any]:
    """Create a token of a workspace, and write its secret to a file that only you can read.

    Example: token.create demo --expires 8h --label ci --endpoint
    """
    node, secret = selection.one(where), tokens.Secret.make()
    if out is not None:
        secret.write(tokens.file_for("", out))
    try:
        with one_node.connect(where) as client, tokens.looked_for_if_lost(workspace, node.name):
            made = client.token.create(
                workspace=workspace, token_sha256=secret.sha256, preset=preset, methods=method or None,
                expires_at=tokens.expiry(expires), label=label,
            )  # fmt: skip
    except BaseException:
        if out is not None:
            tokens.file_for("", out).unlink(missing_ok=True)
        raise
    file = tokens.file_for(made.id, out)
    if out is None:
        secret.write(file)
    scope = made.scope.to_dict()
    methods = scope.pop("methods")
    row: dict[str, Any] = {"id": made.id, **scope, "methods": methods, "token_file": str(file)}
    if endpoint:
        from codesmith.tunnel import local_endpoint

        row["endpoint"] = f"unix:{local_endpoint.ensure_scoped(node)}"
    shown = [name for name in row if name != "methods" or scope["preset"] is None]
    one_node.show(where, row, shown)
    if endpoint and not where.get("json", False):
        output.say(f"note: export CODESMITH_ENDPOINT={row['endpoint']} CODESMITH_TOKEN_FILE={file}")
    return row


@task(
    name="list",
    help={"workspace": "Only those of this workspace (default: of all)."},
    harmless=True,
    watchable=True,
)
def list_(c: Context, workspace: str | None = None, **choice: Unpack[Choice]) -> list[Token] | list[Row]:
    """Show the tokens of nodes: what each reaches, when it ends, and when it was used last.

    Example: token.list --workspace shop
    """
    return lists.show(choice, lambda client: client.token.list(workspace=workspace), COLUMNS)


@task(help={"id": "The id of the token, as token.list shows it."})
def revoke(c: Context, id: str, **where: Unpack[OneNode]) -> TokenRevoked:  # noqa: A002
    """Revoke a token: its streams end at once, the jobs that it started go on.

    Example: token.revoke ID
    """
    done = one_node.call(where, lambda client: client.token.revoke(id=id))
    with contextlib.suppress(OSError):
        tokens.forget(id)
    return done
