"""user.*: the users that CodeSmith created, each with its own Unix account."""

from __future__ import annotations

from typing import Annotated, Any, Dict, Iterator, List, Optional

from agent.contract.fields import Fingerprints, Keywords, Labels, Name, RequestId, SshKeys
from agent.contract.method import BY_HELPER, method
from agent.contract.records.user import SshKey, User, UserDeleted, UserDetails
from agent.frontend import user_records
from agent.frontend.context import Context
from agent.shared import ownership, sshkeys, uids
from agent.shared.errors import AgentError, AlreadyExists, InUse, InvalidParams, NotFound, ReadOnly, printable
from agent.shared.names import login_of

DRIFT_REPLY_TIMEOUT_S = 6.0
KEYS_MAX = 64


@method("user.create", scope="operator", errors=(AlreadyExists, *BY_HELPER), mutates=True)
def create(
    context: Context, *, name: Name, ssh_keys: Optional[SshKeys] = None, request_id: Optional[RequestId] = None
) -> User:
    """Create a user: somebody who may enter workspaces, with a Unix account cs-NAME that owns no files.

    Who has one of `ssh_keys` comes in by `ssh cs-NAME@NODE`, and is inside a workspace that the user may enter. That is
    the only way: nobody gets in by the account through cron, at, a password or a user manager. A name is one thing on a
    node, a user or a workspace, or a workspace and its own dedicated user. A Unix account or group of that name that
    CodeSmith did not create is left alone: not_managed.
    """
    if context.store.get_user(name) is not None:
        raise AlreadyExists(f"user {name!r} exists", hint=f"inv user.get {name}")
    if context.store.get_workspace(name) is not None:
        problem = f"workspace {name!r} exists, and a name is one thing on a node"
        raise AlreadyExists(problem, hint=f"inv workspace.get {name}")
    keys = sshkeys.read_keys(ssh_keys or [])
    account = context.helper.call("user.ensure", name=name)
    account.update(user_records.give_keys(context, name, keys))
    return show(user_records.add(context, name, account, keys, is_dedicated=False))


@method("user.get", scope="operator", errors=(NotFound, ReadOnly))
def get(context: Context, *, name: Name) -> UserDetails:
    """Return one user, and how its account differs from what CodeSmith made."""
    document = user_records.find(context, name)
    if not ownership.is_user(document):
        raise NotFound(
            f"the Unix account {login_of(name)!r} is not the one that CodeSmith made", hint="inv node.health"
        )
    overlaps = [
        f"its uid {document['uid']} is {owner}" for owner in uids.owners_of(document["uid"], uids.subordinates())
    ]
    return {**show(document), "drift": [*drift(context, name).get(name, []), *overlaps]}


@method(
    "user.list",
    scope="operator",
    errors=(ReadOnly,),
)
def list_(
    context: Context,
    *,
    labels: Annotated[
        Optional[Labels],
        Keywords({"description": "Only users that own a workspace with all of these labels (default: all users)."}),
    ] = None,
) -> Iterator[User]:
    """Return all users that CodeSmith created, by name; or those that own a workspace with the given labels."""
    users = map(show, ownership.managed_logins(context.store.list_users()))
    if not labels:
        return users
    owners = {one["user"] for one in context.store.list_workspaces() if labels.items() <= one["labels"].items()}
    return (user for user in users if user["name"] in owners)


@method("user.set_keys", scope="operator", errors=(NotFound, ReadOnly, *BY_HELPER), mutates=True, decides="keys")
def set_keys(context: Context, *, name: Name, ssh_keys: SshKeys, request_id: Optional[RequestId] = None) -> User:
    """Replace all public keys of a user; a session that is open stays."""
    return _put_keys(context, user_records.find(context, name), sshkeys.read_keys(ssh_keys))


@method("user.add_keys", scope="operator", errors=(NotFound, ReadOnly, *BY_HELPER), mutates=True, decides="keys")
def add_keys(context: Context, *, name: Name, ssh_keys: SshKeys, request_id: Optional[RequestId] = None) -> User:
    """Add public keys to those of a user; one that is there stays as it is."""
    document = user_records.find(context, name)
    there = {sshkeys.describe(line).fingerprint for line in document["keys"]}
    added = [line for line in sshkeys.read_keys(ssh_keys) if sshkeys.describe(line).fingerprint not in there]
    if len(document["keys"]) + len(added) > KEYS_MAX:
        raise InvalidParams.of("ssh_keys", f"make it more than {KEYS_MAX} keys of user {name!r}")
    return _put_keys(context, document, [*document["keys"], *added])


