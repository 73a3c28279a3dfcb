"""Repositories in workspaces: git runs as the workspace's login in a job; root only moves trees into the trash.

The login controls what the job answers, so the answer is checked like any other input.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from typing import Any, Dict, List, Optional

from agent.git import errors, grammar
from agent.git.repository import MARK, temporary_name
from agent.helper.ledger.ledger import Ledger
from agent.helper.runtime import jobs, proxies, sandboxes
from agent.helper.runtime.entry import Entry
from agent.helper.trees import mounts, trees
from agent.shared.errors import CommandFailed, InvalidParams, LimitReached, NotFound, NotManaged, Unsupported
from agent.shared.names import WORKSPACES, parse_name, path_of

TIMEOUT_MAX_S = 3600.0
INIT_TIMEOUT_S = 60.0
READ_TIMEOUT_S = 60.0
LEFT_OUT = ("lfs", "submodules")


def init(caller: socket.socket, entry: Entry, name: Any, branch: Any, token: Any) -> Dict[str, Any]:
    """Make an empty repository code/NAME and return its branch."""
    name = parse_name(name)
    request = {"action": "init", "name": name, "branch": grammar.parse_branch(branch, "default_branch")}
    return _make(entry, request, grammar.parse_token(token), INIT_TIMEOUT_S, caller)


def clone(
    caller: socket.socket, entry: Entry, name: Any, url: Any, ref: Any, depth: Any, credential: Any,
    known_hosts: Any, token: Any, timeout_s: Any, descriptor: Optional[int],
) -> Dict[str, Any]:  # fmt: skip
    """Clone into code/NAME, which appears complete or not at all; return branch, commit and what was left out.

    `descriptor` is a connection to the forwarded ssh agent, if the credential names one.
    """
    name, url = parse_name(name), grammar.parse_url(url)
    if not isinstance(timeout_s, float) or not 0 < timeout_s <= TIMEOUT_MAX_S:
        raise InvalidParams.of("timeout_s", f"must be between 0 and {TIMEOUT_MAX_S:.0f}")
    is_https = url.startswith("https:")
    request = {
        "action": "clone",
        "name": name,
        "url": url,
        "host": grammar.host_of(url) if is_https else "",
        "ref": None if ref is None else grammar.parse_ref(ref),
        "depth": grammar.parse_depth(depth),
        "credential": grammar.parse_credential(credential, url),
        "known_hosts": grammar.parse_known_hosts(known_hosts),
    }
    if ("agent" in request["credential"]) != (descriptor is not None):
        raise InvalidParams.of("credential", "must name an ssh agent if, and only if, one is forwarded")
    programs = ["git"] if is_https else ["git", "ssh"]
    token = grammar.parse_token(token)
    with entry.exclude_commands():
        return _make(_for_clone(entry), request, token, timeout_s, caller, programs, descriptor)


def read(caller: socket.socket, entry: Entry, names: Any) -> Dict[str, Any]:
    """Return branch, commit and what was left out of each repository, as git reports them to the workspace's login."""
    names = grammar.parse_names(names)
    request = {"action": "read", "names": names, "programs": ["git"]}
    answer = _run_git(entry, request, None, READ_TIMEOUT_S, caller)
    repos = answer.get("repos")
    if not isinstance(repos, dict):
        raise _failed("git rev-parse", answer, {})
    return {"repos": {name: _parse_repo(repos.get(name)) for name in names}}


def roll_back(ledger: Ledger, workspace: Any, name: Any, token: Any) -> bool:
    """Stop the job of an unfinished init or clone and remove its files; tell whether it had made code/NAME.

    The caller holds the ledger's lock.
    """
    workspace, name, token = parse_name(workspace, "workspace"), parse_name(name), grammar.parse_token(token)
    jobs.stop(jobs.unit_of(workspace, token))
    owner = ledger.login(workspace)
    if ledger.workspace(workspace) is None or owner is None:
        return False
    trees.remove_inside(WORKSPACES, workspace, owner.uid, ("code",), temporary_name(token))
    mark = trees.read_inside(WORKSPACES, workspace, owner.uid, ("code", name, ".git"), MARK)
    return bool(mark.strip() == token.encode())


def remove(ledger: Ledger, workspace: Any, name: Any) -> None:
    """Remove code/NAME of a workspace, whatever it is and however deep. The caller holds the ledger's lock."""
    workspace, name = parse_name(workspace, "workspace"), parse_name(name)
    record, owner = ledger.workspace(workspace), ledger.login(workspace)
    if record is None or owner is None or record.state != "active":
        raise NotFound(f"no workspace {workspace!r} on this node")
    mounts.refuse_mounts(f"{path_of(workspace)}/code/{name}")
    trees.remove_inside(WORKSPACES, workspace, owner.uid, ("code",), name)


