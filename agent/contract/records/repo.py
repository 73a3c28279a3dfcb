"""Repositories."""

from __future__ import annotations

from typing import Annotated, List, Literal, Optional, TypedDict

from agent.contract.fields import Keywords, Name


class Repo(TypedDict):
    """A git repository in a workspace, as git reports it to the workspace's user."""

    name: Name
    path: str
    url: Annotated[Optional[str], Keywords({"description": "The URL it was cloned from; null for repo.init."})]
    branch: Annotated[Optional[str], Keywords({"description": "Null when HEAD is detached or the directory is gone."})]
    commit: Annotated[Optional[str], Keywords({"description": "Null before the first commit."})]
    left_out: Annotated[
        List[Literal["lfs", "submodules"]],
        Keywords({"description": "What the clone left out and nobody fetched since: Git LFS files, submodules."}),
    ]
    ahead: Annotated[
        Optional[int],
        Keywords(
            {
                "minimum": 0,
                "description": "Commits of the branch that its upstream did not have when they last met.",
            }
        ),
    ]
    behind: Annotated[
        Optional[int], Keywords({"minimum": 0, "description": "Commits of its upstream that the branch does not have."})
    ]
    updated: Annotated[
        Optional[bool],
        Keywords(
            {
                "description": "Of repo.pull, push and fetch: whether anything came or went; null for a tag that was "
                "pushed, and in all other results."
            }
        ),
    ]
    new_commits: Annotated[
        Optional[int],
        Keywords({"minimum": 0, "description": "How many came with a pull or went with a push, where that is known."}),
    ]


class RepoDeleted(TypedDict):
    """The result of repo.delete."""

    workspace: Name
    name: Name
    deleted: Literal[True]
