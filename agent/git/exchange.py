"""Exchanges a repository with the URL that it was cloned from: pull, push, fetch.

First the transfer, with the credential and without any setting of the login; then, when the credential is gone, what
the login's own git does: it moves the branch forward, or remembers what a branch follows.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
from typing import Any, Dict, List, Optional, Tuple

from agent.git import clone, known_hosts, locks, own_directory
from agent.git.command import NO_SETUP, OUTPUT_BYTES_MAX, GitFailed, GitSetup, git
from agent.git.own_directory import HEADS, TRACKING
from agent.git.repository import read

TAGS = "refs/tags/"
ABSENT = "find remote ref"
REJECTED = re.compile(r"! \[(?:remote )?rejected\]\s+(?:\S+ -> )?\S+ \((.*)\)")
STALE = ("fetch first", "non-fast-forward", "stale info")
OVERWRITTEN = re.compile(r"would be overwritten by (?:merge|checkout):\n((?:\t.*\n?)+)")
FILES_MAX = 10


def transfer(request: Dict[str, Any], forwarded: Optional[socket.socket]) -> Dict[str, Any]:
    """Fetch or push; return {transferred: {branch, commit, ...}}, or {problem} (detached, no_ref, rejected).

    After a fetch or push it also has `updated` and, of a push, `new_commits`.
    """
    path = _path(request)
    with locks.held(path), own_directory.made(path, request["url"]) as directory:
        branch = own_directory.branch_of(path)
        if branch is None and request["ref"] is None and request["kind"] != "fetch":
            return {"problem": "detached"}
        with clone.setup_for(request, forwarded) as setup:
            run = {"fetch": _fetch, "pull": _pull, "push": _push}[request["kind"]]
            answer = run(request, path, directory, setup, branch)
    known_hosts.keep(request["known_hosts"])
    return answer


def settle(request: Dict[str, Any]) -> Dict[str, Any]:
    """Do the login's own part, and return {repo}, or {problem} (detached, diverged, overwrites)."""
    done: Dict[str, Any] = {}
    with locks.held(_path(request)):
        own = GitSetup(("advice.detachedHead=false",), home=pwd.getpwuid(os.getuid()).pw_dir)
        if request["kind"] == "pull":
            done = _move_forward(request, own)
            if "problem" in done:
                return done
        elif request["kind"] == "push" and request["branch"]:
            _follow(request, own)
    return {"repo": {**read(os.path.join("code", request["name"])), **done}}


def tidy(request: Dict[str, Any]) -> Dict[str, Any]:
    """Remove the locks that an exchange left which was ended from outside."""
    with locks.held(_path(request), wait_s=locks.WAIT_S):
        return {"tidied": True}


def _path(request: Dict[str, Any]) -> str:
    return os.path.join("code", request["name"], ".git")


def _git_dir(directory: str) -> Tuple[str, ...]:
    return (f"--git-dir={directory}",)


def _fetch(
    request: Dict[str, Any], path: str, directory: str, setup: GitSetup, branch: Optional[str]
) -> Dict[str, Any]:
    ref, before = request["ref"], _refs(directory)
    if ref is None:
        _fetch_specs(directory, own_directory.refspecs_of(directory, path), setup)
        commit = None
    else:
        commit = _fetch_ref(directory, ref, setup)
    after = _refs(directory)
    is_known = before is not None and after is not None
    updated = after != before if is_known else None
    return {"transferred": {"branch": branch, "commit": commit, "updated": updated}}


def _refs(directory: str) -> Optional[str]:
    """Return what is known of the source: its branches and tags with their commits; None when there are very many."""
    words = ("for-each-ref", "--format=%(objectname) %(refname)", TRACKING, TAGS)
    text = git(*_git_dir(directory), *words)
    return text if len(text.encode()) < OUTPUT_BYTES_MAX - len("\n") else None


def _pull(request: Dict[str, Any], path: str, directory: str, setup: GitSetup, branch: Optional[str]) -> Dict[str, Any]:
    if branch is None:
        return {"problem": "detached"}
    ref = request["ref"] or own_directory.upstream_of(directory, path, branch)
    return {"transferred": {"branch": branch, "commit": _fetch_ref(directory, ref, setup)}}


def _fetch_ref(directory: str, ref: str, setup: GitSetup) -> str:
    """Fetch a branch or, when there is none of that name, a tag; return its commit."""
    try:
        _fetch_specs(directory, [f"+{HEADS}{ref}:{TRACKING}{ref}"], setup)
    except GitFailed as failure:
        if ABSENT not in failure.stderr:
            raise
        _fetch_specs(directory, [f"{TAGS}{ref}:{TAGS}{ref}"], setup)
    return git(*_git_dir(directory), "rev-parse", "--verify", "--quiet", "FETCH_HEAD^{commit}")


