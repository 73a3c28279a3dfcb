"""What clients of MCP read: which program serves a workspace."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codesmith.errors import CodeSmithError

CLIENTS = ("claude", "cursor", "vscode", "codex")
# The key of the servers in a client's file; vscode wants the kind of transport too.
KEYS = {"claude": "mcpServers", "cursor": "mcpServers", "vscode": "servers"}


def command(workspace: str, options: Sequence[str]) -> list[str]:
    """Return the command that serves a workspace, by its full path: clients have another PATH."""
    return [str(Path(sys.executable).parent / "codesmith"), "mcp.serve", workspace, *options]


def text(client: str, workspace: str, options: Sequence[str]) -> str:
    """Return what belongs into the file of a client that has none yet."""
    return merged(client, "", workspace, options)


def merged(client: str, before: str, workspace: str, options: Sequence[str]) -> str:
    """Return the text of a client's file with this server in it; what else is there stays."""
    words, name = command(workspace, options), f"codesmith-{workspace}"
    if client == "codex":
        table = f"[mcp_servers.{name}]"
        if table in before:
            raise CodeSmithError(f"{table} is there already", hint="take it out, then the same again")
        end = "" if not before or before.endswith("\n") else "\n"
        return f"{before}{end}{table}\ncommand = {json.dumps(words[0])}\nargs = {json.dumps(words[1:])}\n"
    try:
        document: dict[str, Any] = json.loads(before) if before.strip() else {}
        servers = document.setdefault(KEYS[client], {})
        kind = {"type": "stdio"} if client == "vscode" else {}
        servers[name] = {**kind, "command": words[0], "args": words[1:]}
    except (ValueError, AttributeError, TypeError) as error:
        raise CodeSmithError(f"the file is not the JSON that {client} reads: {error}", hint="mend it first") from None
    return json.dumps(document, indent=2) + "\n"
