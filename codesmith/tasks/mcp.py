"""Give an AI agent a workspace: an MCP server, and what its client has to read."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any, Unpack

from invoke.context import Context

from codesmith import paths
from codesmith.cli import output
from codesmith.cli.task import task
from codesmith.errors import Unsupported
from codesmith.fleet import one_node, selection
from codesmith.fleet.one_node import OneNode
from codesmith.mcp import config as files

MISSING = "the MCP server needs the package mcp"


@task(
    help={
        "workspace": "The workspace that the agent works in.",
        "read_only": "Offer and permit only what reads (default: all work in the workspace).",
    }
)
def serve(c: Context, workspace: str, read_only: bool = False, **where: Unpack[OneNode]) -> dict[str, Any]:
    """Serve one workspace to an AI agent by MCP, on standard input and output, over a token of its own.

    The token is made for the life of this process and revoked at its end. With CODESMITH_ENDPOINT and
    CODESMITH_TOKEN_FILE that token is used instead. Standard output is the protocol's: --json has no meaning here.

    Example: mcp.serve shop --read-only
    """
    try:
        from codesmith.mcp import server
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith(("mcp", "anyio")):
            raise
        raise Unsupported(MISSING, hint="pip install 'codesmith[mcp]'") from None
    from codesmith.mcp.ending import Ending

    if paths.variable("CODESMITH_ENDPOINT") and not where.get("node"):
        served = server.Workspace(workspace, lambda: one_node.client_of(where), read_only=read_only)
        with Ending() as ending:
            ending.serve(lambda: server.serve(served))
        return {"workspace": workspace, "token": ""}
    from codesmith.http.scoped_socket import ScopedSocket
    from codesmith.sdk.client import Client
    from codesmith.tunnel import local_endpoint
    from codesmith.workspace import tokens

    node, secret = selection.one(where), tokens.Secret.make()
    with Ending() as made_here:
        file = Path(made_here.enter_context(tempfile.TemporaryDirectory(prefix="codesmith-mcp-"))) / "token"
        operator = made_here.enter_context(one_node.connect(where))
        secret.write(file)
        with tokens.looked_for_if_lost(workspace, node.name):
            made = operator.token.create(
                workspace=workspace, token_sha256=secret.sha256, preset="read" if read_only else "work", label="mcp"
            )

        def revoke() -> None:
            with contextlib.suppress(Exception):  # the node may be gone: the token has no secret any more
                operator.token.revoke(id=made.id)

        def scoped() -> ScopedSocket:
            return ScopedSocket(local_endpoint.ensure_scoped(node), file)

        made_here.callback(revoke)
        address = scoped()
        served = server.Workspace(workspace, lambda: Client(address, scoped), read_only=read_only)
        made_here.serve(lambda: server.serve(served))
    return {"workspace": workspace, "token": made.id}


@task(
    help={
        "workspace": "The workspace that the agent works in.",
        "client": "Whose file: claude (.mcp.json), cursor, vscode or codex (default: claude).",
        "write": "Merge it into this file instead of printing it (default: print).",
        "read_only": "Offer and permit only what reads (default: all work in the workspace).",
    },
    choices={"client": files.CLIENTS},
)
def config(
    c: Context,
    workspace: str,
    client: str = "claude",
    write: str | None = None,
    read_only: bool = False,
    **where: Unpack[OneNode],
) -> dict[str, Any]:
    """Print what an MCP client reads to start `mcp.serve`, or merge it into the client's file; it has no secret.

    Example: mcp.config demo --client claude --write .mcp.json
    """
    node = selection.one(where)
    options = ["--node", node.name, "--file", str(node.registry), *(["--read-only"] if read_only else [])]
    row: dict[str, Any] = {"client": client, "file": "", "text": files.text(client, workspace, options)}
    if write is not None:
        from codesmith.cli.text_edit import Edit, read

        path = paths.given(write)
        before = read(path)
        edit = Edit(path, before, files.merged(client, before, workspace, options))
        edit.apply()
        row.update(file=str(path), text=edit.after)
        one_node.show(where, row, ("client", "file"))
    elif where.get("json", False):
        output.show(row, json=True)
    else:
        output.write(row["text"])
    return row
