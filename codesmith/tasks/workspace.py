"""Workspaces on a node: logins with a directory and a home, and the commands run in them."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

from typing import Any, Unpack

from invoke.context import Context

from codesmith.cli import arguments, output
from codesmith.cli.limit_options import NETWORKS
from codesmith.cli.task import task
from codesmith.errors import BadArgument
from codesmith.fleet import lists, one_node, selection
from codesmith.fleet.one_node import OneNode
from codesmith.fleet.report import Row
from codesmith.fleet.selection import Choice
from codesmith.sdk.api import Execution, Usage, Workspace, WorkspaceDeleted
from codesmith.sdk.ended import Ended
from codesmith.workspace import denied_hosts, exec_options
from codesmith.workspace.exec_options import ExecOptions, Executed
from codesmith.workspace.task_options import CREATE_HELP, FORWARD_HELP, CreateTask, ForwardTask

Forwarded = list[dict[str, Any]]

COPY_COLUMNS = ("files", "bytes", "deleted", "by", "seconds")
COLUMNS = ("name", "path", "login", "user", "shared_with", "state", "labels", "created_at")


@task(help=CREATE_HELP, choices={"network": NETWORKS})
def create(
    c: Context,
    name: str,
    user: str | None = None,
    ssh_key: list[str] | None = None,
    label: list[str] | None = None,
    repo: str | None = None,
    repo_name: str | None = None,
    **options: Unpack[CreateTask],
) -> Workspace | Row:
    """Create a workspace with a login of its own; --template and --repo fill it, --any chooses its node.

    With limits or a network it is in a sandbox from the start; if the node refuses them, there is no workspace.
    The setup of a template runs as a job; what it writes goes to standard error. With --any the record says the node.

    Example: workspace.create demo --template python --any --tag eu
    Example: workspace.create shop --memory 2G --cpus 1.5 --allow pypi.org
    Example: workspace.create site --repo https://git.example.org/team/site.git --ref main
    """
    from codesmith.workspace import creation

    wish = creation.Wish(name, user, ssh_key or (), label or (), repo, repo_name)
    return creation.run(wish, options, COLUMNS)


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

    return login.run(name, where, shell=shell, editor=editor)


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
    optional=("name",),
    help=exec_options.HELP,
    remainder="argv",
    exit_code=lambda ended: ended.exit_code,
)
def exec_(
    c: Context,
    name: str | None = None,
    argv: list[str] | None = None,
    **options: Unpack[ExecOptions],
) -> Execution | Ended | Executed:
    """Run a command in a workspace as its login, on the standard streams and the terminal of this process.

    Its exit code is that of the command. Ctrl-C goes to the command, a second one ends it with all it started, as does
    a cut connection (job.start outlives one). On a terminal Enter ~ . closes the connection, Enter ~ Ctrl-Z suspends.
    A Python caller gets exit_code, signal, killed_by and duration_s; with json=True the output, too.

    In several workspaces it runs at once: each line begins with its NODE/WORKSPACE, a summary follows on stderr, and
    the exit code is 0 if all have ended with 0. With --json they are one list.

    Example: workspace.exec demo -- make test
    Example: tar c src | inv workspace.exec demo --cwd code -- tar x
    Example: workspace.exec demo --tag eu -- git -C code/site rev-parse HEAD
    Example: workspace.exec --all -- df -h .
    """
    from codesmith.workspace import execution, executions

    command, streams = execution.parse_options(name, argv, options)
    if executions.is_for_several(options, name):
        return executions.run(options, command, streams)
    return execution.run(lists.one_of(options), command, streams)


@task(several="ports", help=FORWARD_HELP)
def forward(
    c: Context, name: str | None = None, ports: list[str] | None = None, **options: Unpack[ForwardTask]
) -> Forwarded:
    """Forward ports inside a workspace to the same ports of 127.0.0.1 here, until Ctrl-C or in the background.

    Any process of this machine may use them, as with ssh -L.

    Example: workspace.forward demo 3000 18000:8000 --open
    """
    from codesmith.workspace import forwarding

    return forwarding.run(name or "", ports or [], options)


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
