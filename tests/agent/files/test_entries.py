"""Entries are listed, moved, removed and made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.files import entries, moving, no_replace, writing
from agent.files.places import Place
from tests.agent.files.conftest import Files
from tests.deep_tree import make_deep


def test_a_list_has_the_entries_by_name(files: Files) -> None:
    (files.place / "b").mkdir(mode=0o700)
    files.write("c", b"four", mode=0o640)
    (files.place / "a").symlink_to("/etc/passwd")
    found = files.do("list")
    assert [record[:4] for record in found] == [
        ["a", "link", len("/etc/passwd"), 0o777], ["b", "directory", 0, 0o700], ["c", "file", 4, 0o640]
    ]  # fmt: skip
    assert [record[5] for record in found] == ["/etc/passwd", None, None]
    assert found[2] == files.do("stat", path="c")


def test_a_list_is_bounded(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "ENTRIES_MAX", 3)
    for number in range(4):
        files.write(str(number), b"")
    assert files.refuses("too_large", "list") == ". has more than 3 entries"


def test_a_move_replaces_nothing_unless_asked(files: Files) -> None:
    etag = files.write("a", b"one")[-1]
    files.write("b", b"two")
    assert files.refuses("exists", "move", path="a", new_path="b") == "b: File exists"
    assert "has changed" in files.refuses("changed", "move", path="a", new_path="b", replace=True, if_etag=etag)
    files.refuses("changed", "move", path="a", new_path="b", replace=True, if_etag="absent")
    assert files.do("move", path="a", new_path="b", replace=True)[0] == "b"
    assert (files.names(), files.read("b")) == ({"b"}, b"one")
    files.refuses("missing", "move", path="a", new_path="c")
    files.refuses("missing", "move", path="b", new_path="x/c")


def test_a_move_replaces_nothing_where_the_file_system_cannot_say_so(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(no_replace, "RENAME_NOREPLACE", 1 << 20)  # EINVAL
    files.write("a", b"one")
    files.write("b", b"two")
    files.refuses("exists", "move", path="a", new_path="b")
    files.do("move", path="a", new_path="c")
    assert files.names() == {"b", "c"}


def test_a_move_onto_a_directory_says_the_whole_path(files: Files) -> None:
    (files.place / "data").mkdir()
    (files.place / "data" / "kept").touch()
    files.write("a", b"one")
    said = files.refuses("exists", "move", path="a", new_path="data")
    assert said == "data is a directory that is there already; new_path is the whole new path: data/a"
    assert files.refuses("wrong", "move", path="a", new_path="data", replace=True).endswith("nor a file a directory")
    (files.place / "tree").mkdir()
    assert files.refuses("exists", "move", path="tree", new_path="data").endswith(": data/tree")


def test_directories_move_too(files: Files) -> None:
    files.do("make_directory", path="a/b", parents=True)
    files.write("a/b/c", b"one")
    assert "inside a" in files.refuses("wrong", "move", path="a", new_path="a/b/d")
    files.do("move", path="a/b", new_path="d")
    assert files.read("d/c") == b"one"
    files.write("f", b"")
    assert "directory does not replace" in files.refuses("wrong", "move", path="f", new_path="d", replace=True)
    assert "directory does not replace" in files.refuses("wrong", "move", path="d", new_path="f", replace=True)
    files.do("move", path="d", new_path="a", replace=True)
    files.do("make_directory", path="e")
    files.refuses("not_empty", "move", path="e", new_path="a", replace=True)


def test_two_hard_links_become_one(files: Files) -> None:
    files.write("a", b"one")
    os.link(files.place / "a", files.place / "b")
    files.do("move", path="a", new_path="b", replace=True)
    files.do("move", path="b", new_path="b", replace=True)
    assert files.names() == {"b"}


@pytest.mark.parametrize("is_written_anew", [True, False])
def test_a_move_that_waited_moves_what_is_there_then(
    files: Files, monkeypatch: pytest.MonkeyPatch, is_written_anew: bool
) -> None:
    """Another move comes first, and a program writes a new file at the old name."""
    source, target = files.place / "a", files.place / "b"

    @contextmanager
    def locked_directory(place: Place, field: str) -> Iterator[int]:
        with writing.locked_directory(place, field) as directory:
            source.rename(target)
            if is_written_anew:
                source.write_text("new")
            yield directory

    source.write_text("old")
    monkeypatch.setattr(moving, "locked_directory", locked_directory)
    if is_written_anew:
        files.do("move", path="a", new_path="b", replace=True)
    else:
        files.refuses("missing", "move", path="a", new_path="b", replace=True)
    assert (files.names(), target.read_text()) == ({"b"}, "new" if is_written_anew else "old")


def test_a_link_does_not_replace_what_it_leads_to(files: Files) -> None:
    files.write("a", b"one")
    (files.place / "link").symlink_to("a")
    (files.place / "other").symlink_to(files.place / "link")
    for path in ("link", "other"):
        said = files.refuses("wrong", "move", path=path, new_path="a", replace=True)
        assert said == f"new_path a is what {path} leads to"
    assert files.read("a") == b"one"
    os.link(files.place / "a", files.place / "b")
    files.do("move", path="other", new_path="b", replace=True)
    (files.place / "loop").symlink_to("loop")
    files.do("move", path="loop", new_path="b", replace=True)
    assert files.names() == {"a", "b", "link"}


def test_a_link_is_moved_and_removed_itself(files: Files) -> None:
    (files.outside / "x").write_text("secret")
    (files.place / "link").symlink_to(files.outside)
    assert files.do("move", path="link", new_path="other")[1] == "link"
    files.do("remove", path="other", recursive=True)
    assert (files.outside / "x").read_text() == "secret"
    assert files.names() == set()


def test_a_directory_that_is_not_empty_goes_only_when_asked(files: Files) -> None:
    files.do("make_directory", path="a/b", parents=True)
    (files.place / "a" / "link").symlink_to(files.outside)
    (files.outside / "x").write_text("secret")
    assert "only `recursive`" in files.refuses("not_empty", "remove", path="a")
    assert files.do("remove", path="a", recursive=True) == "a"
    files.do("make_directory", path="a")
    assert files.do("remove", path="a") == "a"
    files.refuses("missing", "remove", path="a")
    assert (files.outside / "x").read_text() == "secret"


@pytest.mark.slow
def test_a_deep_tree_is_removed(files: Files) -> None:
    make_deep(files.place, "deep", 3000)
    assert "deeper than 256" in files.refuses("too_large", "search", pattern="x")
    files.do("remove", path="deep", recursive=True)
    assert files.names() == set()


def test_the_workspace_itself_stays(files: Files) -> None:
    for path in (".", "a/..", str(files.place)):
        (files.place / "a").mkdir(exist_ok=True)
        assert "is the workspace itself" in files.refuses("wrong", "remove", path=path, recursive=True)
        assert "is the workspace itself" in files.refuses("wrong", "move", path=path, new_path="b")
        assert "is the workspace itself" in files.refuses("wrong", "move", path="a", new_path=path, replace=True)


def test_directories_are_made_with_those_above(files: Files) -> None:
    before = os.umask(0o077)
    try:
        files.refuses("missing", "make_directory", path="a/b")
        assert files.do("make_directory", path="a/b/c", parents=True, mode=0o700)[:4] == [
            "a/b/c",
            "directory",
            0,
            0o700,
        ]
        assert (files.place / "a" / "b").stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)
    files.do("make_directory", path="a/b/c", parents=True)
    assert (files.place / "a" / "b" / "c").stat().st_mode & 0o777 == 0o700, "one that is there stays as it is"
    files.refuses("exists", "make_directory", path="a/b")
    files.write("f", b"")
    files.refuses("exists", "make_directory", path="f", parents=True)
    assert files.refuses("wrong", "make_directory", path="f/g", parents=True) == "path f is not a directory"


def test_what_may_not_be_written_stays(files: Files, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        os.chmod(tmp_path, 0o755)
        for folder in tmp_path.resolve().parents:
            if folder != Path("/") and folder.stat().st_uid == 0:
                os.chmod(folder, folder.stat().st_mode | 0o055)
        os.chown(files.place, 60400, 60400)
    files.write("a", b"one")
    os.chown(files.place / "a", 60400, 60400)
    (files.place / "a").chmod(0o444)
    child = os.fork()
    if not child:
        try:
            if os.geteuid() == 0:
                os.setgid(60400)
                os.setuid(60400)
            assert files.refuses("failed", "write", path="a", data=b"x") == "a may not be written: its mode is 0444"
            files.refuses("failed", "edit", path="a", old=b"one", new=b"")
            files.refuses("failed", "write", path="a", data=b"x", append=True)
            files.do("remove", path="a")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
