"""Git repositories in workspaces."""
# ruff: noqa: ARG001  Invoke hands every task a context; parameters are named as people type them

from __future__ import annotations

from typing import Unpack

from invoke.context import Context

import codesmith
from codesmith.cli import arguments, output
from codesmith.cli.arguments import CloneOptions
from codesmith.cli.task import task
from codesmith.sdk.api import Repo, RepoDeleted
from codesmith.workspace.clone_credentials import credential_for

COLUMNS = ("name", "path", "url", "branch", "commit")


@task(
    help={
        "workspace": "The workspace's name.",
        "name": "The repository's name, its directory in code/ (default: the workspace's).",
        "default_branch": "Its first branch (default: main).",
    }
)
def init(
    c: Context,
    workspace: str,
    name: str | None = None,
    default_branch: str | None = None,
    node: str = "",
    file: str = "",
    json: bool = False,
) -> Repo:
    """Make an empty repository in a workspace."""
    with codesmith.connect(node, file) as client:
        repo = client.repo.init(workspace=workspace, name=name, default_branch=default_branch)
    output.show(repo, COLUMNS, json=json)
    return repo


@task(
    help={
        "workspace": "The workspace's name.",
        "url": "https://HOST/PATH, ssh://USER@HOST/PATH or USER@HOST:PATH, without password or token.",
        "name": "The repository's name, its directory in code/ (default: the last part of the URL).",
        **arguments.CLONE_HELP,
    }
)
def clone(
    c: Context,
    workspace: str,
    url: str,
    name: str | None = None,
    node: str = "",
    file: str = "",
    json: bool = False,
    **how: Unpack[CloneOptions],
) -> Repo:
    """Clone a repository into a workspace, as its user.

    Example: repo.clone demo https://git.example.org/team/site.git --credential-file ~/token
    """
    wanted = arguments.read_repo(url, name, how) or {}
    with (
        codesmith.connect(node, file) as client,
        credential_for(
            client, url, wanted.pop("credential", None), forward_agent=how.get("forward_agent", False)
        ) as credential,
    ):
        repo = client.repo.clone(workspace=workspace, credential=credential, **wanted)
    output.show(repo, COLUMNS, json=json)
    output.say_left_out(repo)
    return repo


@task(help={"workspace": "The workspace's name.", "name": "The repository's name."}, harmless=True)
def get(c: Context, workspace: str, name: str, node: str = "", file: str = "", json: bool = False) -> Repo:
    """Show one repository, its branch and its commit."""
    with codesmith.connect(node, file) as client:
        repo = client.repo.get(workspace=workspace, name=name)
    output.show(repo, COLUMNS, json=json)
    return repo


@task(name="list", help={"workspace": "The workspace's name."}, harmless=True)
def list_(c: Context, workspace: str, node: str = "", file: str = "", json: bool = False) -> list[Repo]:
    """Show the repositories of a workspace."""
    with codesmith.connect(node, file) as client:
        repos = client.repo.list(workspace=workspace)
    output.show(repos, COLUMNS, json=json)
    return repos


@task(help={"workspace": "The workspace's name.", "name": "The repository's name."})
def delete(c: Context, workspace: str, name: str, node: str = "", file: str = "", json: bool = False) -> RepoDeleted:
    """Delete a repository, also what was never pushed."""
    with codesmith.connect(node, file) as client:
        deleted = client.repo.delete(workspace=workspace, name=name)
    output.show(deleted, json=json)
    return deleted
