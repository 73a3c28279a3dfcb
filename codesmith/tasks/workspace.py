"""Workspaces on a node: a directory with an owner, and the commands run in it."""
# ruff: noqa: ARG001  Invoke hands every task a context; parameters are named as people type them

from __future__ import annotations

import shlex
from typing import Any, Unpack

from invoke.context import Context

import codesmith
from codesmith.cli import arguments, output
from codesmith.cli.arguments import CloneOptions
from codesmith.cli.task import task
from codesmith.errors import CodeSmithError
from codesmith.sdk.api import CreatedWorkspace, Execution, Workspace, WorkspaceDeleted
from codesmith.workspace.clone_credentials import credential_for

OPENED_COLUMNS = ("name", "user", "path", "opened_at", "command")
COLUMNS = ("name", "path", "user", "login", "state", "labels", "created_at")


@task(
    help={
        "name": "The workspace's name: 1 to 28 of a-z, 0-9 and inner hyphens.",
        "user": "Its owner, an existing user (default: a dedicated one of the same name).",
        "ssh_key": "A public key of the dedicated user, or a file with some; repeatable (default: none).",
        "label": "A label as KEY=VALUE; repeatable (default: none).",
        "repo": "The URL of a repository to clone into it; without it there is no workspace either (default: none).",
        "repo_name": "The repository's name, its directory in code/ (default: the last part of the URL).",
        **arguments.CLONE_HELP,
    }
)
def create(
    c: Context,
    name: str,
    user: str | None = None,
    ssh_key: list[str] | None = None,
    label: list[str] | None = None,
    repo: str | None = None,
    repo_name: str | None = None,
    node: str = "",
    file: str = "",
    json: bool = False,
    **how: Unpack[CloneOptions],
) -> CreatedWorkspace:
    """Create a workspace, owned by one login that nobody else shares; with --repo, of a repository's code.

    Example: workspace.create site --repo https://git.example.org/team/site.git --ref main
    """
    keys, labels = arguments.read_public_keys(ssh_key or []), arguments.parse_pairs(label or [], "--label")
    wanted = arguments.read_repo(repo, repo_name, how)
    given = (wanted or {}).get("credential")
    with (
        codesmith.connect(node, file) as client,
        credential_for(client, repo, given, forward_agent=how.get("forward_agent", False)) as credential,
    ):
        if wanted and credential:
            wanted["credential"] = credential
        workspace = client.workspace.create(name=name, user=user, ssh_keys=keys, labels=labels, repo=wanted)
        repos = client.repo.list(workspace=name) if wanted else []
    output.show(workspace, COLUMNS, json=json)
    for one in repos:
        output.say_left_out(one)
    output.warn(workspace.warnings)
    return workspace


@task(help={"name": "The workspace's name."}, harmless=True)
def get(c: Context, name: str, node: str = "", file: str = "", json: bool = False) -> Workspace:
    """Show one workspace."""
    with codesmith.connect(node, file) as client:
        workspace = client.workspace.get(name=name)
    output.show(workspace, COLUMNS, json=json)
    return workspace


@task(
    name="list",
    help={
        "user": "Only those of this user (default: of all).",
        "label": "Only those with this label, as KEY=VALUE; repeatable (default: any).",
    },
    harmless=True,
)
def list_(
    c: Context,
    user: str | None = None,
    label: list[str] | None = None,
    node: str = "",
    file: str = "",
    json: bool = False,
) -> list[Workspace]:
    """Show the workspaces of a node."""
    labels = arguments.parse_pairs(label or [], "--label")
    with codesmith.connect(node, file) as client:
        workspaces = client.workspace.list(user=user, labels=labels)
    output.show(workspaces, COLUMNS, json=json)
    return workspaces


