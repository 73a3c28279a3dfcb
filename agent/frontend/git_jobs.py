"""git in a workspace's runtime: the request for it, and what its answer means.

The login controls what the job answers, so the answer is checked like any other input.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Optional

from agent.frontend import runtime_client
from agent.frontend.runtime_client import REPLY_GRACE_S, Runtimes
from agent.git import errors, grammar
from agent.shared import git_hosts
from agent.shared.errors import CommandFailed, InvalidParams, LimitReached, NotManaged, Unsupported
from agent.shared.nesting import check_depth

INIT_TIMEOUT_S = 60.0
READ_TIMEOUT_S = 60.0
LEFT_OUT = ("lfs", "submodules")
NUMBERS, NUMBER_MAX = ("ahead", "behind", "new_commits"), 1 << 53
# Which a runtime of an older agent cannot do; it ends with this exit code then.
LATER_ACTIONS, CRASHED = ("transfer", "settle", "tidy"), 1
GIT_HOSTS_HINT = (
    "if the operator's git may go there: add HOST or HOST:PORT to git_hosts of this node in nodes.yaml, then "
    "inv node.prepare (it writes /etc/codesmith/git_hosts)"
)


def create(
    runtimes: Runtimes, workspace: str, request: Dict[str, Any], token: str, timeout_s: float,
    *, descriptor: Optional[int] = None, for_clone: bool = False,
) -> Dict[str, Any]:  # fmt: skip
    """Make code/NAME by init or clone, whole or not at all; return its branch, commit and what was left out.

    `descriptor` is a connection to the forwarded ssh agent, if the credential names one. `for_clone`: the workspace
    itself has no network.
    """
    url = request.get("url", "")
    programs = ["git"] if url.startswith("https:") or not url else ["git", "ssh"]
    whole = {**request, "token": token, "programs": programs}
    answer = run_git(runtimes, workspace, whole, token, timeout_s, descriptor=descriptor, for_clone=for_clone)
    problem = answer.get("problem")
    if problem == "exists":
        path = f"code/{request['name']}"
        raise NotManaged(f"{path} exists in workspace {workspace!r} and was not made by CodeSmith")
    check(workspace, problem, answer.get("program"), "the clone", "clone less of it with `depth`")
    if not isinstance(answer.get("repo"), dict):
        raise failed(f"git {request['action']}", answer, request)
    return clean_repo(answer["repo"])


def read(runtimes: Runtimes, workspace: str, names: List[str]) -> Dict[str, Dict[str, Any]]:
    """Return branch, commit and what was left out of each repository, as git reports them to the workspace's login."""
    request = {"action": "read", "names": names, "programs": ["git"]}
    answer = run_git(runtimes, workspace, request, None, READ_TIMEOUT_S)
    repos = answer.get("repos")
    if not isinstance(repos, dict):
        raise failed("git rev-parse", answer, {})
    return {name: clean_repo(repos.get(name)) for name in names}


def check(workspace: str, problem: object, program: object, what: str, less: str) -> None:
    """Raise the error for a problem that any git job may have."""
    if problem == "missing":
        program = "ssh" if program == "ssh" else "git"
        hint = "inv node.prepare" if program == "git" else "install openssh-client on the node"
        raise Unsupported(f"this node has no {program}", hint=hint)
    if problem == "memory":
        raise _memory(workspace)
    if problem == "quota":
        text = f"git was stopped: a disk quota of the workspace's login is used up; nothing of {what} is left"
        raise LimitReached(text, hint=f"on the node: repquota -a; or {less}")
    if problem == "full":
        text = f"git was stopped: {what} would have filled the node's disk; nothing of it is left"
        raise LimitReached(text, hint=f"make room on the node, or {less}")


