"""A tree is put into a project whole, and nothing beside it, on a file system that has projects: xfs."""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent.helper.trees import projects

pytestmark = pytest.mark.lab  # needs root
PROJECT, OTHER = 70000, 70001
# Deeper than a path may be long, and than descriptors may be open.
LEVELS = 3000


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    image, place = tmp_path_factory.mktemp("disk") / "image", tmp_path_factory.mktemp("mounted")
    with open(image, "wb") as file:
        file.truncate(300 << 20)
    subprocess.run(["mkfs.xfs", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def tree(disk: Path, request: pytest.FixtureRequest) -> Path:
    tree = disk / request.node.name
    (tree / "one" / "two").mkdir(parents=True)
    for path in ("file", "one/file", "one/two/file"):
        (tree / path).write_text("text")
    return tree


def is_in(path: Path, project: int = PROJECT) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return projects.is_in(descriptor, project)
    finally:
        os.close(descriptor)


def put_tree(tree: Path, project: int = PROJECT) -> None:
    descriptor = os.open(tree, projects.DIRECTORY)
    gc.collect()  # else those that earlier tests left go meanwhile
    before = len(os.listdir("/proc/self/fd"))
    try:
        projects.put_tree(descriptor, project)
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        os.close(descriptor)


def test_all_below_belongs_to_it_and_what_is_made_there_later(tree: Path) -> None:
    assert not is_in(tree)
    put_tree(tree)
    (tree / "one" / "new").mkdir()
    (tree / "one" / "new" / "file").write_text("text")
    assert [path for path in (tree, *tree.rglob("*")) if not is_in(path)] == []
    put_tree(tree)  # again
    put_tree(tree, OTHER)
    assert [path for path in (tree, *tree.rglob("*")) if not is_in(path, OTHER)] == []


def test_links_are_not_followed_and_other_names_of_foreign_files_stay_theirs(tree: Path, disk: Path) -> None:
    foreign = disk / "foreign"
    (foreign / "folder").mkdir(parents=True, exist_ok=True)
    for name in ("linked", "named", "own"):
        (foreign / name).write_text("text")
    os.chown(foreign / "own", PROJECT, PROJECT)
    (tree / "link").symlink_to(foreign / "linked")
    (tree / "folder").symlink_to(foreign / "folder")
    os.link(foreign / "named", tree / "named")
    os.link(foreign / "own", tree / "own")
    os.mkfifo(tree / "fifo")
    put_tree(tree)
    assert not any(map(is_in, (foreign, foreign / "folder", foreign / "linked", foreign / "named")))
    assert is_in(foreign / "own")
    assert is_in(tree)


def test_what_is_mounted_below_is_left_alone(tree: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", tree / "one" / "two"], check=True)
    try:
        put_tree(tree)
    finally:
        subprocess.run(["umount", tree / "one" / "two"], check=True)
    assert is_in(tree / "one")
    assert not is_in(tree / "one" / "two")


def test_any_depth_is_reached(disk: Path, tree: Path) -> None:
    before = os.getcwd()
    os.chdir(tree)
    try:
        for _ in range(LEVELS):
            os.mkdir("deeper")
            os.chdir("deeper")
        put_tree(tree)
        assert is_in(Path())
    finally:
        os.chdir(before)


def test_the_top_comes_last_so_that_one_that_was_cut_off_is_seen(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = (tree / "one" / "two" / "file").stat().st_ino

    def put(descriptor: int, project: int) -> None:
        if os.fstat(descriptor).st_ino == last:
            raise OSError("cut off")
        true_put(descriptor, project)

    true_put = projects.put
    monkeypatch.setattr(projects, "put", put)
    with pytest.raises(OSError, match="cut off"):
        put_tree(tree)
    assert is_in(tree / "one" / "two")
    assert not is_in(tree)


def test_a_file_system_without_projects_is_no_error_when_a_workspace_is_made(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path], check=True)
    descriptor = os.open(tmp_path, projects.DIRECTORY)
    try:
        projects.put_if_possible(descriptor, PROJECT)
        assert not projects.is_in(descriptor, PROJECT)
        with suppress(OSError):
            projects.put(descriptor, PROJECT)
            pytest.fail("a temporary file system has no projects")
    finally:
        os.close(descriptor)
        subprocess.run(["umount", tmp_path], check=True)
