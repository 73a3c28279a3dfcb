"""rpc.*: the contract itself."""

from __future__ import annotations

from typing import Any, Dict

from agent.contract.method import method
from agent.frontend.context import Context


@method(
    "rpc.discover",
    scope="read",
)
def discover(context: Context) -> Dict[str, Any]:
    """Return the OpenRPC document of this agent."""
    return context.contract
