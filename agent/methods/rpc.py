"""rpc.*: the contract itself."""

from __future__ import annotations

from typing import Any, Dict

from agent.context import Context
from agent.method import method


@method("rpc.discover", example={"params": {}, "result": {"openrpc": "1.3.2"}})
def discover(context: Context) -> Dict[str, Any]:
    """Return the OpenRPC document of this agent."""
    return context.contract
