"""The node: facts, health, version."""

from __future__ import annotations

from typing import Annotated, List, Literal, TypedDict

from agent.contract.fields import Bytes, Count, Keywords, Time


class Os(TypedDict):
    """The node's operating system, from /etc/os-release."""

    id: str
    version_id: str
    name: str


class Disk(TypedDict):
    """The file system that holds the workspaces."""

    total_bytes: Bytes
    free_bytes: Bytes


class Counts(TypedDict):
    """How many objects CodeSmith manages on the node."""

    users: Count
    workspaces: Count
    sandboxes: Count


class NodeInfo(TypedDict):
    """A node: its identity, operating system, hardware and agent."""

    node_id: Annotated[str, Keywords({"description": "Never changes during the life of the node."})]
    instance_id: Annotated[str, Keywords({"description": "New at every start of the agent."})]
    hostname: str
    os: Os
    kernel: str
    arch: str
    python: str
    cpus: Count
    memory_bytes: Bytes
    memory_available_bytes: Annotated[
        int, Keywords({"minimum": 0, "description": "What new work may take, as the kernel estimates."})
    ]
    disk: Disk
    agent_version: str
    api_version: str
    started_at: Time
    now: Time
    counts: Counts


class HealthCheck(TypedDict):
    """The result of one check."""

    name: str
    status: Literal["ok", "degraded", "failing"]
    detail: str


class NodeHealth(TypedDict):
    """The health of a node: the worst status of all checks, and the checks."""

    status: Literal["ok", "degraded", "failing"]
    checks: List[HealthCheck]


class NodeVersion(TypedDict):
    """The version of the agent that answers."""

    agent: str
    api: str
    python: str
    build: Annotated[str, Keywords({"description": "SHA-256 of the shipped file; empty when run from source."})]
    node_id: str
