"""The methods of the contract: one file per OpenRPC prefix, one list of all."""

from __future__ import annotations

from typing import Tuple

from agent.contract.method import Method
from agent.methods import audit, node, repo, rpc, sandbox, user, workspace

METHODS: Tuple[Method, ...] = (
    audit.list_,
    node.health,
    node.info,
    node.version,
    repo.clone,
    repo.delete,
    repo.get,
    repo.init,
    repo.list_,
    rpc.discover,
    sandbox.create,
    sandbox.delete,
    sandbox.get,
    sandbox.list_,
    user.create,
    user.delete,
    user.disable,
    user.enable,
    user.get,
    user.list_,
    user.set_keys,
    workspace.assign,
    workspace.create,
    workspace.delete,
    workspace.exec_,
    workspace.get,
    workspace.list_,
    workspace.open_,
    workspace.update,
)
