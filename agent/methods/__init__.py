"""The methods of the contract: one file per namespace, and the list of all methods."""

from __future__ import annotations

from typing import Tuple

from agent.contract.method import Method
from agent.methods import audit, file, job, node, repo, rpc, sandbox, token, user, workspace

NAMESPACES = (audit, file, job, node, repo, rpc, sandbox, token, user, workspace)
METHODS: Tuple[Method, ...] = tuple(
    sorted(
        (entry for namespace in NAMESPACES for entry in vars(namespace).values() if isinstance(entry, Method)),
        key=lambda entry: entry.name,
    )
)