@task(
    help={
        "name": "The workspace's name.",
        "shell": "Enter it at once, by ssh, with this terminal (default: only show how).",
        "editor": "Open it in an editor of this machine: code (default: none).",
    },
    choices={"editor": ("code",)},
)
def open(  # noqa: A001
    c: Context,
    name: str,
    shell: bool = False,
    editor: str | None = None,
    node: str = "",
    file: str = "",
    json: bool = False,
) -> dict[str, Any]:
    """Show how to enter a workspace, or enter it with --shell or --editor."""
    from codesmith.fleet import selection
    from codesmith.workspace import login as logins

    with codesmith.connect(node, file) as client:
        opened = client.workspace.open(name=name)
        keys = client.user.get(name=opened.user).ssh_keys if shell or editor else []
    login = opened.login
    way = logins.login_command(name, selection.registry(file).one(node), login.user, login.directory, login.environment)
    if shell or editor:
        logins.check_key(way, [key.fingerprint for key in keys], opened.user)
    if shell:
        logins.enter(way)
    if editor:
        logins.edit(way, editor)
    shown = {**opened.to_dict(), "command": shlex.join(way.ssh), "editor_uri": way.editor_uri}
    output.show(shown, OPENED_COLUMNS, json=json)
    return shown


@task(
    help={
        "name": "The workspace's name.",
        "label": "A label as KEY=VALUE; repeatable; those given are all it has afterwards (default: none).",
        "no_labels": "Take all its labels away (default: they stay).",
    }
)
def update(
    c: Context,
    name: str,
    label: list[str] | None = None,
    no_labels: bool = False,
    node: str = "",
    file: str = "",
    json: bool = False,
) -> Workspace:
    """Write the labels of a workspace."""
    labels = {} if no_labels else arguments.parse_pairs(label or [], "--label")
    if labels is None or (no_labels and label):
        raise CodeSmithError("either --label or --no-labels", hint=f"inv workspace.update {name} --label team=a")
    with codesmith.connect(node, file) as client:
        workspace = client.workspace.update(name=name, labels=labels)
    output.show(workspace, COLUMNS, json=json)
    return workspace


@task(help={"name": "The workspace's name.", "user": "Its new owner, an existing and active user."})
def assign(c: Context, name: str, user: str, node: str = "", file: str = "", json: bool = False) -> Workspace:
    """Give a workspace to another user; all that the previous owner has running ends."""
    with codesmith.connect(node, file) as client:
        workspace = client.workspace.assign(name=name, user=user)
    output.show(workspace, COLUMNS, json=json)
    return workspace


@task(help={"name": "The workspace's name.", "keep_user": "Leave its dedicated user (default: it goes too)."})
def delete(
    c: Context, name: str, keep_user: bool = False, node: str = "", file: str = "", json: bool = False
) -> WorkspaceDeleted:
    """Delete a workspace with all that is in it."""
    with codesmith.connect(node, file) as client:
        deleted = client.workspace.delete(name=name, keep_user=keep_user)
    output.show(deleted, json=json)
    return deleted


@task(
    name="exec",
    help={
        "name": "The workspace's name.",
        "argv": "The command and its arguments; on a command line they stand behind `--`.",
        "cwd": "The directory, relative to the workspace (default: the workspace).",
        "env": "A variable as KEY=VALUE; repeatable (default: none).",
        "timeout": "Seconds after which it is ended (default: 60).",
        "stdin": "A file that it reads as its standard input, - for that of this command (default: nothing).",
    },
    remainder="argv",
    exit_code=lambda execution: execution.exit_code,
)
def exec_(
    c: Context,
    name: str,
    argv: list[str] | None = None,
    cwd: str | None = None,
    env: list[str] | None = None,
    timeout: float | None = None,
    stdin: str | None = None,
    node: str = "",
    file: str = "",
    json: bool = False,
) -> Execution:
    """Run a command in a workspace as its user; its exit code and its output are passed through, byte for byte.

    Example: workspace.exec demo -- git --version
    """
    if not argv or not argv[0].strip():
        raise CodeSmithError("no command to run", hint=f"inv workspace.exec {name} -- git --version")
    given = arguments.read_input(stdin)
    variables = arguments.parse_pairs(env or [], "--env")
    with codesmith.connect(node, file) as client:
        execution = client.workspace.exec(name=name, argv=argv, cwd=cwd, env=variables, timeout_s=timeout, **given)
    output.show_execution(execution, json=json)
    return execution