def run_git(
    runtimes: Runtimes, workspace: str, request: Dict[str, Any], token: Optional[str], timeout_s: float,
    *, descriptor: Optional[int] = None, for_clone: bool = False, is_own: bool = False,
    patience_s: Optional[float] = None,
) -> Dict[str, Any]:  # fmt: skip
    """Run git in the workspace's runtime and return its answer, which the login can forge.

    `is_own`: it runs what the login has configured, so never in a runtime that has the network for a clone alone.
    `patience_s`: how long it waits for such clones.
    """
    done = runtimes.call(
        workspace, "own_git" if is_own else "git",
        reply_timeout_s=timeout_s + REPLY_GRACE_S, descriptor=descriptor, for_clone=for_clone,
        patience_s=patience_s, job=token, job_request={**request, "git_hosts": git_hosts.read()}, timeout_s=timeout_s,
    )  # fmt: skip
    ended = runtime_client.check_ended(done)
    if ended["killed_by"] == "memory":
        raise _memory(workspace)
    if ended["killed_by"] == "timeout":
        raise LimitReached(
            f"git did not end within {timeout_s:.0f} s and was stopped",
            hint="give it longer: --timeout SECONDS (timeout_s)",
        )
    if request["action"] in LATER_ACTIONS and ended["exit_code"] == CRASHED and ended["signal"] is None:
        text = f"the runtime of workspace {workspace!r} could not do this: it may be of an older agent"
        raise Unsupported(text, hint=f"inv workspace.stop {workspace}; what runs in it ends")
    if ended["exit_code"]:
        # Not its standard error: a traceback is of no use to the caller.
        return {"command": "git", "exit_code": ended["exit_code"], "stderr": "it was ended before it could answer"}
    try:
        text = str(done.get("answer"))
        check_depth(text.encode("utf-8", "surrogatepass"))
        answer = json.loads(text)
    except ValueError:
        answer = None
    # The kernel has ended a process of git, not git itself, which says so in other words.
    if isinstance(answer, dict) and answer.get("problem") == "failed" and done.get("has_lost_memory") is True:
        raise _memory(workspace)
    if isinstance(answer, dict) and answer.get("problem") == "refused":
        text = " ".join(errors.redact(str(answer.get("text")), request.get("credential", {})).split())[
            : errors.LINE_MAX
        ]
        raise CommandFailed(text, hint=GIT_HOSTS_HINT, command="git", exit_code=None, stderr="")
    return answer if isinstance(answer, dict) else {}


def _memory(workspace: str) -> LimitReached:
    hint = f"inv sandbox.create {workspace} --memory SIZE allows it more"
    return LimitReached("git needed more memory than it may have in this workspace, and was ended", hint=hint)


def clean_repo(repo: Any) -> Dict[str, Any]:
    """Return what git says of a repository, or of an exchange; a field that is not valid is None or empty."""
    repo = repo if isinstance(repo, dict) else {}
    branch, commit, words = repo.get("branch"), repo.get("commit"), repo.get("left_out")
    try:
        branch = None if branch is None else grammar.parse_ref(branch)
    except InvalidParams:
        branch = None
    is_commit = isinstance(commit, str) and re.fullmatch(grammar.COMMIT, commit)
    left_out = [word for word in LEFT_OUT if isinstance(words, list) and word in words]
    numbers = {key: repo.get(key) for key in NUMBERS}
    return {
        "branch": branch, "commit": commit if is_commit else None, "left_out": left_out,
        **{key: one if runtime_client.is_count(one) and one < NUMBER_MAX else None for key, one in numbers.items()},
        "updated": repo.get("updated") if isinstance(repo.get("updated"), bool) else None,
    }  # fmt: skip


def failed(command: str, answer: Dict[str, Any], request: Dict[str, Any]) -> CommandFailed:
    """Return the error with the line that shows the cause, and a hint; secrets are removed."""
    exit_code, credential = answer.get("exit_code"), request.get("credential", {})
    stderr = errors.whole_lines(str(answer.get("stderr", "")))
    stderr = errors.redact(stderr, credential, ())[-errors.STDERR_MAX :]
    return CommandFailed(
        f"{command} failed: {errors.deciding(stderr)}",
        hint=errors.hint_for(stderr, request.get("url", ""), credential) if "url" in request else "",
        command=command,
        exit_code=exit_code if isinstance(exit_code, int) else None,
        stderr=stderr.strip(),
    )
