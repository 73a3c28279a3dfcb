"""Sandboxes: limits, network, and the hosts it refused."""

from __future__ import annotations

from typing import Annotated, Dict, List, Literal, TypedDict

from agent.contract.fields import Count, Keywords, Limits, Name, Network, Time


class Sandbox(TypedDict):
    """The isolation boundary of a workspace."""

    workspace: Name
    limits: Limits
    network: Network
    enforced: Annotated[
        Dict[str, bool],
        Keywords(
            {"description": "What a look from inside confirmed; `nesting`: whether namespaces can be made in it."}
        ),
    ]
    state: Literal["ready"]
    denied: Annotated[
        List[DeniedHost],
        Keywords({"description": "What the allow-list kept out, last one first; empty in lists and changes."}),
    ]
    created_at: Time


class DeniedHost(TypedDict):
    """A host that something in the workspace wanted to reach and may not."""

    host: str
    port: int
    count: Count
    last_at: Time


class SandboxDeleted(TypedDict):
    """The result of sandbox.delete."""

    workspace: Name
    deleted: Literal[True]
