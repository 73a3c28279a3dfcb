"""rpc.*: the contract itself."""

from __future__ import annotations

from typing import Any, Dict

from agent.contract.method import method
from agent.frontend.callers import caller_token
from agent.frontend.context import Context


@method(
    "rpc.discover",
    scope="read",
)
def discover(context: Context) -> Dict[str, Any]:
    """Return the OpenRPC document of this agent; to a token, with the methods that it reaches."""
    token = caller_token.get()
    if token is None:
        return context.contract
    return {**context.contract, "methods": [one for one in context.contract["methods"] if one["name"] in token.methods]}
