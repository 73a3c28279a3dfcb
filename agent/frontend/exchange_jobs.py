"""A pull, push or fetch in a workspace's runtime: the requests for it, and what their answers mean.

The login controls what the job answers, so the answer is checked like any other input.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from agent.frontend import git_jobs
from agent.frontend.runtime_client import Runtimes
from agent.git import errors
from agent.shared.errors import AgentError, CommandFailed, InUse, NotFound

# Of what a pull would overwrite, and of what a host says to a push.
ITEMS_MAX = 10


def transfer(
    runtimes: Runtimes, workspace: str, request: Dict[str, Any], timeout_s: float,
    *, descriptor: Optional[int] = None, for_clone: bool = False,
) -> Dict[str, Any]:  # fmt: skip
    """Fetch or push with the operator's credential; return the current branch, the commit to move it to, what came.

    `descriptor` and `for_clone` as for `create`.
    """
    programs = ["git"] if request["url"].startswith("https:") else ["git", "ssh"]
    whole = {**request, "action": "transfer", "programs": programs}
    answer = git_jobs.run_git(runtimes, workspace, whole, None, timeout_s, descriptor=descriptor, for_clone=for_clone)
    _check(workspace, request, answer)
    if not isinstance(answer.get("transferred"), dict):
        failure = git_jobs.failed(f"git {request['kind']}", answer, request)
        if request["kind"] == "push" and "hint" in failure.data:
            failure.data["hint"] = failure.data["hint"].replace("that may read it", "that may write to it")
        raise failure
    return git_jobs.clean_repo(answer["transferred"])


def settle(runtimes: Runtimes, workspace: str, request: Dict[str, Any], timeout_s: float) -> Dict[str, Any]:
    """Let the login's own git do what is left of an exchange; return branch, commit and what was left out.

    The transfer is done: it waits for those of others, and is not refused while they last.
    """
    whole = {**request, "action": "settle", "programs": ["git"]}
    answer = git_jobs.run_git(runtimes, workspace, whole, None, timeout_s, is_own=True, patience_s=timeout_s)
    _check(workspace, request, answer)
    if not isinstance(answer.get("repo"), dict):
        raise git_jobs.failed(f"git {request['kind']}", answer, {})
    return git_jobs.clean_repo(answer["repo"])


def tidy(runtimes: Runtimes, workspace: str, name: str) -> None:
    """Remove the locks of an exchange that was ended from outside."""
    request = {"action": "tidy", "name": name, "programs": ["git"]}
    git_jobs.run_git(runtimes, workspace, request, None, git_jobs.READ_TIMEOUT_S, is_own=True)


def _check(workspace: str, request: Dict[str, Any], answer: Dict[str, Any]) -> None:
    """Raise the error for the problem of a pull, push or fetch, if it had one."""
    what = f"the {request['kind']}"
    git_jobs.check(workspace, answer.get("problem"), answer.get("program"), what, "delete something in the workspace")
    refusal = _refusals(workspace, request, answer).get(str(answer.get("problem")))
    if refusal is not None:
        raise refusal


def _refusals(workspace: str, request: Dict[str, Any], answer: Dict[str, Any]) -> Dict[str, AgentError]:
    """Return the error for each problem."""
    name, kind = request["name"], request["kind"]
    ref = _short_line(request["ref"] or answer.get("ref") or answer.get("branch"), request)
    within = f"inv workspace.exec {workspace} -- git -C code/{name}"

    def refused(problem: str, hint: str) -> CommandFailed:
        exit_code, stderr = answer.get("exit_code"), errors.whole_lines(str(answer.get("stderr", "")))
        stderr = errors.redact(stderr, request["credential"])[-errors.STDERR_MAX :].strip()
        code = exit_code if isinstance(exit_code, int) else 1
        return CommandFailed(problem, hint=hint, command=f"git {kind}", exit_code=code, stderr=stderr)

    is_stale = answer.get("reason") == "stale"
    behind = f"its source has commits that repo {name!r} does not have"
    reason = behind if is_stale else "; ".join(_list([answer.get("reason"), *_items(answer, "said")], request))
    files = ", ".join(_list(_items(answer, "files"), request))
    here, there = (_short_line(answer.get(key), request) for key in ("ahead", "behind"))
    return {
        "busy": InUse(f"repo {name!r} of workspace {workspace!r} is pulled, pushed or fetched now", hint="try again"),
        "gone": NotFound(
            f"code/{name} in workspace {workspace!r} is no git repository any more",
            hint=f"inv repo.delete {workspace} {name}; then clone it again",
        ),
        "no_ref": NotFound(f"repo {name!r} has no branch or tag {ref!r} with a commit", hint=f"{within} branch --all"),
        "detached": refused(
            f"repo {name!r} is at a commit, on no branch: there is no branch to {kind}", f"{within} switch BRANCH"
        ),
        "diverged": refused(
            f"branch {ref!r} of repo {name!r} and its source have diverged (commits here: {here}, there: {there}); "
            "nothing was changed",
            f"merge or rebase inside: {within} rebase {request.get('commit')}",
        ),
        "overwrites": refused(
            f"the pull would overwrite what was changed in repo {name!r} and not committed: {files}; "
            "nothing was changed",
            f"{within} stash --include-untracked",
        ),
        "rejected": refused(
            f"the push of {ref!r} was rejected: {reason}",
            f"inv repo.pull {workspace} {name}; if both have commits, first repo.fetch, then merge or rebase inside: "
            f"{within} rebase origin/BRANCH"
            if is_stale
            else "",
        ),
    }


def _items(answer: Dict[str, Any], key: str) -> List[Any]:
    found = answer.get(key)
    return found[:ITEMS_MAX] if isinstance(found, list) else []


def _list(values: List[Any], request: Dict[str, Any]) -> List[str]:
    return [_short_line(value, request) for value in values]


def _short_line(value: object, request: Dict[str, Any]) -> str:
    """Return a text of the login's or the host's as one short line without secrets."""
    return " ".join(errors.redact(str(value), request["credential"]).split())[: errors.LINE_MAX]
