"""Show calls on stderr for CODESMITH_DEBUG=rpc, without secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from codesmith import debug
from codesmith.sdk.record import as_parameter

SECRETS = ("credential", "data", "env", "new", "old", "password", "ssh_keys", "stdin", "token")


def trace(node: str, method: str, params: Mapping[str, Any], status: int, start: float) -> None:
    """Show a call that began at `start` (of time.monotonic()), if that is asked for."""
    if debug.is_shown("rpc"):
        debug.show("rpc", f"{node} {method} {json.dumps(_shown(params), default=as_parameter)} -> HTTP {status}", start)


def _shown(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters without secrets, at any depth."""
    return {
        name: "..." if name in SECRETS else _shown(value) if isinstance(value, Mapping) else value
        for name, value in params.items()
    }
