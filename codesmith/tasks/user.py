"""Users on a node: each a Unix account of its own."""
# ruff: noqa: ARG001  Invoke hands every task a context; parameters are named as people type them

from __future__ import annotations

from invoke.context import Context

import codesmith
from codesmith.cli import arguments, output
from codesmith.cli.task import task
from codesmith.errors import CodeSmithError
from codesmith.sdk.api import CreatedUser, User, UserDeleted, UserDetails

COLUMNS = ("name", "login", "uid", "home", "state", "workspaces", "created_at")


@task(
    help={
        "name": "The user's name: 1 to 28 of a-z, 0-9 and inner hyphens.",
        "ssh_key": "A public key, or a file with some; repeatable (default: none).",
    }
)
def create(
    c: Context, name: str, ssh_key: list[str] | None = None, node: str = "", file: str = "", json: bool = False
) -> CreatedUser:
    """Create a user with a Unix account cs-NAME."""
    keys = arguments.read_public_keys(ssh_key or [])
    with codesmith.connect(node, file) as client:
        user = client.user.create(name=name, ssh_keys=keys)
    output.show(user, COLUMNS, json=json)
    output.warn(user.warnings)
    return user


@task(help={"name": "The user's name."}, harmless=True)
def get(c: Context, name: str, node: str = "", file: str = "", json: bool = False) -> UserDetails:
    """Show one user, and how its account differs from what CodeSmith made (drift)."""
    with codesmith.connect(node, file) as client:
        user = client.user.get(name=name)
    output.show(user, (*COLUMNS, "drift"), json=json)
    return user


@task(
    name="list",
    help={"label": "Only those who own a workspace with this label, as KEY=VALUE; repeatable (default: all)."},
    harmless=True,
)
def list_(c: Context, label: list[str] | None = None, node: str = "", file: str = "", json: bool = False) -> list[User]:
    """Show the users of a node."""
    labels = arguments.parse_pairs(label or [], "--label")
    with codesmith.connect(node, file) as client:
        users = client.user.list(labels=labels)
    output.show(users, COLUMNS, json=json)
    return users


@task(
    name="set-keys",
    help={
        "name": "The user's name.",
        "ssh_key": "A public key, or a file with some; repeatable (default: none; then --no-keys is needed).",
        "no_keys": "Take all its keys away, which lets nobody in (default: they are replaced).",
    },
)
def set_keys(
    c: Context,
    name: str,
    ssh_key: list[str] | None = None,
    no_keys: bool = False,
    node: str = "",
    file: str = "",
    json: bool = False,
) -> User:
    """Replace all public keys of a user, or take them away with --no-keys."""
    if bool(ssh_key) == no_keys:
        raise CodeSmithError("either --ssh-key or --no-keys", hint=f"inv user.set-keys {name} --ssh-key FILE")
    keys = arguments.read_public_keys(ssh_key or []) or []
    with codesmith.connect(node, file) as client:
        user = client.user.set_keys(name=name, ssh_keys=keys)
    output.show(user, COLUMNS, json=json)
    return user


@task(help={"name": "The user's name."})
def disable(c: Context, name: str, node: str = "", file: str = "", json: bool = False) -> User:
    """Close a user out and end all it runs, until it is enabled; nothing is lost."""
    with codesmith.connect(node, file) as client:
        user = client.user.disable(name=name)
    output.show(user, COLUMNS, json=json)
    return user


@task(help={"name": "The user's name."})
def enable(c: Context, name: str, node: str = "", file: str = "", json: bool = False) -> User:
    """Let a disabled user in again, as it was."""
    with codesmith.connect(node, file) as client:
        user = client.user.enable(name=name)
    output.show(user, COLUMNS, json=json)
    return user


@task(help={"name": "The user's name."})
def delete(c: Context, name: str, node: str = "", file: str = "", json: bool = False) -> UserDeleted:
    """Delete a user, its account and its home; refused while it owns workspaces."""
    with codesmith.connect(node, file) as client:
        deleted = client.user.delete(name=name)
    output.show(deleted, json=json)
    return deleted
