"""What new inodes keep of the old ones: contents, holes, links, times, attributes."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import subprocess
from pathlib import Path

import pytest

from agent.helper.trees import anew
from tests.agent.helper.handed import NEW, OLD, assert_belongs_to_new, hand_over


def test_times_attributes_flags_and_contents_of_directories_stay(base: Path, tree: Path) -> None:
    inner = tree / "code" / "inner"
    inner.mkdir(mode=0o1775)
    for number in range(3000):
        (inner / str(number)).symlink_to("x")
    for path in (inner, tree / "code", tree / "code" / "a"):
        os.setxattr(path, "user.note", b"kept")
        os.chown(path, OLD, OLD)
    os.link(tree / "code" / "a", base / "outside" / "kept")  # so that it is copied
    os.chmod(inner, 0o1775)
    subprocess.run(["chattr", "+d", inner], check=True)
    for number, path in enumerate((inner, tree / "code")):
        os.utime(path, ns=(10**18 + number, 10**18 + 7 + number))
    hand_over(base)
    for number, path in enumerate((inner, tree / "code")):
        found = path.stat()
        assert (found.st_atime_ns, found.st_mtime_ns) == (10**18 + number, 10**18 + 7 + number)
    assert_belongs_to_new(tree)
    assert stat.S_IMODE(inner.stat().st_mode) == 0o1770
    assert {os.getxattr(path, "user.note") for path in (inner, tree / "code", tree / "code" / "a")} == {b"kept"}
    assert "d" in subprocess.run(["lsattr", "-d", inner], capture_output=True, text=True).stdout.split()[0]
    assert sorted(map(int, os.listdir(inner))) == list(range(3000))


def test_holes_stay_holes_and_links_of_one_file_links_of_one_file(base: Path, tree: Path) -> None:
    with open(tree / "code" / "big", "wb") as file:
        file.seek(1 << 40)
        file.write(b"end")
    os.chown(tree / "code" / "big", OLD, OLD)
    os.link(tree / "code" / "big", tree / "code" / "same")
    hand_over(base)
    assert_belongs_to_new(tree)
    assert (tree / "code" / "big").stat().st_ino == (tree / "code" / "same").stat().st_ino
    for name in ("big", "same"):
        found = (tree / "code" / name).stat()
        assert found.st_size == (1 << 40) + 3
        assert found.st_blocks < 100
        with open(tree / "code" / name, "rb") as file:
            file.seek(1 << 40)
            assert file.read() == b"end"


def test_links_to_one_file_become_links_to_one_copy(base: Path, tree: Path) -> None:
    (tree / "first").write_bytes(b"x" * 5000)
    os.chown(tree / "first", OLD, OLD)
    for number in range(20):
        os.link(tree / "first", tree / f"link{number}")
    os.link(tree / "first", base / "outside" / "kept")
    hand_over(base)
    found = {(tree / name).stat().st_ino for name in ("first", "link0", "link19")}
    assert len(found) == 1
    assert (tree / "first").stat().st_nlink == 21
    assert (tree / "link7").stat().st_uid == NEW
    assert (base / "outside" / "kept").stat().st_ino not in found
    assert (base / "outside" / "kept").stat().st_uid == OLD


def test_what_waits_makes_room_for_a_copy_that_finds_none(
    base: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        (tree / "code" / str(number)).write_text(f"text {number}")
    real, calls = anew._copy_bytes, itertools.count()

    def copy_bytes(source: int, target: int, size: int) -> None:
        if next(calls) in (0, 3):
            os.write(target, b"half of it, and then the disk is full")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target, size)

    monkeypatch.setattr(anew, "BATCH_FILES", 3)
    monkeypatch.setattr(anew, "_copy_bytes", copy_bytes)
    with pytest.raises(OSError, match="No space left"):
        hand_over(base)  # the first file: no copy waits that could free space
    hand_over(base)
    assert_belongs_to_new(tree)
    assert [(tree / "code" / str(number)).read_text() for number in range(10)] == [f"text {n}" for n in range(10)]
