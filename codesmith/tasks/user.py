"""Users on a node: who may enter workspaces; each has a Unix account that owns no files."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

from typing import Unpack

from invoke.context import Context

from codesmith.cli import arguments
from codesmith.cli.task import task
from codesmith.errors import CodeSmithError, UnknownName
from codesmith.fleet import lists, one_node
from codesmith.fleet.one_node import OneNode
from codesmith.fleet.report import Row
from codesmith.fleet.selection import Choice
from codesmith.sdk.api import User, UserDeleted, UserDetails
from codesmith.sdk.client import Client

COLUMNS = ("name", "login", "uid", "state", "workspaces", "created_at")


@task(
    help={
        "name": "The user's name: 1 to 28 of a-z, 0-9 and inner hyphens.",
        "ssh_key": "A public key, or a file of them, for ssh cs-NAME@HOST; repeatable (default: none).",
    }
)
def create(c: Context, name: str, ssh_key: list[str] | None = None, **where: Unpack[OneNode]) -> User:
    """Create a user and its Unix account cs-NAME.

    Example: user.create alice --ssh-key ~/.ssh/id_ed25519.pub
    """
    keys = arguments.read_public_keys(ssh_key or [])
    return one_node.call(where, lambda client: client.user.create(name=name, ssh_keys=keys), COLUMNS)


@task(help={"name": "The user's name."}, harmless=True, watchable=True)
def get(c: Context, name: str, **where: Unpack[OneNode]) -> UserDetails:
    """Show one user, and how its account differs from what CodeSmith created (drift).

    Example: user.get alice
    """
    return one_node.call(where, lambda client: client.user.get(name=name), (*COLUMNS, "ssh_keys", "drift"))


@task(
    name="list",
    help={"label": "Only users who own a workspace with this label, as KEY=VALUE; repeatable (default: all)."},
    harmless=True,
    watchable=True,
)
def list_(c: Context, label: list[str] | None = None, **choice: Unpack[Choice]) -> list[User] | list[Row]:
    """Show the users of a node, or of several.

    Example: user.list --label team=red
    """
    labels = arguments.parse_pairs(label or [], "--label")
    return lists.show(choice, lambda client: client.user.list(labels=labels), COLUMNS)


@task(
    name="set-keys",
    help={
        "name": "The user's name.",
        "ssh_key": "A public key, or a file of public keys; repeatable (default: none; then --no-keys is needed).",
        "no_keys": "Remove all keys of the user (default: the keys are replaced).",
    },
)
def set_keys(
    c: Context,
    name: str,
    ssh_key: list[str] | None = None,
    no_keys: bool = False,
    **where: Unpack[OneNode],
) -> User:
    """Replace all public keys of a user, or remove them with --no-keys."""
    if bool(ssh_key) == no_keys:
        raise CodeSmithError(
            "user.set-keys takes either --ssh-key or --no-keys", hint=f"inv user.set-keys {name} --ssh-key FILE"
        )
    keys = arguments.read_public_keys(ssh_key or []) or []
    return one_node.call(where, lambda client: client.user.set_keys(name=name, ssh_keys=keys), COLUMNS)


@task(
    name="add-keys",
    help={
        "name": "The user's name.",
        "ssh_key": "A public key, or a file of public keys; repeatable; at least one (default: none).",
    },
)
def add_keys(c: Context, name: str, ssh_key: list[str] | None = None, **where: Unpack[OneNode]) -> User:
    """Let one more key in: add public keys to those of a user.

    Example: user.add-keys alice --ssh-key new.pub
    """
    keys = arguments.read_public_keys(ssh_key or [])
    if not keys:
        raise CodeSmithError("user.add-keys takes at least one key", hint=f"inv user.add-keys {name} --ssh-key FILE")
    return one_node.call(where, lambda client: client.user.add_keys(name=name, ssh_keys=keys), COLUMNS)


@task(
    name="remove-keys",
    help={
        "name": "The user's name.",
        "key": "A key's fingerprint (SHA256:...) or its comment, as user.get shows them; repeatable; at least one "
        "(default: none).",
    },
)
def remove_keys(c: Context, name: str, key: list[str] | None = None, **where: Unpack[OneNode]) -> User:
    """Keep a key out again: remove public keys of a user. Sessions that are open stay.

    Example: user.remove-keys alice --key alice@old-laptop
    """
    if not key:
        raise CodeSmithError(
            "user.remove-keys takes at least one key", hint=f"inv user.remove-keys {name} --key FINGERPRINT"
        )
    return one_node.call(where, lambda client: remove(client, name, key), COLUMNS)


def remove(client: Client, name: str, keys: list[str]) -> User:
    """Remove the keys with these fingerprints or comments; UnknownName for one that the user does not have."""
    wanted = [one for one in keys if one.startswith("SHA256:")]
    comments = [one for one in keys if not one.startswith("SHA256:")]
    if comments:
        there = client.user.get(name=name).ssh_keys
        for comment in comments:
            found = [one.fingerprint for one in there if one.comment == comment]
            if not found:
                problem = f"user {name} has no key with the comment {comment!r}"
                raise UnknownName(problem, hint=f"inv user.get {name} --json")
            wanted += found
    return client.user.remove_keys(name=name, fingerprints=list(dict.fromkeys(wanted)))


@task(help={"name": "The user's name."})
def disable(c: Context, name: str, **where: Unpack[OneNode]) -> User:
    """Lock a user out: end what runs in its workspaces, and close them, until user.enable; nothing is deleted.

    Example: user.disable alice
    """
    return one_node.call(where, lambda client: client.user.disable(name=name), COLUMNS)


@task(help={"name": "The user's name."})
def enable(c: Context, name: str, **where: Unpack[OneNode]) -> User:
    """Let a disabled user in again, and open its workspaces.

    Example: user.enable alice
    """
    return one_node.call(where, lambda client: client.user.enable(name=name), COLUMNS)


@task(help={"name": "The user's name."})
def delete(c: Context, name: str, yes: bool = False, **where: Unpack[OneNode]) -> UserDeleted:
    """Delete a user and its account; refused while it owns workspaces.

    Example: user.delete alice
    """
    from codesmith.workspace import losses

    return one_node.destroy(
        where,
        f"user {name}",
        lambda client: losses.of_user(client, name),
        lambda client: client.user.delete(name=name),
        yes=yes,
    )