@method("user.remove_keys", scope="operator", errors=(NotFound, ReadOnly, *BY_HELPER), mutates=True, decides="keys")
def remove_keys(
    context: Context, *, name: Name, fingerprints: Fingerprints, request_id: Optional[RequestId] = None
) -> User:
    """Remove public keys of a user by their fingerprints, SHA256:...; not_found when one of them is not there."""
    document = user_records.find(context, name)
    fingerprint_of = {line: sshkeys.describe(line).fingerprint for line in document["keys"]}
    unknown = [one for one in fingerprints if one not in fingerprint_of.values()]
    if unknown:
        raise NotFound(f"user {name!r} has no key {unknown[0]}", hint=f"inv user.get {name} --json")
    kept = [line for line in document["keys"] if fingerprint_of[line] not in fingerprints]
    return _put_keys(context, document, kept)


@method("user.disable", scope="operator", errors=(NotFound, *BY_HELPER), mutates=True, decides="state", makes_room=True)
def disable(context: Context, *, name: Name, request_id: Optional[RequestId] = None) -> User:
    """Disable a user: all that runs in its workspaces, and in those shared with it, is ended, and it enters none.

    Its sessions at the node's sshd end too, and its keys let nobody in.
    Its workspaces are closed to all (mode 0000), and nothing runs there. Nothing is lost: user.enable restores them.
    """
    document = user_records.find(context, name)
    with context.job_watch.while_ending(context.store.workspaces_open_to(name)):
        done = context.helper.call("user.disable", name=name)
        return _put(context, {**document, **done, "state": "disabled"})


@method("user.enable", scope="operator", errors=(NotFound, *BY_HELPER), mutates=True, decides="state")
def enable(context: Context, *, name: Name, request_id: Optional[RequestId] = None) -> User:
    """Enable a disabled user again, and correct what was changed about its account (`drift`).

    The accounts of its workspaces, and account and keys of an active user, are corrected too.
    """
    document = user_records.find(context, name)
    context.helper.call("user.enable", name=name)
    done = context.helper.call("user.put_keys", name=name, keys=document["keys"])
    return _put(context, {**document, **done, "state": "active"})


@method("user.delete", scope="operator", errors=(NotFound, *BY_HELPER), mutates=True, makes_room=True)
def delete(context: Context, *, name: Name, request_id: Optional[RequestId] = None) -> UserDeleted:
    """Delete a user and its account. What runs in workspaces that are shared with it is ended.

    Refused with in_use while it owns workspaces. `leftovers` names what could not be removed.
    """
    document = context.store.get_user(name)
    if document is None:
        user_records.check_not_workspace(context, name)
        if not ownership.is_user_on_node(name):
            raise NotFound(f"no user {name!r} on this node", hint="inv user.list")
    if document is not None and document["workspaces"]:
        owned = ", ".join(document["workspaces"])
        raise InUse(f"user {name!r} owns workspaces: {owned}", hint=f"inv workspace.delete {document['workspaces'][0]}")
    with context.job_watch.while_ending(context.store.workspaces_open_to(name)):
        done = context.helper.call("user.remove", name=name)
        context.store.remove_user(name)
    return {"name": name, "deleted": True, "leftovers": [printable(path) for path in done["leftovers"]]}


def drift(context: Context, name: Optional[str] = None) -> Dict[str, List[str]]:
    """Return how accounts differ from what CodeSmith created, by user. The helper checks: only root can see it all."""
    try:
        reply = context.helper.call("user.drift", reply_timeout_s=DRIFT_REPLY_TIMEOUT_S, name=name)
    except AgentError as error:
        return {name or "": [f"not checked: {error.problem}"]}
    drifts: Dict[str, List[str]] = reply["drift"]
    return {user: [printable(text) for text in texts] for user, texts in drifts.items() if texts}


def _put_keys(context: Context, document: Dict[str, Any], keys: List[str]) -> User:
    """Replace the keys of a user on the node, then in the store; those of a disabled user let nobody in until later."""
    is_active = document["state"] == "active"
    done = context.helper.call("user.put_keys", name=document["name"], keys=keys) if is_active else {}
    return _put(context, {**document, **done, "keys": keys})


def _put(context: Context, document: Dict[str, Any]) -> User:
    """Store a changed document and return it as a record of the contract."""
    context.store.put_user({key: value for key, value in document.items() if key != "workspaces"})
    return show(document)


def show(document: Dict[str, Any]) -> User:
    """Return a stored user as a record of the contract."""
    return {
        "name": document["name"],
        "login": document["login"],
        "uid": document["uid"],
        "gid": document["gid"],
        "home": document["home"],
        "shell": document["shell"],
        "state": document["state"],
        "ssh_keys": [_ssh_key(line) for line in document["keys"]],
        "workspaces": document["workspaces"],
        "created_at": document["created_at"],
    }


def _ssh_key(line: str) -> SshKey:
    key = sshkeys.describe(line)
    return {"type": key.type, "fingerprint": key.fingerprint, "comment": key.comment}
