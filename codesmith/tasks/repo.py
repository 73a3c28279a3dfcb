"""Git repositories in workspaces."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

from typing import Unpack

from invoke.context import Context

from codesmith.cli import arguments, output
from codesmith.cli.task import task
from codesmith.fleet import one_node
from codesmith.fleet.one_node import OneNode
from codesmith.sdk.api import Repo, RepoDeleted
from codesmith.sdk.client import Client
from codesmith.workspace.clone_credentials import CloneTask, ExchangeTask, credential_for, exchange_with, options_of

COLUMNS = ("name", "path", "url", "branch", "commit", "ahead", "behind")


@task(
    help={
        "workspace": "The workspace's name.",
        "name": "The repository's name and its directory in code/ (default: the workspace's name).",
        "default_branch": "The name of its first branch (default: main).",
    }
)
def init(
    c: Context,
    workspace: str,
    name: str | None = None,
    default_branch: str | None = None,
    **where: Unpack[OneNode],
) -> Repo:
    """Create an empty repository in a workspace.

    Example: repo.init shop site --default-branch main
    """
    return one_node.call(
        where, lambda client: client.repo.init(workspace=workspace, name=name, default_branch=default_branch), COLUMNS
    )


@task(
    help={
        "workspace": "The workspace's name.",
        "url": "https://HOST/PATH, ssh://USER@HOST/PATH or USER@HOST:PATH, without a password or token in it.",
        "name": "The repository's name and its directory in code/ (default: the last part of the URL).",
        **arguments.CLONE_HELP,
    }
)
def clone(
    c: Context,
    workspace: str,
    url: str,
    name: str | None = None,
    **options: Unpack[CloneTask],
) -> Repo:
    """Clone a repository into a workspace, as the workspace's user.

    Example: repo.clone demo https://git.example.org/team/site.git --credential-file ~/token
    """
    source = arguments.read_repo(url, name, options) or {}
    given = source.pop("credential", None)

    def ask(client: Client) -> Repo:
        with credential_for(client, url, given, forward_agent=options.get("forward_agent", False)) as credential:
            return client.repo.clone(workspace=workspace, credential=credential, **source)

    repo = one_node.call(options, ask, COLUMNS)
    output.say_left_out(repo)
    if given is not None or options.get("forward_agent"):
        output.say_not_kept(workspace, repo, options_of(options))
    return repo


@task(help={"workspace": "The workspace's name.", "name": "The repository's name.", **arguments.EXCHANGE_HELP,
            "ref": "The branch or tag to pull (default: what the current branch follows)."})  # fmt: skip
def pull(c: Context, workspace: str, name: str, **options: Unpack[ExchangeTask]) -> Repo:
    """Fetch a repository, and move its current branch forward; never merges, never overwrites.

    Example: repo.pull demo site --forward-agent
    """

    def ask(client: Client) -> Repo:
        with exchange_with(client, workspace, name, options) as params:
            return client.repo.pull(**params)

    repo = one_node.call(options, ask, COLUMNS)
    _say_done("pulled", repo)
    output.say_left_out(repo)
    return repo


@task(help={"workspace": "The workspace's name.", "name": "The repository's name.", **arguments.EXCHANGE_HELP,
            "ref": "The branch or tag to push (default: the current branch)."})  # fmt: skip
def push(c: Context, workspace: str, name: str, **options: Unpack[ExchangeTask]) -> Repo:
    """Push a branch of a repository to where it was cloned from; never forced.

    Example: repo.push demo site --credential-file ~/token
    """

    def ask(client: Client) -> Repo:
        with exchange_with(client, workspace, name, options) as params:
            return client.repo.push(**params)

    repo = one_node.call(options, ask, COLUMNS)
    _say_done("pushed", repo)
    return repo


@task(help={"workspace": "The workspace's name.", "name": "The repository's name.", **arguments.EXCHANGE_HELP,
            "ref": "A branch or tag (default: all branches that the repository follows)."})  # fmt: skip
def fetch(c: Context, workspace: str, name: str, **options: Unpack[ExchangeTask]) -> Repo:
    """Fetch a repository from where it was cloned from; its branches and files stay as they are.

    Example: repo.fetch shop site
    """

    def ask(client: Client) -> Repo:
        with exchange_with(client, workspace, name, options) as params:
            return client.repo.fetch(**params)

    repo = one_node.call(options, ask, COLUMNS)
    _say_done("fetched", repo)
    return repo


@task(help={"workspace": "The workspace's name.", "name": "The repository's name."}, harmless=True, watchable=True)
def get(c: Context, workspace: str, name: str, **where: Unpack[OneNode]) -> Repo:
    """Show one repository with its branch and commit.

    Example: repo.get shop site --json
    """
    return one_node.call(where, lambda client: client.repo.get(workspace=workspace, name=name), COLUMNS)


@task(name="list", help={"workspace": "The workspace's name."}, harmless=True, watchable=True)
def list_(c: Context, workspace: str, **where: Unpack[OneNode]) -> list[Repo]:
    """Show the repositories of a workspace.

    Example: repo.list shop
    """
    return one_node.call(where, lambda client: client.repo.list(workspace=workspace), COLUMNS)


@task(help={"workspace": "The workspace's name.", "name": "The repository's name."})
def delete(c: Context, workspace: str, name: str, yes: bool = False, **where: Unpack[OneNode]) -> RepoDeleted:
    """Delete a repository, after saying what was never pushed.

    Example: repo.delete shop site
    """
    from codesmith.workspace import losses

    return one_node.destroy(
        where,
        f"repository {name}",
        lambda client: losses.of_repo(client, workspace, name),
        lambda client: client.repo.delete(workspace=workspace, name=name),
        yes=yes,
    )


def _say_done(done: str, repo: Repo) -> None:
    """Print what a pull, push or fetch did, on stderr; where the node does not know it, no more than that."""
    if repo.updated is False:
        output.say("up to date: nothing was " + done)
    elif repo.new_commits is None:
        output.say(done)
    else:
        output.say(f"{done}: {repo.new_commits} commit{'' if repo.new_commits == 1 else 's'}")