def _for_clone(entry: Entry) -> Entry:
    """Return the entry with network, and with a memory limit: git keeps in memory what the server sends.

    The limit is the sandbox's, or half of the node's memory. All other limits of the sandbox stay.
    """
    sandbox = entry.sandbox or sandboxes.Sandbox(entry.workspace, {}, "full")
    half_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    limits = {"memory_bytes": half_bytes, **sandbox.limits}
    return entry._replace(sandbox=sandbox._replace(network="full", limits=limits))


def _make(
    entry: Entry, request: Dict[str, Any], token: str, timeout_s: float, caller: socket.socket,
    programs: Optional[List[str]] = None, descriptor: Optional[int] = None,
) -> Dict[str, Any]:  # fmt: skip
    """Make a repository by init or clone and return it; raise the error that the job's answer means."""
    whole = {**request, "token": token, "programs": programs or ["git"]}
    answer = _run_git(entry, whole, token, timeout_s, caller, descriptor)
    problem = answer.get("problem")
    if problem == "exists":
        path = f"code/{request['name']}"
        raise NotManaged(f"{path} exists in workspace {entry.workspace!r} and was not made by CodeSmith")
    if problem == "missing":
        program = "ssh" if answer.get("program") == "ssh" else "git"
        hint = "inv node.prepare" if program == "git" else "install openssh-client on the node"
        raise Unsupported(f"this node has no {program}", hint=hint)
    if problem == "quota":
        text = "git was stopped: a disk quota of the workspace's login is used up; nothing of the clone is left"
        raise LimitReached(text, hint="on the node: repquota -a; or clone less of it with `depth`")
    if problem == "full":
        text = "git was stopped: the clone would have filled the node's disk; nothing of it is left"
        raise LimitReached(text, hint="make room on the node, or clone less of it with `depth`")
    if not isinstance(answer.get("repo"), dict):
        raise _failed(f"git {request['action']}", answer, request)
    return _parse_repo(answer["repo"])


def _run_git(
    entry: Entry, request: Dict[str, Any], token: Optional[str], timeout_s: float, caller: socket.socket,
    descriptor: Optional[int] = None,
) -> Dict[str, Any]:  # fmt: skip
    """Run `agent.pyz git` as the workspace's login and return its answer, which that login can forge."""
    timeout_s = sandboxes.runtime_s(entry.sandbox, timeout_s)
    done = jobs.run_job(
        entry, argv=[sys.executable, "-I", "-S", sys.path[0], "git"], cwd="", env={},
        stdin=json.dumps(request).encode(), timeout_s=timeout_s, caller=caller, job=token, descriptor=descriptor,
    )  # fmt: skip
    if done["killed_by"] == "memory":
        hint = f"inv sandbox.create {entry.workspace} --memory SIZE allows it more"
        raise LimitReached("git needed more memory than it may have in this workspace, and was ended", hint=hint)
    if done["killed_by"] == "timeout":
        raise LimitReached(f"git did not end within {timeout_s:.0f} s and was stopped", hint="give a longer timeout_s")
    if done["exit_code"]:
        # Not its standard error: a traceback is of no use to the caller.
        return {"command": "git", "exit_code": done["exit_code"], "stderr": "it was ended before it could answer"}
    try:
        answer = json.loads(done["stdout"])
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {}


def _parse_repo(repo: Any) -> Dict[str, Any]:
    """Return branch, commit and left_out of a repository; a field that is not valid is None or empty."""
    repo = repo if isinstance(repo, dict) else {}
    branch, commit, words = repo.get("branch"), repo.get("commit"), repo.get("left_out")
    try:
        branch = None if branch is None else grammar.parse_ref(branch)
    except InvalidParams:
        branch = None
    is_commit = isinstance(commit, str) and re.fullmatch(grammar.COMMIT, commit)
    left_out = [word for word in LEFT_OUT if isinstance(words, list) and word in words]
    return {"branch": branch, "commit": commit if is_commit else None, "left_out": left_out}


def _failed(command: str, answer: Dict[str, Any], request: Dict[str, Any]) -> CommandFailed:
    """Return the error with the line that shows the cause, and a hint; secrets are removed."""
    exit_code, credential = answer.get("exit_code"), request.get("credential", {})
    stderr = errors.whole_lines(str(answer.get("stderr", "")))
    stderr = errors.redact(stderr, credential, proxies.secrets())[-errors.STDERR_MAX :]
    return CommandFailed(
        f"{command} failed: {errors.deciding(stderr)}",
        hint=errors.hint_for(stderr, request.get("url", ""), credential) if "url" in request else "",
        command=command,
        exit_code=exit_code if isinstance(exit_code, int) else None,
        stderr=stderr.strip(),
    )
