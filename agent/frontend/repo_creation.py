"""Creates a repository, whole or not at all: claims its name, runs git, then completes it or rolls it back."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from agent.contract.fields import Keywords
from agent.contract.method import BY_HELPER
from agent.contract.records.repo import Repo
from agent.frontend import git_jobs
from agent.frontend.context import Context
from agent.git import grammar
from agent.shared.errors import AgentError, AlreadyExists, CommandFailed, Disabled, InUse, NotFound
from agent.shared.names import NAME, NAME_HINT, path_of

TIMEOUT_S = 600.0
ERRORS = (NotFound, AlreadyExists, Disabled, *BY_HELPER)

# The parameters of a clone, as JSON Schema.
URL = Keywords(
    {
        "type": "string",
        "pattern": f"^(?:{grammar.URL})$",
        "maxLength": grammar.URL_MAX,
        "description": grammar.URL_HINT,
        "errorMessage": f"must be {grammar.URL_HINT}",
    }
)
REF = Keywords(
    {
        "type": "string",
        "minLength": 1,
        "maxLength": grammar.REF_MAX,
        "description": "A branch, a tag, or a whole commit hash (default: the remote's default branch).",
    }
)
DEPTH = Keywords(
    {"type": "integer", "minimum": 1, "maximum": grammar.DEPTH_MAX, "description": "How many commits (default: all)."}
)
CREDENTIAL = Keywords(
    {
        "type": "object",
        "additionalProperties": {"type": "string", "maxLength": grammar.SSH_KEY_MAX},
        "propertyNames": {"enum": list(grammar.CREDENTIAL_FIELDS)},
        "errorMessage": "must be {username?, password}, {username?, token}, {ssh_key} or {agent}",
        "maxProperties": 2,
        "description": "For https {username?, password} or {username?, token}; for ssh {ssh_key}, a key without "
        "passphrase, or {agent}, the token of an ssh agent that is forwarded for this call. Used for this call only, "
        "sent only to the URL's host, stored nowhere.",
    }
)
KNOWN_HOSTS = Keywords(
    {
        "type": "array",
        "items": {"type": "string", "maxLength": 8192},
        "maxItems": grammar.KNOWN_HOSTS_MAX,
        "description": "Lines `HOST KEYTYPE KEY`, trusted for this call in addition to the known_hosts of the "
        "workspace's user. An ssh host whose key is in neither is refused.",
    }
)
TIMEOUT = Keywords(
    {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 3600,
        "description": f"Default {TIMEOUT_S:.0f}.",
        "x-default-s": TIMEOUT_S,
    }
)


REPO = Keywords(
    {
        "required": ["url"],
        "additionalProperties": False,
        "properties": {
            "url": URL,
            "name": {"type": "string", "pattern": f"^{NAME}$", "errorMessage": f"must be {NAME_HINT}"},
            "ref": REF,
            "depth": DEPTH,
            "credential": CREDENTIAL,
            "known_hosts": KNOWN_HOSTS,
            "timeout_s": TIMEOUT,
        },
        "description": "The repository to clone into it, with the parameters of repo.clone.",
    }
)


class RepoRequest(NamedTuple):
    """A repository to create: the arguments of its git job. `url` is None for an empty repository."""

    name: str
    url: Optional[str]
    arguments: Dict[str, Any]
    timeout_s: float
    descriptor: Optional[int] = None
    request_id: Optional[str] = None


@contextmanager
def clone_request(context: Context, **params: Any) -> Iterator[RepoRequest]:
    """Yield the request for a clone, with the ssh agent that is forwarded for it; InvalidParams if either is wrong."""
    request = parse_clone(**params)
    with context.forwarded_agents.claim(request.arguments["credential"].get("agent")) as descriptor:
        yield request._replace(descriptor=descriptor)


def parse_clone(
    *,
    url: str,
    name: Optional[str] = None,
    ref: Optional[str] = None,
    depth: Optional[int] = None,
    credential: Optional[Dict[str, str]] = None,
    known_hosts: Optional[List[str]] = None,
    timeout_s: Optional[float] = None,
) -> RepoRequest:
    """Return the request for a clone; InvalidParams if a parameter is wrong."""
    name = name or grammar.name_from_url(grammar.parse_url(url))
    limit_s = TIMEOUT_S if timeout_s is None else float(timeout_s)
    arguments = {
        "action": "clone",
        "url": url,
        "host": grammar.host_of(url) if url.startswith("https:") else "",
        "ref": None if ref is None else grammar.parse_ref(ref),
        "depth": depth,
        "credential": grammar.parse_credential(credential, url),
        "known_hosts": grammar.parse_known_hosts(known_hosts or []),
    }
    return RepoRequest(name, url, arguments, limit_s)


def create(context: Context, workspace: str, request: RepoRequest) -> Repo:
    """Create a repository in a workspace and return it; AlreadyExists or InUse when its name is taken."""
    name, token = request.name, uuid.uuid4().hex
    pending = {"name": name, "url": request.url, "state": "pending", "token": token, "request_id": request.request_id}
    earlier = context.store.claim_repo(workspace, pending)
    if earlier is not None and earlier["state"] == "ready":
        raise AlreadyExists(f"repo {name!r} exists in workspace {workspace!r}", hint=f"inv repo.get {workspace} {name}")
    if earlier is not None:
        raise InUse(f"repo {name!r} of workspace {workspace!r} is being created", hint="try again")
    try:
        wanted = {"workspace": workspace, "name": name, **request.arguments}
        head = git_jobs.create(
            context.runtimes, workspace, wanted, token, request.timeout_s,
            descriptor=request.descriptor, for_clone=request.url is not None and is_offline(context, workspace),
        )  # fmt: skip
    except AgentError as error:
        return roll_back(context, workspace, name, request.request_id, error)
    if not context.store.complete_repo(workspace, {**pending, "state": "ready"}):
        raise NotFound(f"workspace {workspace!r} was deleted meanwhile")
    return show(workspace, pending, head)


def roll_back(
    context: Context, workspace: str, name: str, request_id: Optional[str], reason: Optional[AgentError] = None
) -> Repo:
    """Return a repository whose creation was interrupted if it is whole; otherwise remove it and raise.

    Raises `reason`, or CommandFailed without one. Another call may have taken the name since: its repository stays.
    """
    document = context.store.get_repo(workspace, name)
    if document is not None and document["state"] == "pending":
        try:
            context.runtimes.wait(workspace, document["token"])
            done = context.helper.call("repo.settle", workspace=workspace, name=name, token=document["token"])
        except AgentError as error:  # its name stays claimed until the helper has removed or completed it
            raise error.as_pending() from None
        if done["is_made"] and context.store.complete_repo(workspace, {**document, "state": "ready"}):
            return read(context, workspace, [document])[0]
        context.store.remove_repo(workspace, name)
    elif document is not None and is_of(document, request_id):
        return read(context, workspace, [document])[0]
    if reason is None or reason.is_pending:
        text = f"creating repo {name!r} was cut off; nothing of it is left"
        raise CommandFailed(text, hint="try again", command="git", exit_code=None, stderr="")
    raise reason


def is_offline(context: Context, workspace: str) -> bool:
    """Return whether a workspace has no network, or an allow-list: the operator's clone goes another way."""
    sandbox = (context.store.get_workspace(workspace) or {}).get("sandbox")
    return sandbox is not None and sandbox["network"] != "full"


def is_of(document: Dict[str, Any], request_id: Optional[str]) -> bool:
    """Return whether the call with this request_id created the repository."""
    return bool(document.get("request_id") == request_id)


def read(context: Context, workspace: str, documents: List[Dict[str, Any]]) -> List[Repo]:
    """Return stored repositories with their current branch and commit, which the workspace's login reads."""
    if not documents:
        return []
    names = [document["name"] for document in documents]
    heads = git_jobs.read(context.runtimes, workspace, names)
    return [show(workspace, document, heads[document["name"]]) for document in documents]


def show(workspace: str, document: Dict[str, Any], head: Dict[str, Any]) -> Repo:
    """Return a stored repository and what git says of it as a record of the contract."""
    return {
        "name": document["name"],
        "path": f"{path_of(workspace)}/code/{document['name']}",
        "url": document["url"],
        "branch": head["branch"],
        "commit": head["commit"],
        "left_out": head["left_out"],
        "ahead": head["ahead"],
        "behind": head["behind"],
        "updated": head["updated"],
        "new_commits": head["new_commits"],
    }
