"""A repository on disk: reading it, marking it, and writing it to the disk as a whole."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import Any, Dict, List, Optional, Tuple

from agent.git.command import GitFailed, git
from agent.git.grammar import MARK

READ_TIMEOUT_S = 10.0
BRANCHES = "refs/heads/"
POINTER = b"version https://git-lfs.github.com/spec/"
# Only so many files are checked: of a tree, some may have been fetched.
POINTERS_MAX = 100


def read(path: str) -> Dict[str, Any]:
    """Return branch, commit and left-out parts of the repository at `path`; None for what it does not have."""
    where = (f"--git-dir={path}/.git",)
    try:
        # Not --short: it prints heads/NAME when a tag has the same name as the branch.
        head = git(*where, "symbolic-ref", "--quiet", "HEAD", timeout_s=READ_TIMEOUT_S, quiet_codes=(1,))
        commit = git(*where, "rev-parse", "--quiet", "--verify", "HEAD", timeout_s=READ_TIMEOUT_S, quiet_codes=(1,))
    except (GitFailed, OSError):
        return {"branch": None, "commit": None, "left_out": [], "ahead": None, "behind": None}
    branch = head[len(BRANCHES) :] if head.startswith(BRANCHES) else None
    ahead, behind = distance(path) if branch and commit else (None, None)
    return {
        "branch": branch or None, "commit": commit or None, "left_out": left_out(path),
        "ahead": ahead, "behind": behind,
    }  # fmt: skip


def distance(path: str) -> Tuple[Optional[int], Optional[int]]:
    """Return how many commits the current branch has alone, and its upstream alone; None without an upstream."""
    words = ("rev-list", "--left-right", "--count", "HEAD...@{upstream}")
    try:
        ahead, behind = git(f"--git-dir={path}/.git", *words, timeout_s=READ_TIMEOUT_S).split()
        return int(ahead), int(behind)
    except (GitFailed, OSError, ValueError):
        return None, None


def left_out(path: str) -> List[str]:
    """Return what is missing from the working tree: "lfs" for Git LFS files, "submodules"."""
    parts = ["lfs"] if has_pointers(path) else []
    is_fetched = os.path.isdir(os.path.join(path, ".git", "modules"))
    if os.path.lexists(os.path.join(path, ".gitmodules")) and not is_fetched:
        parts.append("submodules")
    return parts


def has_pointers(path: str) -> bool:
    """Return whether the working tree has a pointer in place of a Git LFS file."""
    where = ("-C", path, "--git-dir=.git", "--work-tree=.")
    try:
        listed = git(*where, "ls-files", "-z", "--", ":(attr:filter=lfs)", timeout_s=READ_TIMEOUT_S)
    except (GitFailed, OSError):
        return False
    return any(is_lfs_pointer(os.path.join(path, name)) for name in listed.split("\0")[:POINTERS_MAX] if name)


def is_lfs_pointer(path: str) -> bool:
    """Return whether a file is a Git LFS pointer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with open(descriptor, "rb") as file:
        return file.read(len(POINTER)) == POINTER


def write_mark(path: str, token: str) -> None:
    """Write the token of the call that creates this repository into its .git directory."""
    with open(os.path.join(path, ".git", MARK), "x", encoding="ascii") as file:
        file.write(token + "\n")


def sync(path: str) -> None:
    """Write the whole file system of `path` to its disk; OSError when that fails."""
    if subprocess.run(["sync", "--file-system", path], stdin=subprocess.DEVNULL, check=False).returncode:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
