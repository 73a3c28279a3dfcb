"""repo.*: git repositories inside workspaces, in code/NAME."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Dict, List, Optional

from agent import gitwords
from agent.context import Context
from agent.errors import (
    AgentError,
    AlreadyExists,
    CommandFailed,
    Disabled,
    InUse,
    LimitReached,
    NotFound,
    NotManaged,
    ReadOnly,
    Unsupported,
)
from agent.method import method
from agent.methods import user as users
from agent.methods import workspace as workspaces
from agent.names import path_of
from agent.privileged import HelperSilent
from agent.types import Keywords, Name, Repo, RepoDeleted, RequestId

TIMEOUT_S = 600.0
READ_REPLY_S = 120.0
BRANCH = "main"
EXAMPLE = {
    "name": "site",
    "path": "/srv/codesmith/workspaces/demo/code/site",
    "url": "https://git.example.org/team/site.git",
    "branch": "main",
    "commit": "9fceb02d0ae598e95dc970b74767f19372d61af8",
}
MAKING = (
    NotFound, AlreadyExists, NotManaged, InUse, Disabled, Unsupported, CommandFailed, LimitReached, ReadOnly,
)  # fmt: skip
Url = Annotated[
    str,
    Keywords({"pattern": f"^(?:{gitwords.URL})$", "maxLength": gitwords.URL_MAX, "description": gitwords.URL_HINT}),
]
Ref = Annotated[str, Keywords({"minLength": 1, "maxLength": gitwords.REF_MAX, "description": "A branch or tag."})]


def _settle_init(
    context: Context,
    *,
    workspace: Name,
    name: Optional[Name] = None,
    default_branch: Optional[str] = None,
    request_id: Optional[RequestId] = None,
) -> Repo:
    return _settle(context, workspace, name or workspace)


def _settle_clone(
    context: Context,
    *,
    workspace: Name,
    url: str,
    name: Optional[Name] = None,
    request_id: Optional[RequestId] = None,
    **_: Any,
) -> Repo:
    return _settle(context, workspace, name or gitwords.name_of(url))


@method(
    "repo.init",
    errors=MAKING,
    mutates=True,
    settle=_settle_init,
    example={"params": {"workspace": "demo"}, "result": {**EXAMPLE, "name": "demo", "url": None, "commit": None,
             "path": "/srv/codesmith/workspaces/demo/code/demo"}},
)  # fmt: skip
def init(
    context: Context,
    *,
    workspace: Name,
    name: Optional[Name] = None,
    default_branch: Optional[Ref] = None,
    request_id: Optional[RequestId] = None,
) -> Repo:
    """Make an empty git repository code/NAME in a workspace, as the workspace's user.

    `name` is by default the workspace's, `default_branch` main.
    """
    branch = gitwords.parse_ref(default_branch or BRANCH, "default_branch")
    return _make(context, "repo.init", workspace, name or workspace, None, {"branch": branch}, READ_REPLY_S)


@method(
    "repo.clone",
    errors=MAKING,
    mutates=True,
    settle=_settle_clone,
    secrets=("credential",),
    example={"params": {"workspace": "demo", "url": EXAMPLE["url"]}, "result": EXAMPLE},
)
def clone(
    context: Context,
    *,
    workspace: Name,
    url: Url,
    name: Optional[Name] = None,
    ref: Optional[Ref] = None,
    depth: Annotated[
        Optional[int],
        Keywords({"minimum": 1, "maximum": gitwords.DEPTH_MAX, "description": "How many commits (default: all)."}),
    ] = None,
    credential: Annotated[
        Optional[Dict[str, Annotated[str, Keywords({"maxLength": gitwords.SSH_KEY_MAX})]]],
        Keywords(
            {
                "propertyNames": {"enum": list(gitwords.CREDENTIAL_FIELDS)},
                "maxProperties": 2,
                "description": "For https {username?, password} or {username?, token}, for ssh {ssh_key}: a private "
                "key without passphrase. Used for this call, sent to the URL's host alone, written down nowhere.",
            }
        ),
    ] = None,
    known_hosts: Annotated[
        Optional[List[Annotated[str, Keywords({"maxLength": 8192})]]],
        Keywords(
            {
                "maxItems": gitwords.KNOWN_HOSTS_MAX,
                "description": "Lines `HOST KEYTYPE KEY`, believed for this call beside the known_hosts of the "
                "workspace's user. An ssh host whose key is in neither is refused.",
            }
        ),
    ] = None,
    timeout_s: Annotated[
        Optional[float], Keywords({"exclusiveMinimum": 0, "maximum": 3600, "description": f"Default {TIMEOUT_S:.0f}."})
    ] = None,
    request_id: Optional[RequestId] = None,
) -> Repo:
    """Clone a git repository to code/NAME in a workspace, as the workspace's user.

    It appears there when it is whole, or not at all. `name` follows from the URL by default. Hooks and submodules are
    left out. Without `credential`, ssh uses the keys of the workspace's user. A clone that is cut off is removed.
    """
    known_name = name or gitwords.name_of(gitwords.parse_url(url))
    limit_s = TIMEOUT_S if timeout_s is None else float(timeout_s)
    gitwords.parse_credential(credential, url)
    arguments = {
        "url": url,
        "ref": None if ref is None else gitwords.parse_ref(ref),
        "depth": depth,
        "credential": credential,
        "known_hosts": gitwords.parse_known_hosts(known_hosts or []),
        "timeout_s": limit_s,
    }
    return _make(context, "repo.clone", workspace, known_name, url, arguments, limit_s + 60)


@method(
    "repo.get",
    errors=(NotFound, NotManaged, Disabled, CommandFailed, LimitReached, InUse, Unsupported),
    example={"params": {"workspace": "demo", "name": "site"}, "result": EXAMPLE},
)
def get(context: Context, *, workspace: Name, name: Name) -> Repo:
    """Return one repository with its branch and commit as they are now.

    `branch` is null when HEAD is detached, `commit` when there is none yet; both when the user removed the repository.
    """
    workspaces.find(context, workspace)
    document = find(context, workspace, name)
    return _read(context, workspace, [document])[0]


@method(
    "repo.list",
    errors=(NotFound, NotManaged, Disabled, CommandFailed, LimitReached, InUse, Unsupported),
    example={"params": {"workspace": "demo"}, "result": [EXAMPLE]},
)
def list_(context: Context, *, workspace: Name) -> List[Repo]:
    """Return the repositories of a workspace that CodeSmith made, by name; not what the user made."""
    workspaces.find(context, workspace)
    return _read(context, workspace, context.store.list_repos(workspace))


@method(
    "repo.delete",
    errors=(NotFound, NotManaged, InUse, CommandFailed, ReadOnly),
    mutates=True,
    example={
        "params": {"workspace": "demo", "name": "site"},
        "result": {"workspace": "demo", "name": "site", "deleted": True},
    },
)
def delete(context: Context, *, workspace: Name, name: Name, request_id: Optional[RequestId] = None) -> RepoDeleted:
    """Delete a repository with all that is in code/NAME, what was never pushed too."""
    workspaces.find(context, workspace)
    find(context, workspace, name)
    context.helper.call("repo.remove", workspace=workspace, name=name)
    context.store.remove_repo(workspace, name)
    return {"workspace": workspace, "name": name, "deleted": True}


def find(context: Context, workspace: str, name: str) -> Dict[str, Any]:
    """Return the stored document of a whole repository; NotFound when there is none."""
    document = context.store.get_repo(workspace, name)
    if document is None or document["state"] != "ready":
        raise NotFound(f"no repo {name!r} in workspace {workspace!r}", hint=f"inv repo.list {workspace}")
    return document


def _make(
    context: Context,
    verb: str,
    workspace: str,
    name: str,
    url: Optional[str],
    arguments: Dict[str, Any],
    reply_s: float,
) -> Repo:
    owner = users.find(context, workspaces.find(context, workspace)["user"])
    if owner["state"] != "active":
        raise Disabled(f"user {owner['name']!r} is disabled")
    token = uuid.uuid4().hex
    pending = {"name": name, "url": url, "state": "pending", "token": token}
    earlier = context.store.claim_repo(workspace, pending)
    if earlier is not None and earlier["state"] == "ready":
        raise AlreadyExists(f"repo {name!r} exists in workspace {workspace!r}", hint=f"inv repo.get {workspace} {name}")
    if earlier is not None:
        raise InUse(f"repo {name!r} of workspace {workspace!r} is being made", hint="try again")
    try:
        found = context.helper.call(
            verb, reply_timeout_s=reply_s, workspace=workspace, name=name, token=token, **arguments
        )
    except AgentError as error:
        return _settle(context, workspace, name, error)
    if not context.store.complete_repo(workspace, {**pending, "state": "ready"}):
        raise NotFound(f"workspace {workspace!r} was deleted meanwhile")
    return _show(workspace, pending, found)


def _settle(context: Context, workspace: str, name: str, reason: Optional[AgentError] = None) -> Repo:
    """End what failed or was cut off: complete when the repository had its name already, removed otherwise."""
    document = context.store.get_repo(workspace, name)
    if document is not None and document["state"] == "pending":
        done = context.helper.call("repo.settle", workspace=workspace, name=name, token=document["token"])
        if done["is_made"] and context.store.complete_repo(workspace, {**document, "state": "ready"}):
            return _read(context, workspace, [document])[0]
        context.store.remove_repo(workspace, name)
    elif document is not None:
        return _read(context, workspace, [document])[0]
    if reason is None or isinstance(reason, HelperSilent):
        text = f"making repo {name!r} was cut off; nothing of it is left"
        raise CommandFailed(text, hint="try again", command="git", exit_code=None, stderr="")
    raise reason


def _read(context: Context, workspace: str, documents: List[Dict[str, Any]]) -> List[Repo]:
    if not documents:
        return []
    names = [document["name"] for document in documents]
    found = context.helper.call("repo.read", workspace=workspace, names=names)["repos"]
    return [_show(workspace, document, found[document["name"]]) for document in documents]


def _show(workspace: str, document: Dict[str, Any], found: Dict[str, Any]) -> Repo:
    return {
        "name": document["name"],
        "path": f"{path_of(workspace)}/code/{document['name']}",
        "url": document["url"],
        "branch": found["branch"],
        "commit": found["commit"],
    }
