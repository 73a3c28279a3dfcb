"""Give a tree to another owner, and check what must be true of it then."""

from __future__ import annotations

import collections
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from agent.helper.trees import handover, trash, trees

OLD, NEW, OTHER = 98765, 98766, 98767
CHANGE = handover.Change(frozenset((OLD,)), NEW)

TOP_FILES = [
    trees.Entry("AGENTS.md", 0o600, b"new"),
    trees.Entry(".codesmith", 0o500),
    trees.Entry(".codesmith/workspace.json", 0o400, b"{}"),
]


def hand_over(base: Path, change: handover.Change = CHANGE) -> None:
    handover.move_to_staging(str(base / "homes"), "demo")
    handover.change_owner("demo", change, TOP_FILES)
    handover.put_back(str(base / "homes"), "demo")
    assert trash.empty(None) == []
    assert list((base / "staging").iterdir()) == list((base / "trash").iterdir()) == []


def everything(top: Path) -> Iterator[tuple[str, os.stat_result]]:
    for folder, folders, files in os.walk(top):
        for name in (".", *folders, *files):
            path = os.path.join(folder, name)
            yield path, os.lstat(path)


def assert_belongs_to_new(top: Path) -> None:
    names = collections.Counter(found.st_ino for path, found in everything(top) if not path.endswith("/."))
    for path, found in everything(top):
        assert (found.st_uid, found.st_gid) == (NEW, NEW), path
        if not stat.S_ISLNK(found.st_mode):
            assert found.st_mode & 0o6007 == 0, (path, oct(found.st_mode))
        if not stat.S_ISDIR(found.st_mode):
            assert found.st_nlink == names[found.st_ino], path
        assert not [one for one in os.listxattr(path, follow_symlinks=False) if "acl" in one or "capab" in one], path


def as_uid(uid: int, script: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    become = f"import os, sys; os.setgroups([]); os.setresgid({uid},{uid},{uid}); os.setresuid({uid},{uid},{uid})\n"
    return subprocess.run([sys.executable, "-c", become + script, *map(str, arguments)], capture_output=True)
