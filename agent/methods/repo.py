"""repo.*: git repositories in workspaces, in code/NAME."""

from __future__ import annotations

from typing import Annotated, Any, Dict, List, Optional

from agent.contract.fields import Keywords, Name, RequestId
from agent.contract.method import BY_HELPER, method
from agent.contract.records.repo import Repo, RepoDeleted
from agent.frontend import git_jobs, repo_creation, repo_exchange, workspace_records
from agent.frontend.context import Context
from agent.frontend.repo_creation import CREDENTIAL, DEPTH, KNOWN_HOSTS, REF, TIMEOUT, URL
from agent.frontend.repo_exchange import BRANCH as EXCHANGED
from agent.git import grammar
from agent.shared.errors import Disabled, NotFound

BRANCH = "main"
Branch = Annotated[str, Keywords({"minLength": 1, "maxLength": grammar.REF_MAX, "description": "A branch."})]


def _roll_back_init(
    context: Context,
    *,
    workspace: Name,
    name: Optional[Name] = None,
    default_branch: Optional[str] = None,
    request_id: Optional[RequestId] = None,
) -> Repo:
    return repo_creation.roll_back(context, workspace, name or workspace, request_id)


def _roll_back_clone(
    context: Context,
    *,
    workspace: Name,
    url: str,
    name: Optional[Name] = None,
    request_id: Optional[RequestId] = None,
    **_: Any,
) -> Repo:
    return repo_creation.roll_back(context, workspace, name or grammar.name_from_url(url), request_id)


@method(
    "repo.init", scope="work",
    errors=repo_creation.ERRORS,
    mutates=True,
    roll_back=_roll_back_init,
)  # fmt: skip
def init(
    context: Context,
    *,
    workspace: Name,
    name: Optional[Name] = None,
    default_branch: Optional[Branch] = None,
    request_id: Optional[RequestId] = None,
) -> Repo:
    """Create an empty git repository in code/NAME of a workspace, as the workspace's user.

    `name` defaults to the name of the workspace, `default_branch` to main.
    """
    branch = grammar.parse_branch(default_branch or BRANCH, "default_branch")
    request = repo_creation.RepoRequest(
        name or workspace, None, {"action": "init", "branch": branch}, git_jobs.INIT_TIMEOUT_S, request_id=request_id
    )
    return _create(context, workspace, request)


@method(
    "repo.clone",
    scope="work",
    errors=repo_creation.ERRORS,
    mutates=True,
    roll_back=_roll_back_clone,
    secrets=("credential",),
)
def clone(
    context: Context,
    *,
    workspace: Name,
    url: Annotated[str, URL],
    name: Optional[Name] = None,
    ref: Annotated[Optional[str], REF] = None,
    depth: Annotated[Optional[int], DEPTH] = None,
    credential: Annotated[Optional[Dict[str, str]], CREDENTIAL] = None,
    known_hosts: Annotated[Optional[List[str]], KNOWN_HOSTS] = None,
    timeout_s: Annotated[Optional[float], TIMEOUT] = None,
    request_id: Optional[RequestId] = None,
) -> Repo:
    """Clone a git repository to code/NAME in a workspace, as the workspace's user.

    It appears there whole, or not at all; an interrupted clone is removed. `name` defaults to the last part of the URL.
    Hooks, submodules and Git LFS files are left out; `left_out` lists the latter two. Without `credential`, ssh uses
    the keys of the workspace's user. The clone runs within the limits of the workspace's sandbox, but always has the
    network, through the node's proxies. A commit is checked out without a branch.
    """
    with repo_creation.clone_request(
        context, url=url, name=name, ref=ref, depth=depth, credential=credential, known_hosts=known_hosts,
        timeout_s=timeout_s,
    ) as request:  # fmt: skip
        return _create(context, workspace, request._replace(request_id=request_id))


def _roll_back_pull(context: Context, *, workspace: Name, name: Name, **_: Any) -> Repo:
    return repo_exchange.roll_back(context, workspace, name, "pull")


def _roll_back_push(context: Context, *, workspace: Name, name: Name, **_: Any) -> Repo:
    return repo_exchange.roll_back(context, workspace, name, "push")


def _roll_back_fetch(context: Context, *, workspace: Name, name: Name, **_: Any) -> Repo:
    return repo_exchange.roll_back(context, workspace, name, "fetch")


@method(
    "repo.pull",
    scope="work",
    errors=repo_exchange.ERRORS,
    mutates=True,
    roll_back=_roll_back_pull,
    secrets=("credential",),
)
def pull(
    context: Context,
    *,
    workspace: Name,
    name: Name,
    ref: Annotated[Optional[str], EXCHANGED] = None,
    credential: Annotated[Optional[Dict[str, str]], CREDENTIAL] = None,
    known_hosts: Annotated[Optional[List[str]], KNOWN_HOSTS] = None,
    timeout_s: Annotated[Optional[float], TIMEOUT] = None,
    request_id: Optional[RequestId] = None,
) -> Repo:
    """Fetch from the URL that a repository was cloned from, and move its current branch forward.

    Nothing is merged: if the branches have diverged, or a file that was changed would be overwritten, it is refused and
    the branch and the files stay as they are. `ref` defaults to the branch that the current one follows. Credential,
    network and limits are as for repo.clone; the credential is sent to no other host, whatever the repository is
    configured to do.
    """
    document = _ready(context, workspace, name)
    return repo_exchange.exchange(
        context, workspace, document, "pull", ref=ref, credential=credential, known_hosts=known_hosts,
        timeout_s=timeout_s,
    )  # fmt: skip


