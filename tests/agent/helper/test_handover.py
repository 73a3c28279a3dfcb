"""Give a tree to a new owner, whatever its shape, its old owner and interruptions. Needs root, but no node."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from agent.helper.trees import anew, handover, trees
from agent.shared.errors import NotManaged
from tests.agent.helper.handed import NEW, OLD, OTHER, as_uid, assert_belongs_to_new, everything, hand_over

ROUNDS = 300
# Far beyond every recursion limit and the longest path.
DEPTH = 20_000
# Holds descriptors of the tree, swaps directories, links and files, makes links to the outside, widens modes.
ATTACKER = """
import os, sys
os.setgroups([]); os.setresgid({uid}, {uid}, {uid}); os.setresuid({uid}, {uid}, {uid})
os.umask(0)
top, outside = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_RDONLY)
inner = [os.open(name, os.O_RDONLY, dir_fd=top) for name in ("a", "b")]
files = [os.open("a/file", os.O_RDWR, dir_fd=top)]
print("ready", flush=True)
number = 0
def attempt(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except OSError:
        pass
while True:
    number += 1
    for one in (top, *inner):
        attempt(os.rename, "x", "y", src_dir_fd=one, dst_dir_fd=inner[number % 2])
        attempt(os.mkdir, "x", 0o777, dir_fd=one)
        attempt(os.symlink, sys.argv[3], "link", dir_fd=one)
        attempt(os.rename, "link", "x", src_dir_fd=one, dst_dir_fd=one)
        attempt(os.rename, "file", f"file{{number}}", src_dir_fd=one, dst_dir_fd=inner[number % 2])
        attempt(os.link, "file", f"kept{{number}}", src_dir_fd=one, dst_dir_fd=outside)
        attempt(os.chmod, "file", 0o6777, dir_fd=one)
        attempt(os.fchmod, one, 0o777)
        attempt(os.rmdir, "y", dir_fd=one)
        attempt(os.close, os.open("file", os.O_CREAT | os.O_RDWR, 0o666, dir_fd=one)) if number < 50 else None
    attempt(os.pwrite, files[0], b"mine", 0)
"""


def test_every_inode_gets_the_new_owner_and_loses_what_opened_it_to_others(base: Path, tree: Path) -> None:
    acl = struct.pack(
        "<I" + "HHI" * 5, 2, 1, 7, 2**32 - 1, 2, 7, OLD, 4, 7, 2**32 - 1, 16, 7, 2**32 - 1, 32, 0, 2**32 - 1
    )
    os.setxattr(tree / "code", "system.posix_acl_access", acl)
    os.setxattr(tree / "code", "system.posix_acl_default", acl)
    os.setxattr(tree / "code/a", "system.posix_acl_access", acl)
    (tree / "code" / "run").write_bytes(b"#!")
    os.chown(tree / "code" / "run", OLD, OLD)
    os.chmod(tree / "code" / "run", 0o6755)
    capability = struct.pack("<IIIII", 0x02000001, 1, 0, 0, 0)
    os.setxattr(tree / "code" / "run", "security.capability", capability)
    os.chmod(tree, 0o777)
    os.mkfifo(tree / "pipe")
    os.symlink("/etc/passwd", tree / "passwd")
    os.symlink(base / "outside", tree / "code" / "outside")
    os.chown(tree / "passwd", OLD, OLD, follow_symlinks=False)
    os.link(tree / "passwd", base / "outside" / "passwd", follow_symlinks=False)
    hand_over(base)
    assert_belongs_to_new(tree)
    assert stat.S_IMODE(tree.stat().st_mode) == 0o700
    assert (tree / "code" / "run").stat().st_mode & 0o777 == 0o750
    assert (base / "outside").stat().st_uid == OLD
    assert os.stat("/etc/passwd").st_uid == 0
    assert os.readlink(tree / "passwd") == "/etc/passwd"
    assert as_uid(NEW, "print(open(sys.argv[1]).read())", tree / "code" / "a").stdout == b"t\n"


def test_files_about_the_workspace_are_written_anew_whatever_stands_there(base: Path, tree: Path) -> None:
    os.symlink(base / "outside", tree / ".codesmith")
    (tree / "AGENTS.md").mkdir()
    hand_over(base)
    assert (tree / "AGENTS.md").read_bytes() == b"new"
    assert (tree / ".codesmith" / "workspace.json").read_bytes() == b"{}"
    assert stat.S_IMODE((tree / ".codesmith").lstat().st_mode) == 0o500
    (tree / ".codesmith" / "other").touch()
    hand_over(base, handover.Change(frozenset((NEW,)), OLD))
    assert (tree / ".codesmith" / "other").stat().st_uid == OLD
    assert list((base / "outside").iterdir()) == []


def dig(top: Path, depth: int) -> int:
    """Make a chain of directories, a file in each hundredth; return a descriptor of the last one."""
    descriptor = os.open(top, os.O_RDONLY)
    for number in range(depth):
        os.mkdir("d", 0o777, dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
        os.fchown(descriptor, OLD, OLD)
        if number % 100 == 0:
            os.close(os.open("file", os.O_CREAT, 0o666, dir_fd=descriptor))
    return descriptor


def assert_dug(top: Path, depth: int) -> None:
    descriptor = os.open(top, os.O_RDONLY)
    for number in range(depth):
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
        found = os.fstat(descriptor)
        assert (found.st_uid, found.st_mode & 0o777) == (NEW, 0o750), number
        assert sorted(os.listdir(descriptor)) == ["d", "file"][number == depth - 1 : 1 + (number % 100 == 0)], number
    os.close(descriptor)


@pytest.mark.slow
def test_depth_is_no_defence(base: Path, tree: Path) -> None:
    os.close(dig(tree / "code", DEPTH))
    hand_over(base)
    assert_dug(tree / "code", DEPTH)
    assert trees.remove(str(base / "homes"), "demo")


@pytest.mark.slow
def test_an_owner_who_swaps_everything_meanwhile_gains_nothing(base: Path, tree: Path) -> None:
    precious = base / "precious"
    precious.mkdir()
    (precious / "file").write_bytes(b"p")
    trees.remove(str(base / "homes"), "demo")
    entries = [trees.Entry("a", 0o777), trees.Entry("a/file", 0o666, b"t"), trees.Entry("b", 0o777)]
    entries += [trees.Entry(f"{folder}/{n}", 0o777) for folder in "ab" for n in range(5)]
    for _ in range(ROUNDS):
        trees.make(str(base / "homes"), "demo", OLD, 0o700, entries)
        attack = [sys.executable, "-I", "-S", "-c", ATTACKER.format(uid=OLD), tree, base / "outside", precious]
        with subprocess.Popen(attack, stdout=subprocess.PIPE) as attacker:
            assert attacker.stdout
            assert attacker.stdout.readline() == b"ready\n"
            try:
                hand_over(base)
                assert_belongs_to_new(tree)
                inside = {found.st_ino for _, found in everything(tree)}
            finally:
                attacker.kill()
        assert not inside & {found.st_ino for _, found in everything(base / "outside")}
        for path in (base / "outside").iterdir():
            path.unlink()
        trees.remove(str(base / "homes"), "demo")
    assert (precious.stat().st_uid, (precious / "file").stat().st_uid) == (0, 0)


@pytest.mark.slow
def test_what_was_cut_off_at_any_moment_is_completed_by_the_next_run(
    base: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(tree / "code" / "a", tree / "code" / "b")
    for folder in ("one", "one/two", "one/three", "four"):
        (tree / "code" / folder).mkdir()
        (tree / "code" / folder / "file").write_text(folder)
    subprocess.run(["chown", "-R", f"{OLD}:{OLD}", tree], check=True)
    os.chmod(tree / "code", 0o750)
    calls = ["chown", "copy_file_range", "fchmod", "fchown", "fsync", "ftruncate", "link", "listdir", "mkdir", "open"]
    calls += ["rename", "rmdir", "scandir", "sync", "unlink", "utime"]
    exchange = anew._exchange()
    assert exchange is not None

    class Cut(BaseException):
        pass

    def contents() -> dict[str, bytes]:
        return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}

    hand_over(base, handover.Change(frozenset((OLD,)), OLD))
    expected = contents()
    assert len(expected) == 8
    for moment in range(1000):
        left = [moment]

        def cutting(name: str, left: list[int] = left) -> object:
            real = exchange if name == "exchange" else getattr(os, name)

            def call(*args: object, **kwargs: object) -> object:
                if left[0] == 0:
                    raise Cut
                left[0] -= 1
                return real(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in calls:
                patch.setattr(os, name, cutting(name))
            cut_exchange = cutting("exchange")
            patch.setattr(anew, "_exchange", lambda cut_exchange=cut_exchange: cut_exchange)
            try:
                # To another user: the next run may name another one.
                hand_over(base, handover.Change(frozenset((OLD,)), OTHER))
                was_cut = False
            except Cut:
                was_cut = True
        trees.clean_staging()
        hand_over(base, handover.Change(frozenset((OLD, OTHER)), NEW))
        assert_belongs_to_new(tree)
        assert stat.S_IMODE((tree / "code").stat().st_mode) == 0o750
        assert contents() == expected
        if not was_cut:
            break
        hand_over(base, handover.Change(frozenset((NEW,)), OLD))
    assert moment > 100


def test_a_directory_that_is_gone_or_in_the_way_is_told(base: Path, tree: Path) -> None:
    handover.move_to_staging(str(base / "homes"), "demo")
    handover.move_to_staging(str(base / "homes"), "demo")
    (base / "homes" / "demo").mkdir()
    with pytest.raises(NotManaged):
        handover.put_back(str(base / "homes"), "demo")
    with pytest.raises(NotManaged, match="is gone"):
        handover.move_to_staging(str(base / "homes"), "nobody")
    trees.clean_staging()
    assert [path.name for path in (base / "staging").iterdir()] == ["@demo"]


def test_a_sweep_meanwhile_takes_nothing_away(base: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "big").write_bytes(b"x")
    os.link(tree / "big", tree / "big2")
    os.chown(tree / "big", OLD, OLD)
    copy_bytes = anew._copy_bytes

    def sweeping(*args: int) -> None:
        trees.clean_staging()
        copy_bytes(*args)

    monkeypatch.setattr(anew, "_copy_bytes", sweeping)
    hand_over(base)
    assert (tree / "big2").stat().st_uid == NEW
