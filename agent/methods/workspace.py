"""workspace.*: a workspace is a login with a directory and a home; commands run in it."""

from __future__ import annotations

import os
from typing import Annotated, Any, Dict, Iterator, Literal, Optional

from agent.contract.fields import (
    ARGUMENT,
    LABELS_MAX,
    Argv,
    Environment,
    Keywords,
    LabelChanges,
    Labels,
    Name,
    PublicKey,
    RequestId,
    SshKeys,
    WorkingDirectory,
)
from agent.contract.method import BY_HELPER, method
from agent.contract.records.workspace import Dialled, Execution, OpenedWorkspace, Usage, Workspace, WorkspaceDeleted
from agent.frontend import (
    denied_hosts,
    repo_creation,
    runtime_client,
    runtime_state,
    stream,
    user_records,
    workspace_creation,
    workspace_records,
)
from agent.frontend.agent_forwarding import caller_uid
from agent.frontend.commands import working_directory
from agent.frontend.context import Context
from agent.shared import ownership, sshkeys
from agent.shared.clock import now
from agent.shared.errors import (
    AlreadyExists,
    Disabled,
    InUse,
    LimitReached,
    NotFound,
    ReadOnly,
    printable,
)

TIMEOUT_S = 60.0


def _roll_back_create(
    context: Context,
    *,
    name: Name,
    repo: Dict[str, Any],
    user: Optional[Name] = None,
    request_id: Optional[RequestId] = None,
    **_: Any,
) -> Workspace:
    return show(workspace_creation.roll_back(context, name, user, repo, request_id))


@method(
    "workspace.create",
    scope="operator",
    errors=(NotFound, AlreadyExists, Disabled, *BY_HELPER),
    mutates=True,
    roll_back=_roll_back_create,
    secrets=("repo.credential",),
    long_with="repo",
)
def create(
    context: Context,
    *,
    name: Name,
    user: Optional[Name] = None,
    ssh_keys: Optional[SshKeys] = None,
    labels: Optional[Labels] = None,
    repo: Annotated[Optional[Dict[str, Any]], repo_creation.REPO] = None,
    request_id: Optional[RequestId] = None,
) -> Workspace:
    """Create a workspace: a 0700 directory with code, config, data, logs and tmp, owned by a login of its own, cs-NAME.

    `user` is who may open it. Without, that is a dedicated user of the same name, which is created if needed and
    deleted with it. A workspace cannot have the name of another user than its own.
    `ssh_keys` are the keys of the dedicated user; they cannot be given for an existing user. With `repo` the workspace
    is pending until that is cloned. If the clone fails or is interrupted, the workspace is removed again, and so is a
    user that was created for it.
    """
    request = workspace_creation.WorkspaceRequest(name, user, ssh_keys, labels or {})
    if repo is None:
        return show(workspace_creation.create(context, request))
    return show(workspace_creation.create_with_repo(context, request, repo, request_id))


@method("workspace.get", scope="read", errors=(NotFound, ReadOnly))
def get(context: Context, *, name: Name) -> Workspace:
    """Return one workspace."""
    return show(workspace_records.find_managed(context, name), context.runtimes.status(name))


@method("workspace.list", scope="operator", errors=(ReadOnly,))
def list_(context: Context, *, user: Optional[Name] = None, labels: Optional[Labels] = None) -> Iterator[Workspace]:
    """Return all workspaces, by name; with `user` those of one user, with `labels` those that have all of them."""
    wanted = (labels or {}).items()
    return (
        show(document)
        for document in workspace_records.list_managed(context, user)
        if wanted <= document["labels"].items()
    )


@method("workspace.open", scope="work", errors=(NotFound, Disabled, InUse, ReadOnly), mutates=True, decides="opened_at")
def open_(context: Context, *, name: Name, request_id: Optional[RequestId] = None) -> OpenedWorkspace:
    """Set the time of a workspace's last use (opened_at), and return how to enter it: login, directory, environment.

    workspace.dial leads in. Nothing is started.
    """
    workspace_records.find_managed(context, name)
    document = {**workspace_records.find_ready(context, name), "opened_at": now()}
    context.store.change_workspace(name, {"opened_at": document["opened_at"]})
    login = {
        "user": document["login"],
        "host_hint": os.uname().nodename,
        "directory": document["path"],
        "environment": {"HOME": document["home"], "CODESMITH_WORKSPACE": name, "CODESMITH_DIRECTORY": document["path"]},
    }
    return {**show(document), "login": login}  # type: ignore[typeddict-item]


