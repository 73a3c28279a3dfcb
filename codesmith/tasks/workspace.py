"""Workspaces on a node: logins with a directory and a home, and the commands run in them."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any, Unpack

from invoke.context import Context

from codesmith.cli import arguments, output
from codesmith.cli.hints import completed
from codesmith.cli.task import task
from codesmith.errors import BadArgument, CodeSmithError
from codesmith.fleet import lists, one_node, selection
from codesmith.fleet.one_node import OneNode
from codesmith.fleet.report import Row
from codesmith.fleet.selection import Choice
from codesmith.sdk.api import Execution, Usage, Workspace, WorkspaceDeleted
from codesmith.sdk.ended import Ended
from codesmith.workspace import denied_hosts
from codesmith.workspace.clone_credentials import CloneTask, credential_for

Forwarded = list[dict[str, Any]]

# The exit code of a program that is not there; what a shell would have understood.
NOT_FOUND, OF_A_SHELL = 127, frozenset(" |&;<>*$")
FORWARD_COLUMNS = ("workspace", "port", "address", "state", "reason")
COPY_COLUMNS = ("files", "bytes", "deleted", "by", "seconds")
OPENED_COLUMNS = ("name", "user", "path", "opened_at", "command")
COLUMNS = ("name", "path", "login", "user", "shared_with", "state", "labels", "created_at")


@task(
    help={
        "name": "The workspace's name: 1 to 28 of a-z, 0-9 and inner hyphens.",
        "user": "Who may open it, an existing user (default: a new user of the same name, for this workspace alone).",
        "ssh_key": "A public key of the new user, or a file of public keys; repeatable; kept, but lets nobody in yet "
        "(default: none).",
        "label": "A label as KEY=VALUE; repeatable (default: none).",
        "repo": "The URL of a repository to clone into it; no workspace is created if that fails (default: none).",
        "repo_name": "The repository's name and its directory in code/ (default: the last part of the URL).",
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
    **options: Unpack[CloneTask],
) -> Workspace:
    """Create a workspace with a login of its own; with --repo, clone a repository into it.

    Example: workspace.create site --repo https://git.example.org/team/site.git --ref main
    """
    keys, labels = arguments.read_public_keys(ssh_key or []), arguments.parse_pairs(label or [], "--label")
    source = arguments.read_repo(repo, repo_name, options)
    given = (source or {}).get("credential")
    with (
        one_node.connect(options) as client,
        credential_for(client, repo, given, forward_agent=options.get("forward_agent", False)) as credential,
    ):
        if source and credential:
            source["credential"] = credential
        workspace = client.workspace.create(name=name, user=user, ssh_keys=keys, labels=labels, repo=source)
        repos = client.repo.list(workspace=name) if source else []
    one_node.show(options, workspace, COLUMNS)
    for cloned in repos:
        output.say_left_out(cloned)
    return workspace


@task(help={"name": "The workspace's name."}, harmless=True, watchable=True)
def get(c: Context, name: str, **where: Unpack[OneNode]) -> Workspace:
    """Show one workspace.

    Example: workspace.get shop --json
    """
    return one_node.call(where, lambda client: client.workspace.get(name=name), COLUMNS)


@task(
    name="list",
    help={
        "user": "Only workspaces of this user (default: of all users).",
        "label": "Only workspaces with this label, as KEY=VALUE; repeatable (default: any).",
    },
    harmless=True,
    watchable=True,
)
def list_(
    c: Context,
    user: str | None = None,
    label: list[str] | None = None,
    **choice: Unpack[Choice],
) -> list[Workspace] | list[Row]:
    """Show the workspaces of a node, or of several.

    Example: workspace.list --user alice --label team=red
    Example: workspace.list --all
    """
    labels = arguments.parse_pairs(label or [], "--label")
    return lists.show(choice, lambda client: client.workspace.list(user=user, labels=labels), COLUMNS)


@task(
    help={
        "name": "The workspace's name.",
        "shell": "Enter it at once, with ssh on this terminal (default: only show how).",
        "editor": "Open it in an editor of this machine; `print` prints what to open in one (default: none).",
    },
    choices={"editor": ("code", "cursor", "windsurf", "zed", "print")},
)
def open(  # noqa: A001
    c: Context,
    name: str,
    shell: bool = False,
    editor: str | None = None,
    **where: Unpack[OneNode],
) -> dict[str, Any]:
    """Show how to enter a workspace, or enter it with --shell or --editor.

    Example: workspace.open shop --shell
    """
    from codesmith.workspace import login
    from codesmith.workspace.ssh_config import SshConfig

    with one_node.connect(where) as client:
        opened = client.workspace.open(name=name)
    config = SshConfig(selection.registry(where.get("file") or ""))
    entrance = login.prepare(name, config, selection.one(where), opened.login.directory)
    if shell:
        login.enter(entrance)
    if editor:
        login.edit(entrance, editor)
    uri = entrance.editor_uri(editor or "code")
    row = {**opened.to_dict(), "command": shlex.join(entrance.ssh), "editor_uri": uri}
    if editor == login.PRINT and not where.get("json", False):
        output.write(f"{uri}\n")
    else:
        one_node.show(where, row, OPENED_COLUMNS)
    return row


@task(
    help={
        "name": "The workspace's name.",
        "label": "A label to set, as KEY=VALUE; repeatable; the other labels stay (default: none).",
        "remove_label": "The key of a label to remove; repeatable (default: none).",
        "no_labels": "Remove all labels but those set by --label (default: they stay).",
    }
)
def update(
    c: Context,
    name: str,
    label: list[str] | None = None,
    remove_label: list[str] | None = None,
    no_labels: bool = False,
    **where: Unpack[OneNode],
) -> Workspace:
    """Set and remove labels of a workspace.

    Example: workspace.update shop --label team=red --remove-label stage
    """
    wanted, removed = arguments.parse_pairs(label or [], "--label") or {}, remove_label or []
    if not wanted and not removed and not no_labels:
        problem = "workspace.update takes --label, --remove-label or --no-labels"
        raise BadArgument(problem, hint=f"inv workspace.update {name} --label team=a")
    if both := sorted(set(wanted) & set(removed)):
        raise BadArgument(f"--label and --remove-label both name {both[0]}")
    with one_node.connect(where) as client:
        before = client.workspace.get(name=name).labels if no_labels else removed
        workspace = client.workspace.update(name=name, labels={**dict.fromkeys(before), **wanted})
    one_node.show(where, workspace, COLUMNS)
    return workspace


@task(help={"name": "The workspace's name.", "user": "Who may open it from now on, an existing and active user."})
def assign(c: Context, name: str, user: str, **where: Unpack[OneNode]) -> Workspace:
    """Give a workspace to another user; the previous one loses access, and what runs in it ends.

    Example: workspace.assign shop alice
    """
    return one_node.call(where, lambda client: client.workspace.assign(name=name, user=user), COLUMNS)


@task(help={"name": "The workspace's name.", "user": "Who may enter it too, an existing and active user."})
def share(c: Context, name: str, user: str, **where: Unpack[OneNode]) -> Workspace:
    """Let another user enter a workspace too; all who enter it work as its one login.

    Example: workspace.share shop bob
    """
    return one_node.call(where, lambda client: client.workspace.share(name=name, user=user), COLUMNS)


@task(help={"name": "The workspace's name.", "user": "Who may not enter it any more."})
def unshare(c: Context, name: str, user: str, **where: Unpack[OneNode]) -> Workspace:
    """Keep a user out of a workspace that was shared with it; what runs in the workspace ends.

    Example: workspace.unshare shop bob
    """
    return one_node.call(where, lambda client: client.workspace.unshare(name=name, user=user), COLUMNS)


@task(help={"name": "The workspace's name."})
def start(c: Context, name: str, **where: Unpack[OneNode]) -> Workspace:
    """Start the runtime of a workspace; commands start it too.

    Example: workspace.start shop
    """
    return one_node.call(where, lambda client: client.workspace.start(name=name), COLUMNS)


@task(help={"name": "The workspace's name."})
def stop(c: Context, name: str, **where: Unpack[OneNode]) -> Workspace:
    """End everything that runs in a workspace.

    Example: workspace.stop shop
    """
    return one_node.call(where, lambda client: client.workspace.stop(name=name), COLUMNS)


@task(help={"name": "The workspace's name."}, harmless=True, watchable=True)
def usage(c: Context, name: str, **where: Unpack[OneNode]) -> Usage:
    """Show what a workspace uses, and each host that its list has refused with the command that allows it.

    Example: workspace.usage shop
    """
    found = one_node.call(where, lambda client: client.workspace.usage(name=name))
    for line in denied_hosts.notes(name, found.network.denied):
        output.say(line)
    return found


@task(
    help={
        "name": "The workspace's name.",
        "keep_user": "Keep the user that was created for it (default: that user is deleted too).",
    }
)
def delete(
    c: Context, name: str, keep_user: bool = False, yes: bool = False, **where: Unpack[OneNode]
) -> WorkspaceDeleted:
    """Delete a workspace and everything in it, after saying what that is.

    Example: workspace.delete shop
    """
    from codesmith.workspace import losses

    return one_node.destroy(
        where,
        f"workspace {name}",
        lambda client: losses.of_workspace(client, name, keep_user=keep_user),
        lambda client: client.workspace.delete(name=name, keep_user=keep_user),
        yes=yes,
    )


@task(
    name="exec",
    help={
        "name": "The workspace's name.",
        "argv": "The command and its arguments; on a command line they follow `--`.",
        "cwd": "The directory to run in, relative to the workspace (default: the workspace).",
        "env": "An environment variable as KEY=VALUE; repeatable (default: none).",
        "timeout": "Seconds after which the command is ended (default: none; with --json 60).",
        "stdin": "A file for its standard input, or - for standard input (default: standard input; with --json none).",
        "no_stdin": "It reads nothing, as `ssh -n`: for loops that read the same standard input (default: it reads).",
        "tty": "Give it a terminal, also if this is none (default: if standard input and output are one).",
        "no_tty": "Give it no terminal: stdout and stderr stay apart (default: see --tty).",
        "json": "Print exit code and output as JSON when it has ended: both ends of 1 MiB; Ctrl-C leaves it running.",
    },
    remainder="argv",
    exit_code=lambda ended: ended.exit_code,
)
def exec_(
    c: Context,
    name: str,
    argv: list[str] | None = None,
    cwd: str | None = None,
    env: list[str] | None = None,
    timeout: float | None = None,
    stdin: str | None = None,
    no_stdin: bool = False,
    tty: bool = False,
    no_tty: bool = False,
    **where: Unpack[OneNode],
) -> Execution | Ended:
    """Run a command in a workspace as its login, on the standard streams and the terminal of this process.

    Its exit code is that of the command. Ctrl-C goes to the command, a second one ends it with all it started, as does
    a cut connection (job.start outlives one). On a terminal Enter ~ . closes the connection, Enter ~ Ctrl-Z suspends.
    A Python caller gets exit_code, signal, killed_by and duration_s; with json=True the output, too.

    Example: workspace.exec demo -- make test
    Example: tar c src | inv workspace.exec demo --cwd code -- tar x
    """
    if not argv or not argv[0].strip():
        raise CodeSmithError("no command to run", hint=f"inv workspace.exec {name} -- git --version")
    variables = arguments.parse_pairs(env or [], "--env")
    if where.get("json", False):
        if tty:
            raise BadArgument("--json and --tty exclude each other")
        given = arguments.read_input(stdin)
        with one_node.connect(where) as client:
            execution = client.workspace.exec(name=name, argv=argv, cwd=cwd, env=variables, timeout_s=timeout, **given)
        output.show(execution, json=True)
        _say_no_shell(name, argv, execution.exit_code, where)
        return execution
    from codesmith.workspace import console

    command = console.Command(name, argv, cwd, variables, timeout)
    with console.opened(stdin, none=no_stdin) as source, one_node.connect(where) as client:
        terminal = console.wanted_tty(tty=tty, no_tty=no_tty, by_default=stdin is None and not no_stdin)
        ended = console.execute(client, command, source, terminal)
        denied_hosts.say_of_command(client, name, argv, ended.exit_code)
    _say_no_shell(name, argv, ended.exit_code, where)
    return ended


def _say_no_shell(name: str, argv: Sequence[str], exit_code: int | None, where: OneNode) -> None:
    """Say that no shell reads the command, if a line of a shell was given for a program."""
    if exit_code == NOT_FOUND and len(argv) == 1 and set(argv[0]) & OF_A_SHELL:
        hint = f"inv workspace.exec {name} -- sh -c {shlex.quote(argv[0])}"
        hint = completed(hint, node=where.get("node") or "", file=where.get("file") or "")
        output.say(f"hint: there is no shell: {hint}")


@task(
    several="ports",
    help={
        "name": "The workspace's name; --list alone needs none, and shows those of all.",
        "ports": "A port inside, as 3000, or 18000:8000 for 8000 inside at 18000 here; several may follow.",
        "open": "Open the first port in the browser (default: only print the address).",
        "background": "Keep them after this command, until --stop (default: until Ctrl-C).",
        "any": "Where a port of this machine is taken, use the next free one (default: an error).",
        "list": "Show the ports of the workspace that are forwarded in the background (default: forward).",
        "stop": "End those of the named ports, or all of the workspace (default: forward).",
    },
)
def forward(
    c: Context,
    name: str | None = None,
    ports: list[str] | None = None,
    open: bool = False,  # noqa: A002
    background: bool = False,
    any: bool = False,  # noqa: A002
    list: bool = False,  # noqa: A002
    stop: bool = False,
    **where: Unpack[OneNode],
) -> Forwarded:
    """Forward ports inside a workspace to the same ports of 127.0.0.1 here, until Ctrl-C or in the background.

    Any process of this machine may use them, as with ssh -L.

    Example: workspace.forward demo 3000 18000:8000 --open
    """
    from codesmith.workspace import forwarding

    is_json = where.get("json", False)
    if list and not name:
        chosen = selection.one(where) if where.get("node") else None
        rows = forwarding.look(chosen, chosen=(list, stop, background, open, any))
        output.show(rows, ("node", *FORWARD_COLUMNS), json=is_json)
        return rows
    if not name:
        raise BadArgument("workspace.forward needs NAME", hint="inv workspace.list")
    node = selection.one(where)
    if list or stop:
        rows = forwarding.look_or_end(node, name, ports or [], ends=stop, chosen=(list, stop, background, open, any))
        output.show(rows, FORWARD_COLUMNS, json=is_json)
        return rows
    ports_ = forwarding.read_ports(name, ports or [])
    if background:
        rows = forwarding.start(node, name, ports_, any_port=any, opens=open)
        output.show(rows, FORWARD_COLUMNS, json=is_json)
        return rows
    return forwarding.hold(node, name, ports_, any_port=any, opens=open, json=is_json)


@task(
    help={
        "source": "NAME:PATH in a workspace, relative to its directory, or a path here. A slash at its end means what "
        "is in the directory; without one the directory itself is copied, as by rsync: `src demo:new` is new/src.",
        "destination": "NAME:PATH or a path here. A directory (one that is there, or a slash at the end) is copied "
        "into; else it is the new file's name.",
        "delete": "Delete in the destination what is not in the source (default: it stays).",
    },
)
def copy(
    c: Context,
    source: str,
    destination: str,
    delete: bool = False,
    **where: Unpack[OneNode],
) -> dict[str, Any]:
    """Copy files and directories into a workspace or out of it; what is there already is not copied again.

    Modes, times and symbolic links are kept, as links; what goes in belongs to the workspace's login. A directory that
    is copied into keeps its own mode and times. NAME:/PATH is a file of the system as the workspace sees it.

    Example: workspace.copy site/ demo:code/site/ --delete
    """
    from codesmith.workspace import copy as copying

    row = copying.copy(selection.one(where), source, destination, delete=delete)
    one_node.show(where, row, COPY_COLUMNS)
    return row