def _fetch_specs(directory: str, specs: List[str], setup: GitSetup) -> None:
    words = ("fetch", "--quiet", "--no-recurse-submodules", "--no-prune", "origin", *specs)
    clone.reach(*_git_dir(directory), *words, setup=setup)


def _push(request: Dict[str, Any], _: str, directory: str, setup: GitSetup, branch: Optional[str]) -> Dict[str, Any]:
    ref = request["ref"] or branch
    find = (*_git_dir(directory), "rev-parse", "--verify", "--quiet")
    kinds = [kind for kind in (HEADS, TAGS) if git(*find, f"{kind}{ref}^{{commit}}", quiet_codes=(1, 128))]
    if not kinds:
        return {"problem": "no_ref", "ref": ref}
    whole, tracking = kinds[0] + str(ref), f"{TRACKING}{ref}" if kinds[0] == HEADS else None
    before = git(*find, tracking, quiet_codes=(1, 128)) if tracking else ""
    try:
        words = ("push", "--quiet", "--recurse-submodules=no", "--no-verify", "origin", f"{whole}:{whole}")
        clone.reach(*_git_dir(directory), *words, setup=setup)
    except GitFailed as failure:
        rejected = REJECTED.search(failure.stderr)
        if rejected is None:
            raise
        said = [line[len("remote:") :].strip() for line in failure.stderr.splitlines() if line.startswith("remote:")]
        reason = "stale" if rejected[1] in STALE else rejected[1]
        details = {"exit_code": failure.exit_code, "stderr": failure.stderr}
        return {"problem": "rejected", "ref": ref, "reason": reason, "said": [line for line in said if line], **details}
    sent: Dict[str, Any] = {"branch": ref if tracking else None, "commit": None}
    if tracking:
        after = git(*find, tracking, quiet_codes=(1, 128))
        sent["updated"] = after != before
        # Of a new branch, what no branch of the source has.
        known = before or f"--exclude=origin/{ref} --remotes=origin"
        sent["new_commits"] = _count(_git_dir(directory), after, known.split()) if sent["updated"] else 0
    return {"transferred": sent}


def _count(within: Tuple[str, ...], commit: str, known: List[str], setup: GitSetup = NO_SETUP) -> Optional[int]:
    """Return how many commits come with one, beyond those that are known; None where git cannot tell."""
    text = git(*within, "rev-list", "--count", commit, *(["--not", *known] if known else []),
               setup=setup, quiet_codes=(1, 128))  # fmt: skip
    return int(text) if text.isdigit() else None


def _move_forward(request: Dict[str, Any], own: GitSetup) -> Dict[str, Any]:
    """Move the current branch forward to a commit that was fetched; return what came, or {problem}: nothing changed."""
    commit, within = request["commit"], ("-C", os.path.join("code", request["name"]))
    branch = own_directory.branch_of(_path(request))
    if branch is None or branch != request["branch"]:
        return {"problem": "detached"}
    is_begun = git(*within, "rev-parse", "--verify", "--quiet", "HEAD", setup=own, quiet_codes=(1,))
    count = None if is_begun else _count(within, commit, [], own)
    if is_begun:
        counts = git(*within, "rev-list", "--left-right", "--count", f"HEAD...{commit}", setup=own).split()
        ahead, behind = (int(number) for number in counts)
        count = behind
        if not behind:
            return {"updated": False, "new_commits": 0}
        if ahead:
            return {"problem": "diverged", "branch": branch, "ahead": ahead, "behind": behind}
    try:
        git(*within, "merge", "--quiet", "--ff-only", commit, setup=own, is_watched=True)
    except GitFailed as failure:
        files = [name.strip() for found in OVERWRITTEN.findall(failure.stderr) for name in found.splitlines()]
        if not files:
            raise
        return {"problem": "overwrites", "files": files[:FILES_MAX], "count": len(files), "stderr": failure.stderr}
    return {"updated": True, "new_commits": count}


def _follow(request: Dict[str, Any], own: GitSetup) -> None:
    """Let a branch follow the one of its name on `origin`, unless it follows one already."""
    branch, within = request["branch"], ("-C", os.path.join("code", request["name"]))
    if git(*within, "config", "--get", f"branch.{branch}.merge", setup=own, quiet_codes=(1,)):
        return
    git(*within, "config", f"branch.{branch}.remote", "origin", setup=own)
    git(*within, "config", f"branch.{branch}.merge", HEADS + branch, setup=own)
