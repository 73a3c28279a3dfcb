"""The making of a repository: its name claimed, the helper asked, then complete or settled. Whole or absent."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from agent.contract.fields import Keywords
from agent.contract.method import BY_HELPER
from agent.contract.types import Repo
from agent.frontend.context import Context
from agent.git import grammar
from agent.shared.errors import AgentError, AlreadyExists, CommandFailed, Disabled, InUse, NotFound
from agent.shared.names import NAME, NAME_HINT, path_of

TIMEOUT_S = 600.0
REPLY_S = 60.0
ERRORS = (NotFound, AlreadyExists, Disabled, *BY_HELPER)

# What a clone takes, as JSON Schema.
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
        "description": "A branch, a tag, or a whole commit hash (default: the remote's own branch).",
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
        "passphrase, or {agent}, the token of an ssh agent that is lent to this call. Used for this call, sent to the "
        "URL's host alone, written down nowhere.",
    }
)
KNOWN_HOSTS = Keywords(
    {
        "type": "array",
        "items": {"type": "string", "maxLength": 8192},
        "maxItems": grammar.KNOWN_HOSTS_MAX,
        "description": "Lines `HOST KEYTYPE KEY`, believed for this call beside the known_hosts of the "
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
        "description": "What is cloned into it, as repo.clone takes it.",
    }
)


class Order(NamedTuple):
    """A repository to be made: the helper's verb and what it takes, for which call. `url` is null for an empty one."""

    verb: str
    name: str
    url: Optional[str]
    arguments: Dict[str, Any]
    reply_s: float
    descriptor: Optional[int] = None
    request_id: Optional[str] = None


@contextmanager
def ordered_clone(context: Context, **wanted: Any) -> Iterator[Order]:
    """Yield the order for a clone, with the ssh agent that is lent to it; InvalidParams before anything is done."""
    order = parse_clone(**wanted)
    with context.forwarded_agents.taken((order.arguments["credential"] or {}).get("agent")) as descriptor:
        yield order._replace(descriptor=descriptor)


def parse_clone(
    *,
    url: str,
    name: Optional[str] = None,
    ref: Optional[str] = None,
    depth: Optional[int] = None,
    credential: Optional[Dict[str, str]] = None,
    known_hosts: Optional[List[str]] = None,
    timeout_s: Optional[float] = None,
) -> Order:
    """Return the order for a clone; InvalidParams before anything is done."""
    name = name or grammar.name_of(grammar.parse_url(url))
    limit_s = TIMEOUT_S if timeout_s is None else float(timeout_s)
    grammar.parse_credential(credential, url)
    arguments = {
        "url": url,
        "ref": None if ref is None else grammar.parse_ref(ref),
        "depth": depth,
        "credential": credential,
        "known_hosts": grammar.parse_known_hosts(known_hosts or []),
        "timeout_s": limit_s,
    }
    return Order("repo.clone", name, url, arguments, limit_s + REPLY_S)


def make(context: Context, workspace: str, order: Order) -> Repo:
    """Carry out an order in a workspace that is fit for it."""
    name, token = order.name, uuid.uuid4().hex
    pending = {"name": name, "url": order.url, "state": "pending", "token": token, "request_id": order.request_id}
    earlier = context.store.claim_repo(workspace, pending)
    if earlier is not None and earlier["state"] == "ready":
        raise AlreadyExists(f"repo {name!r} exists in workspace {workspace!r}", hint=f"inv repo.get {workspace} {name}")
    if earlier is not None:
        raise InUse(f"repo {name!r} of workspace {workspace!r} is being made", hint="try again")
    try:
        found = context.helper.call(
            order.verb, reply_timeout_s=order.reply_s, descriptor=order.descriptor, workspace=workspace, name=name,
            token=token, **order.arguments,
        )  # fmt: skip
    except AgentError as error:
        return roll_back(context, workspace, name, order.request_id, error)
    if not context.store.complete_repo(workspace, {**pending, "state": "ready"}):
        raise NotFound(f"workspace {workspace!r} was deleted meanwhile")
    return show(workspace, pending, found)


def roll_back(
    context: Context, workspace: str, name: str, request_id: Optional[str], reason: Optional[AgentError] = None
) -> Repo:
    """End what failed or was cut off: complete when the repository had its name already, removed otherwise.

    Cut off before it began, its name may be taken by the repository of another call.
    """
    document = context.store.get_repo(workspace, name)
    if document is not None and document["state"] == "pending":
        try:
            done = context.helper.call("repo.settle", workspace=workspace, name=name, token=document["token"])
        except AgentError as error:  # its name stays taken until it is settled
            raise error.as_pending() from None
        if done["is_made"] and context.store.complete_repo(workspace, {**document, "state": "ready"}):
            return read(context, workspace, [document])[0]
        context.store.remove_repo(workspace, name)
    elif document is not None and is_of(document, request_id):
        return read(context, workspace, [document])[0]
    if reason is None or reason.is_pending:
        text = f"making repo {name!r} was cut off; nothing of it is left"
        raise CommandFailed(text, hint="try again", command="git", exit_code=None, stderr="")
    raise reason


def is_of(document: Dict[str, Any], request_id: Optional[str]) -> bool:
    """Tell whether a repository was made by the call with this request id."""
    return bool(document.get("request_id") == request_id)


def read(context: Context, workspace: str, documents: List[Dict[str, Any]]) -> List[Repo]:
    """Return stored repositories with their branch and commit as they are now."""
    if not documents:
        return []
    names = [document["name"] for document in documents]
    found = context.helper.call("repo.read", workspace=workspace, names=names)["repos"]
    return [show(workspace, document, found[document["name"]]) for document in documents]


def show(workspace: str, document: Dict[str, Any], found: Dict[str, Any]) -> Repo:
    """Return a stored document, and what git told of it, as the contract shows it."""
    return {
        "name": document["name"],
        "path": f"{path_of(workspace)}/code/{document['name']}",
        "url": document["url"],
        "branch": found["branch"],
        "commit": found["commit"],
        "left_out": found["left_out"],
    }
