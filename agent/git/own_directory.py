"""A git directory of our own for one exchange with a URL: objects and refs are the repository's, the settings are ours.

Whoever writes to a repository writes its .git/config and its hooks too, and with them decides which programs git runs
and where it connects. None of that is read while a credential is there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from typing import Dict, Iterator, List, Optional

from agent.git import grammar
from agent.git.command import git
from agent.shared.errors import InvalidParams

SHARED = ("objects", "refs", "logs", "packed-refs", "shallow")
HEADS = "refs/heads/"
TRACKING = "refs/remotes/origin/"
EVERY_BRANCH = f"+{HEADS}*:{TRACKING}*"
HEAD_BYTES_MAX = 1024
# alternateRefsCommand: git would start itself in the repositories of objects/info/alternates, with their settings.
CONFIG = """\
[core]
	repositoryformatversion = {version}
	bare = true
	logAllRefUpdates = true
	alternateRefsCommand = true
[extensions]
{extensions}[remote "origin"]
	url = {url}
	fetch = {refspec}
"""


class NoRepository(Exception):
    """There is no repository, or none of a kind that can be used here."""


@contextlib.contextmanager
def made(path: str, url: str) -> Iterator[str]:
    """Yield a git directory whose remote `origin` is `url`, with the refs and objects of the one at `path`."""
    if not all(os.path.isdir(os.path.join(path, name)) for name in ("objects", "refs/heads")):
        raise NoRepository
    folder = tempfile.mkdtemp(prefix="codesmith-")  # 0700; a runtime has its own /tmp
    try:
        for name in SHARED:
            if name == "logs" and not os.path.isdir(os.path.join(path, name)):
                continue  # git would make folders in it, which does not work through a link to nowhere
            os.symlink(os.path.abspath(os.path.join(path, name)), os.path.join(folder, name))
        with open(os.path.join(folder, "HEAD"), "w", encoding="utf-8") as file:
            file.write(head(path) + "\n")
        is_sha256 = _settings(folder, path, "extensions.objectformat") == ["sha256"]
        extensions = "\tobjectFormat = sha256\n" if is_sha256 else ""
        text = CONFIG.format(version=int(is_sha256), extensions=extensions, url=url, refspec=EVERY_BRANCH)
        with open(os.path.join(folder, "config"), "w", encoding="utf-8") as file:
            file.write(text)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def head(path: str) -> str:
    """Return what HEAD of a git directory says: `ref: refs/heads/BRANCH` or a commit hash."""
    try:
        descriptor = os.open(os.path.join(path, "HEAD"), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise NoRepository
            text = file.read(HEAD_BYTES_MAX).decode().strip()
    except (OSError, UnicodeDecodeError):
        raise NoRepository from None
    is_branch = text.startswith("ref: " + HEADS) and _parsed(text[len("ref: " + HEADS) :]) is not None
    if not is_branch and not grammar.is_commit(text):
        raise NoRepository
    return text


def branch_of(path: str) -> Optional[str]:
    """Return the current branch of a git directory; None when HEAD is detached."""
    text = head(path)
    return None if grammar.is_commit(text) else text[len("ref: " + HEADS) :]


def upstream_of(directory: str, path: str, branch: str) -> str:
    """Return the branch of `origin` that a branch follows; its own name when it follows none."""
    if _settings(directory, path, f"branch.{branch}.remote") == ["origin"]:
        for merge in _settings(directory, path, f"branch.{branch}.merge"):
            name = _parsed(merge[len(HEADS) :]) if merge.startswith(HEADS) else None
            if name is not None:
                return name
    return branch


def refspecs_of(directory: str, path: str) -> List[str]:
    """Return which branches a repository follows; all, when its settings are other than a clone's."""
    found: Dict[str, None] = {}
    for spec in _settings(directory, path, "remote.origin.fetch"):
        source, _, target = spec.lstrip("+").partition(":")
        name = source[len(HEADS) :]
        if not source.startswith(HEADS) or target != TRACKING + name or (name != "*" and _parsed(name) is None):
            return [EVERY_BRANCH]
        found[f"+{source}:{target}"] = None
    return list(found) or [EVERY_BRANCH]


def _settings(directory: str, path: str, key: str) -> List[str]:
    """Return the values of a setting in the repository's own file, which is read and not applied."""
    file = os.path.join(path, "config")
    if not os.path.isfile(file):
        return []
    words = ("config", "--file", file, "--no-includes", "--get-all", key)
    return git(f"--git-dir={directory}", *words, quiet_codes=(1, 3, 128)).splitlines()


def _parsed(name: str) -> Optional[str]:
    try:
        return grammar.parse_ref(name)
    except InvalidParams:
        return None
