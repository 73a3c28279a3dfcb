"""The trash is emptied while other changes go on; what cannot be removed is reported and blocks nothing."""

from __future__ import annotations

import fcntl
import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.helper.trees import mounts, trash, trees
from agent.shared.errors import CommandFailed, InUse


@pytest.fixture
def full(base: Path) -> Path:
    for number in range(3):
        (base / "trash" / f"old{number}" / "deep" / "er").mkdir(parents=True)
        (base / "trash" / f"old{number}" / "deep" / "file").touch()
    return base / "trash"


def test_nothing_is_left(full: Path) -> None:
    assert trash.empty() == []
    assert list(full.iterdir()) == []


def test_one_process_empties_and_others_do_not_wait_for_ever(full: Path) -> None:
    descriptor = os.open(full, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert trash.empty(0.1) == []
    trash.empty_quietly()
    assert len(list(full.iterdir())) == 3
    os.close(descriptor)
    trash.empty_quietly()
    assert list(full.iterdir()) == []


def test_a_deadline_leaves_the_rest_to_the_next_one(full: Path) -> None:
    assert trash.empty(-1) == []
    assert len(list(full.iterdir())) == 3
    assert trash.empty(None) == []
    assert list(full.iterdir()) == []


@pytest.mark.slow
def test_a_directory_of_many_files_costs_no_more_than_the_deadline(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5_000):
        (full / "old1" / f"{number}").touch()
    looks = itertools.count()
    with monkeypatch.context() as patch:
        patch.setattr(trash.Emptying, "is_late", lambda self: next(looks) > 100)
        assert trash.empty(1) == []
    assert len(list(full.rglob("*"))) > 4_900
    assert trash.empty(None) == []
    assert list(full.iterdir()) == []


@pytest.fixture
def fixed(full: Path) -> Iterator[Path]:
    """A file that not even root can remove."""
    file = full / "old1" / "deep" / "file"
    if subprocess.run(["chattr", "+i", file], capture_output=True).returncode:
        pytest.fail("chattr +i does not work on the file system of the tests")
    yield file
    subprocess.run(["chattr", "-R", "-i", full], capture_output=True)


def test_what_cannot_be_removed_is_told_and_the_rest_goes(full: Path, fixed: Path, capsys) -> None:
    (problem,) = trash.empty()
    assert problem.startswith(f"{full}/") and problem.endswith(": Operation not permitted")
    assert [path.name for path in full.rglob("*") if path.is_file()] == ["file"]
    assert len(list(full.iterdir())) == 1
    trash.empty_quietly()
    assert "cannot be removed: " in capsys.readouterr().err
    subprocess.run(["chattr", "-R", "-i", full], check=True)
    assert trash.empty() == []
    assert list(full.iterdir()) == []


def test_more_than_a_batch_of_them_hold_nothing_up(full: Path, monkeypatch, fixed: Path) -> None:
    monkeypatch.setattr(trash, "BATCH", 1)
    monkeypatch.setattr(trash, "STUCK_MAX", 1)
    (full / "young").touch()
    assert trash.empty()
    assert not (full / "young").exists()


@pytest.fixture
def mounted(base: Path) -> Iterator[Path]:
    """A tree with a file system of root mounted in it, whose files must stay."""
    precious, point = base / "precious", base / "trash" / "tree" / "mounted here"
    precious.mkdir()
    (precious / "file").touch()
    point.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "precious", point], check=True)
    (point / "file").touch()
    yield point
    found = subprocess.run(["umount", point], capture_output=True)
    if found.returncode:
        subprocess.run(["umount", next((base / "trash").iterdir())], check=True)


def test_what_is_mounted_is_seen(base: Path, mounted: Path) -> None:
    with pytest.raises(InUse, match=r"a file system is mounted at .*mounted here"):
        mounts.refuse_mounts(str(base / "trash" / "tree"))
    with pytest.raises(InUse):
        mounts.refuse_mounts(str(mounted))
    mounts.refuse_mounts(str(base / "trash" / "tre"))
    mounts.refuse(str(base), "homes")
    mounts.refuse(str(base), "nothing")


def test_another_file_system_is_not_taken_apart(base: Path, mounted: Path) -> None:
    (problem,) = trash.empty()
    assert "another file system" in problem or "busy" in problem.lower()
    assert any(path.name == "file" for path in (base / "trash").rglob("*"))


def test_a_removal_only_renames(base: Path) -> None:
    (base / "homes" / "ada" / "deep").mkdir(parents=True)
    assert trees.remove(str(base / "homes"), "ada")
    assert not (base / "homes" / "ada").exists()
    (thrown,) = (base / "trash").iterdir()
    assert (thrown / "deep").is_dir()


def test_a_tree_whose_top_is_immutable_is_seen_before_anything_is_done(base: Path) -> None:
    subprocess.run(["chattr", "+i", base / "homes"], check=True)
    try:
        with pytest.raises(CommandFailed, match="homes is immutable"):
            mounts.refuse(str(base), "homes")
    finally:
        subprocess.run(["chattr", "-i", base / "homes"], check=True)