@method(
    "repo.push",
    scope="work",
    errors=repo_exchange.ERRORS,
    mutates=True,
    roll_back=_roll_back_push,
    secrets=("credential",),
)
def push(
    context: Context,
    *,
    workspace: Name,
    name: Name,
    ref: Annotated[Optional[str], EXCHANGED] = None,
    credential: Annotated[Optional[Dict[str, str]], CREDENTIAL] = None,
    known_hosts: Annotated[Optional[List[str]], KNOWN_HOSTS] = None,
    timeout_s: Annotated[Optional[float], TIMEOUT] = None,
    request_id: Optional[RequestId] = None,
) -> Repo:
    """Push a branch or tag, by default the current branch, to the URL that a repository was cloned from.

    It gets the same name there, and is never forced. A branch that follows none follows it afterwards. Its hook
    pre-push does not run, and Git LFS files are not uploaded. Credential, network and limits are as for repo.pull.
    """
    document = _ready(context, workspace, name)
    return repo_exchange.exchange(
        context, workspace, document, "push", ref=ref, credential=credential, known_hosts=known_hosts,
        timeout_s=timeout_s,
    )  # fmt: skip


@method(
    "repo.fetch",
    scope="work",
    errors=repo_exchange.ERRORS,
    mutates=True,
    roll_back=_roll_back_fetch,
    secrets=("credential",),
)
def fetch(
    context: Context,
    *,
    workspace: Name,
    name: Name,
    ref: Annotated[Optional[str], EXCHANGED] = None,
    credential: Annotated[Optional[Dict[str, str]], CREDENTIAL] = None,
    known_hosts: Annotated[Optional[List[str]], KNOWN_HOSTS] = None,
    timeout_s: Annotated[Optional[float], TIMEOUT] = None,
    request_id: Optional[RequestId] = None,
) -> Repo:
    """Fetch from the URL that a repository was cloned from: all branches that it follows, or `ref` alone.

    Branches and files of the repository stay as they are; so does what it knows of branches that are gone there.
    Credential, network and limits are as for repo.pull.
    """
    document = _ready(context, workspace, name)
    return repo_exchange.exchange(
        context, workspace, document, "fetch", ref=ref, credential=credential, known_hosts=known_hosts,
        timeout_s=timeout_s,
    )  # fmt: skip


@method("repo.get", scope="read", errors=(NotFound, Disabled, *BY_HELPER))
def get(context: Context, *, workspace: Name, name: Name) -> Repo:
    """Return one repository with its current branch and commit.

    `branch` is null when HEAD is detached, `commit` before the first commit; both when the user removed the repository.
    """
    workspace_records.find(context, workspace)
    document = find(context, workspace, name)
    return repo_creation.read(context, workspace, [document])[0]


@method("repo.list", scope="read", errors=(NotFound, Disabled, *BY_HELPER))
def list_(context: Context, *, workspace: Name) -> List[Repo]:
    """Return the repositories that CodeSmith created in a workspace, by name; not those that the user made."""
    workspace_records.find(context, workspace)
    return repo_creation.read(context, workspace, context.store.list_repos(workspace))


@method("repo.delete", scope="work", errors=(NotFound, *BY_HELPER), mutates=True, makes_room=True)
def delete(context: Context, *, workspace: Name, name: Name, request_id: Optional[RequestId] = None) -> RepoDeleted:
    """Delete a repository and everything in code/NAME, also what was never pushed."""
    workspace_records.find(context, workspace)
    find(context, workspace, name)
    context.helper.call("repo.remove", workspace=workspace, name=name)
    context.store.remove_repo(workspace, name)
    return {"workspace": workspace, "name": name, "deleted": True}


def find(context: Context, workspace: str, name: str) -> Dict[str, Any]:
    """Return the stored document of a repository; NotFound when there is none, or it is still being created."""
    document = context.store.get_repo(workspace, name)
    if document is None or document["state"] != "ready":
        raise NotFound(f"no repo {name!r} in workspace {workspace!r}", hint=f"inv repo.list {workspace}")
    return document


def _ready(context: Context, workspace: str, name: str) -> Dict[str, Any]:
    workspace_records.find_ready(context, workspace)
    return find(context, workspace, name)


def _create(context: Context, workspace: str, request: repo_creation.RepoRequest) -> Repo:
    workspace_records.find_ready(context, workspace)
    return repo_creation.create(context, workspace, request)