@method(
    "workspace.update",
    scope="operator",
    errors=(NotFound, InUse, ReadOnly, LimitReached),
    mutates=True,
    decides="labels",
)
def update(
    context: Context, *, name: Name, labels: Optional[LabelChanges] = None, request_id: Optional[RequestId] = None
) -> Workspace:
    """Set the labels of a workspace that are given and remove those given as null; all others stay."""
    document = workspace_records.find_managed(context, name)
    if labels:
        merged = {key: value for key, value in {**document["labels"], **labels}.items() if value is not None}
        if len(merged) > LABELS_MAX:
            raise LimitReached(f"workspace {name!r} would have {len(merged)} labels; it may have {LABELS_MAX}")
        document = {**document, "labels": merged}
        context.store.change_workspace(name, {"labels": merged})
    return show(document)


@method("workspace.assign", scope="operator", errors=(NotFound, Disabled, *BY_HELPER), mutates=True, decides="owner")
def assign(context: Context, *, name: Name, user: Name, request_id: Optional[RequestId] = None) -> Workspace:
    """Give a workspace to another active user: what runs in it is ended, and the previous one may not open it any more.

    Its files stay as they are: they belong to the workspace's own login. Those with whom it is shared may still enter
    it. The previous user stays, also a dedicated one. Its tokens are revoked.
    """
    document = _find_shared(context, name, user)
    if document["user"] == user:
        return show(document)
    with context.job_watch.while_ending([name]):
        made = context.helper.call("workspace.assign", name=name, user=user)
        context.tokens.revoke_all(name)
        context.store.change_workspace(name, {"user": user})
        context.store.put_shares(name, made["shared_with"])
    return show({**document, "user": user, "shared_with": made["shared_with"]})


@method(
    "workspace.share",
    scope="operator",
    errors=(NotFound, Disabled, *BY_HELPER),
    mutates=True,
    decides="share with {user}",
)
def share(context: Context, *, name: Name, user: Name, request_id: Optional[RequestId] = None) -> Workspace:
    """Let another active user enter a workspace too. All who enter it work as its one login."""
    document = _find_shared(context, name, user)
    made = context.helper.call("workspace.share", name=name, user=user)
    context.store.put_shares(name, made["shared_with"])
    return show({**document, "shared_with": made["shared_with"]})


@method(
    "workspace.unshare",
    scope="operator",
    errors=(NotFound, *BY_HELPER),
    mutates=True,
    decides="share with {user}",
    makes_room=True,
)
def unshare(context: Context, *, name: Name, user: Name, request_id: Optional[RequestId] = None) -> Workspace:
    """Keep a user out of a workspace again that was shared with it: what runs in the workspace is ended."""
    document = workspace_records.find(context, name)
    if user not in document["shared_with"]:
        problem = f"workspace {name!r} is not shared with user {user!r}"
        raise NotFound(problem, hint=f"inv workspace.get {name}")
    with context.job_watch.while_ending([name]):
        made = context.helper.call("workspace.unshare", name=name, user=user)
        context.store.put_shares(name, made["shared_with"])
    return show({**document, "shared_with": made["shared_with"]})


def _find_shared(context: Context, name: str, user: str) -> Dict[str, Any]:
    """Return the document of a workspace that a user is to get access to; the helper refuses a disabled user."""
    document = workspace_records.find(context, name)
    workspace_creation.check_created(document)
    user_records.find(context, user)
    return document


@method("workspace.start", scope="work", errors=(NotFound, Disabled, *BY_HELPER), mutates=True)
def start(context: Context, *, name: Name, request_id: Optional[RequestId] = None) -> Workspace:
    """Start the runtime of a workspace; commands start it too. It ends when it is idle for a while."""
    document = workspace_records.find_ready(context, name)
    return show(document, runtime_client.check_status(context.runtimes.call(name, "start")))


@method("workspace.stop", scope="work", errors=(NotFound, *BY_HELPER), mutates=True, makes_room=True)
def stop(context: Context, *, name: Name, request_id: Optional[RequestId] = None) -> Workspace:
    """End everything that runs in a workspace; the next command starts its runtime anew, with an empty /tmp."""
    document = workspace_records.find_managed(context, name)
    with context.job_watch.while_ending([name]):
        context.helper.call("runtime.stop", workspace=name)
    return show(document)


@method("workspace.usage", scope="read", errors=(NotFound, Disabled, *BY_HELPER))
def usage(context: Context, *, name: Name) -> Usage:
    """Return what a workspace uses. It starts nothing."""
    sandbox = workspace_records.find_managed(context, name).get("sandbox") or {}
    network = sandbox.get("network", "full")
    allowed = [] if isinstance(network, str) else network["allow"]
    more: Dict[str, Any] = {
        "disk_limit_bytes": sandbox.get("limits", {}).get("disk_bytes"),
        "network": {"allowed": allowed, "denied": denied_hosts.of(name)},
    }
    return {**runtime_state.usage(name), **context.disk_usage.of(name), **more}  # type: ignore[typeddict-item]


