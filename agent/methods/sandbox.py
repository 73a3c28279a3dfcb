"""sandbox.*: limits and network of everything that runs in a workspace."""

from __future__ import annotations

from typing import Annotated, Any, Dict, Iterator, Optional

from agent.contract.fields import Hosts, Keywords, LimitChanges, Limits, Name, Network, RequestId
from agent.contract.method import BY_HELPER, method
from agent.contract.records.sandbox import Sandbox, SandboxDeleted
from agent.frontend import denied_hosts, sandbox_change, workspace_records
from agent.frontend.context import Context
from agent.shared.clock import now
from agent.shared.errors import AlreadyExists, Disabled, InvalidParams, NotFound, ReadOnly


@method("sandbox.create", scope="operator", errors=(NotFound, AlreadyExists, Disabled, *BY_HELPER), mutates=True)
def create(
    context: Context,
    *,
    workspace: Name,
    limits: Optional[Limits] = None,
    network: Optional[Network] = None,
    request_id: Optional[RequestId] = None,
) -> Sandbox:
    """Put a workspace into a sandbox: from now on everything in it runs within these limits, together.

    What runs in it is ended. `enforced` is what a look from inside confirmed on this node. A limit that this node
    cannot enforce is refused with unsupported, and nothing is changed.
    """
    document = workspace_records.find_ready(context, workspace)
    if document.get("sandbox") is not None:
        raise AlreadyExists(f"workspace {workspace!r} has a sandbox", hint=f"inv sandbox.get {workspace}")
    limits, network = limits or {}, network or "full"
    with context.job_watch.while_ending([workspace]):
        made = context.helper.call("sandbox.ensure", workspace=workspace, limits=limits, network=network)
    sandbox: Sandbox = {
        "workspace": workspace,
        "limits": limits,
        "network": made["network"],
        "enforced": made["enforced"],
        "state": "ready",
        "denied": [],
        "created_at": now(),
    }
    context.store.change_workspace(workspace, {"sandbox": sandbox})
    return sandbox


@method("sandbox.update", scope="operator", errors=(NotFound, Disabled, *BY_HELPER), mutates=True)
def update(
    context: Context,
    *,
    workspace: Name,
    limits: Optional[LimitChanges] = None,
    network: Optional[Network] = None,
    allow: Optional[Hosts] = None,
    deny: Optional[Hosts] = None,
    drop: Annotated[Optional[Hosts], Keywords({"description": "Hosts to take out of both lists."})] = None,
    restart: Annotated[
        Optional[bool], Keywords({"description": "End what runs, if the change needs it (default: false)."})
    ] = None,
    force: Annotated[
        Optional[bool],
        Keywords({"description": "Set a limit below what is used now; the kernel may end something (default: false)."}),
    ] = None,
    request_id: Optional[RequestId] = None,
) -> Sandbox:
    """Change limits and network of a workspace while it runs.

    `allow`, `deny` and `drop` change single hosts of an allow-list; `network` replaces it whole, or changes the mode
    (full, none, a list), which ends what runs and so wants `restart`: in_use without it. So does the first limit of the
    disk of a workspace that is older than the disk's quotas. A limit below what is used now wants `force`: in_use
    without it.
    """
    document = find(context, workspace)
    if network is not None and (allow or deny or drop):
        raise InvalidParams.of("network", "replaces the lists: give either it, or allow, deny and drop")
    asked: Dict[str, Any] = {
        "limits": limits or {},
        "network": network,
        "allow": allow or [],
        "deny": deny or [],
        "drop": drop or [],
    }
    fields = {**asked, "restart": bool(restart), "force": bool(force)}
    return sandbox_change.change(context, document["sandbox"], fields)


@method("sandbox.get", scope="read", errors=(NotFound, ReadOnly))
def get(context: Context, *, workspace: Name) -> Sandbox:
    """Return the sandbox of a workspace, with what its allow-list has refused since its runtime was last stopped."""
    return {**find(context, workspace)["sandbox"], "denied": denied_hosts.of(workspace)}  # type: ignore[typeddict-item]


@method(
    "sandbox.list",
    scope="operator",
    errors=(ReadOnly,),
)
def list_(context: Context) -> Iterator[Sandbox]:
    """Return all sandboxes, by workspace."""
    return (
        document["sandbox"]
        for document in workspace_records.list_managed(context)
        if document.get("sandbox") is not None
    )


@method("sandbox.delete", scope="operator", errors=(NotFound, *BY_HELPER), mutates=True, makes_room=True)
def delete(context: Context, *, workspace: Name, request_id: Optional[RequestId] = None) -> SandboxDeleted:
    """Remove the sandbox of a workspace; what runs in it is ended."""
    find(context, workspace)
    with context.job_watch.while_ending([workspace]):
        context.helper.call("sandbox.remove", workspace=workspace)
    context.store.change_workspace(workspace, {"sandbox": None})
    return {"workspace": workspace, "deleted": True}


def find(context: Context, workspace: str) -> Dict[str, Any]:
    """Return the stored document of a workspace that has a sandbox; NotFound otherwise."""
    document = workspace_records.find_managed(context, workspace)
    if document.get("sandbox") is None:
        raise NotFound(f"workspace {workspace!r} has no sandbox", hint=f"inv sandbox.create {workspace}")
    return document