@method("workspace.delete", scope="operator", errors=(NotFound, *BY_HELPER), mutates=True, makes_room=True)
def delete(
    context: Context, *, name: Name, keep_user: bool = False, request_id: Optional[RequestId] = None
) -> WorkspaceDeleted:
    """Delete a workspace and everything in it, and its dedicated user unless that is kept or owns other workspaces.

    What runs in workspaces that are shared with a user who goes is ended.
    """
    document = context.store.get_workspace(name)
    if document is None and not ownership.is_workspace_on_node(name):
        raise NotFound(f"no workspace {name!r} on this node", hint="inv workspace.list")
    owner = None if document is None else context.store.get_user(document["user"])
    # By name: deleting a workspace that is the dedicated user's of another one does not delete that user.
    is_dedicated = owner is not None and owner["dedicated"] and owner["name"] == name
    is_last = owner is not None and is_dedicated and owner["workspaces"] == [name]
    remove_user = is_last and not keep_user
    entered = context.store.workspaces_open_to(name) if remove_user else [name]
    with context.job_watch.while_ending(entered):
        done = context.helper.call("workspace.remove", name=name, remove_user=remove_user)
    if done["user_removed"]:
        context.store.remove_user(name)
    context.store.remove_workspace(name)
    leftovers = [printable(path) for path in done["leftovers"]]
    return {"name": name, "deleted": True, "user_deleted": done["user_removed"], "leftovers": leftovers}


@method("workspace.dial", scope="work", errors=(NotFound, Disabled, *BY_HELPER), is_audited=True)
def dial(context: Context, *, name: Name, public_key: PublicKey) -> Dialled:
    """Return a one-time token for a stream with SSH into a workspace, for the owner of one key.

    Within 60 s, send POST /stream with Upgrade: codesmith-stream and CodeSmith-Token to the same endpoint, and wait for
    101. The SSH server runs inside the workspace, has one of `host_keys`, and accepts `public_key` alone.
    """
    document = workspace_records.find_ready(context, name)
    fields = {"public_key": sshkeys.parse_key(public_key, "public_key")}
    host_keys = stream.read_host_keys(context.runtimes.call(name, "ssh_host_keys"))
    token, expires_at = context.stream_tokens.give(document, "ssh", fields, caller_uid.get())
    return {"token": token, "expires_at": expires_at, "user": document["login"], "host_keys": host_keys}


@method("workspace.exec", scope="work", errors=(NotFound, Disabled, *BY_HELPER), mutates=True, is_resumable=False)
def exec_(
    context: Context,
    *,
    name: Name,
    argv: Argv,
    cwd: WorkingDirectory = None,
    env: Environment = None,
    stdin: Annotated[Optional[str], ARGUMENT] = None,
    encoding: Annotated[
        Optional[Literal["text", "base64"]],
        Keywords({"description": "The encoding of stdin, stdout and stderr. Default: text."}),
    ] = None,
    timeout_s: Annotated[
        Optional[float],
        Keywords(
            {
                "exclusiveMinimum": 0,
                "maximum": 3600,
                "description": f"Default {TIMEOUT_S:.0f}.",
                "x-default-s": TIMEOUT_S,
            }
        ),
    ] = None,
    request_id: Optional[RequestId] = None,
) -> Execution:
    """Run a command in a workspace as its user, and wait for its end.

    No shell is involved. Background processes of the command are ended with it. An exit code other than 0 is a result,
    not an error. No byte is replaced: output that is not UTF-8 is returned as base64, also with encoding text.
    """
    workspace_records.find_ready(context, name)
    limit_s = TIMEOUT_S if timeout_s is None else float(timeout_s)
    done = context.runtimes.call(
        name, "exec", reply_timeout_s=limit_s + runtime_client.REPLY_GRACE_S, timeout_s=limit_s, argv=argv,
        cwd=working_directory(cwd), env=env or {}, stdin=stdin or "", encoding=encoding or "text",
    )  # fmt: skip
    return runtime_client.check_execution(done)  # type: ignore[return-value]


def show(document: Dict[str, Any], status: Optional[Dict[str, Any]] = None) -> Workspace:
    """Return a stored workspace as a record of the contract; `status` is what its supervisor says."""
    return {
        "id": document["id"],
        "name": document["name"],
        "path": document["path"],
        "home": document["home"],
        "user": document["user"],
        "shared_with": document["shared_with"],
        "login": document["login"],
        "uid": document["uid"],
        "gid": document["gid"],
        "mode": ownership.mode_of(document["name"]),
        "state": document.get("state", "ready"),
        "labels": document["labels"],
        "repos": document["repos"],
        "sandbox": document.get("sandbox"),
        "runtime": runtime_state.describe(document["name"], status),
        "created_at": document["created_at"],
        "opened_at": document["opened_at"],
    }
