"""Paths lead to what is in the workspace, and to nothing else, whoever changes it meanwhile."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agent.files.conftest import Files
from tests.deep_tree import make_deep

# Swaps two names of one directory for ever, so that a name is a directory and a link in turn.
SWAP = """
import ctypes, os, sys
library = ctypes.CDLL(None)
one, other = (os.fsencode(word) for word in sys.argv[1:])
print(flush=True)
while True:
    library.renameat2(-100, one, -100, other, 2)
"""

SECRET = base64.b64encode(b"secret").decode()


@contextmanager
def swapped(one: Path, other: Path) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", SWAP, one, other], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.communicate()


def test_a_path_is_relative_or_below_the_workspace(files: Files) -> None:
    files.write("a", b"one")
    (files.place / "d").mkdir()
    for path in ("a", "./a", "d/../a", ".//a", f"{files.place}/a"):
        assert files.read(path) == b"one", path
    assert files.do("stat", path=f"{files.place}/./d/")[0] == "d"
    assert files.do("stat", path=str(files.place))[0] == "."


@pytest.mark.parametrize(
    "path", ["..", "../outside/x", "d/../../outside/x", "/etc/passwd", "/", "{place}x/a", "{place}/../outside/x"]
)
def test_a_path_that_leads_out_is_refused(files: Files, path: str) -> None:
    (files.place / "d").mkdir()
    (files.outside / "x").write_text("secret")
    path = path.format(place=files.place)
    for action, more in (("read", {}), ("list", {}), ("write", {"data": b""}), ("remove", {}), ("make_directory", {})):
        assert files.refuses("wrong", action, path=path, **more) == f"path {path} leads out of the workspace"
    assert "new_path" in files.refuses("wrong", "move", path="d", new_path=path)
    assert (files.outside / "x").read_text() == "secret"


def test_a_link_inside_the_workspace_is_followed(files: Files) -> None:
    (files.place / "d").mkdir()
    files.write("d/a", b"one")
    for name, target in (("near", "d/a"), ("far", str(files.place / "d" / "a")), ("way", "d"), ("up", "d/../way/a")):
        (files.place / name).symlink_to(target)
    for path in ("near", "far", "way/a", "up", "way/../d/a"):
        assert files.read(path) == b"one", path
    assert files.write("near", b"two")[0] == "d/a"
    assert (files.place / "near").is_symlink()
    assert files.do("stat", path="near")[:2] == ["near", "link"]
    assert [record[0] for record in files.do("list", path="way")] == ["d/a"]


def test_a_link_to_what_is_not_there_is_written_through(files: Files) -> None:
    (files.place / "next").symlink_to("made")
    files.write("next", b"one")
    assert (files.place / "made").read_bytes() == b"one"


@pytest.mark.parametrize("target", ["../outside/x", "/etc/passwd", "{outside}/x", "d/../../outside/x"])
def test_a_link_that_leads_out_is_refused(files: Files, target: str) -> None:
    (files.outside / "x").write_text("secret")
    (files.place / "d").mkdir()
    (files.place / "link").symlink_to(target.format(outside=files.outside))
    (files.place / "way").symlink_to(files.outside)
    for path in ("link", "way/x"):
        for action, more in (("read", {}), ("write", {"data": b"x"}), ("edit", {"old": b"s", "new": b"t"})):
            assert "leads out of the workspace" in files.refuses("wrong", action, path=path, **more)
    assert "leads out" in files.refuses("wrong", "remove", path="way/x")
    assert "leads out" in files.refuses("wrong", "list", path="way")
    assert files.do("stat", path="link")[1] == "link", "the link itself may be looked at"
    files.do("remove", path="link")
    assert (files.outside / "x").read_text() == "secret"


def test_links_in_a_circle_are_refused(files: Files) -> None:
    (files.place / "a").symlink_to("b")
    (files.place / "b").symlink_to("a")
    assert files.refuses("wrong", "read", path="a") == "path a: too many links"


def test_what_is_no_file_is_refused_at_once(files: Files) -> None:
    os.mkfifo(files.place / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(files.place / "socket"))
        (files.place / "directory").mkdir()
        for kind in ("fifo", "socket", "directory"):
            problem = f"path {kind} is a {kind}, not a file"
            assert files.refuses("wrong", "read", path=kind) == problem
            assert files.refuses("wrong", "write", path=kind, data=b"") == problem
            assert files.refuses("wrong", "write", path=kind, data=b"", append=True) == problem
            assert files.refuses("wrong", "edit", path=kind, old=b"x", new=b"") == problem
            assert files.do("stat", path=kind)[1] == kind


def test_a_device_is_refused(files: Files) -> None:
    try:
        os.mknod(files.place / "null", 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices; make test runs as root")
    assert files.refuses("wrong", "read", path="null") == "path null is a device, not a file"


def test_a_file_is_no_directory(files: Files) -> None:
    files.write("a", b"")
    assert files.refuses("wrong", "read", path="a/b") == "path a is not a directory"
    assert files.refuses("wrong", "list", path="a") == "path a is a file, not a directory"
    assert files.refuses("missing", "read", path="x/b") == "x: no such directory"


def test_names_are_bytes(files: Files) -> None:
    for raw in (b"\xe9t\xe9", b"two\nlines", b"-rf", b"tab\there", "grün".encode(), b" ", b"a" * 255):
        name = os.fsdecode(raw)
        assert files.write(name, raw)[0] == name
        assert (Path(os.fsdecode(os.fsencode(files.place) + b"/" + raw))).read_bytes() == raw
        assert files.read(name) == raw
        assert [record[0] for record in files.do("list")] == [name]
        assert files.do("search", pattern="^.")[0][0] == name
        files.do("move", path=name, new_path="plain")
        files.do("move", path="plain", new_path=name)
        assert files.do("remove", path=name) == name
    assert files.names() == set()


@pytest.mark.parametrize("path", ["a" * 256, "x/" * 300 + "x", "\ud800"])
def test_a_path_that_cannot_be_is_refused(files: Files, path: str) -> None:
    if path.startswith("x/"):
        make_deep(files.place, "x", 300)
    assert files.refuses("wrong", "read", path=path).startswith("path ")


@pytest.mark.slow
def test_a_directory_that_becomes_a_link_leads_nowhere_else(files: Files) -> None:
    """Many rounds of every action, while the directory on the way is a link to the outside in turn."""
    (files.place / "d").mkdir()
    (files.place / "link").symlink_to(files.outside)
    (files.outside / "a").write_text("secret")
    before = (files.outside / "a").stat()
    with swapped(files.place / "d", files.place / "link"):
        found = set()
        for _ in range(400):
            found.add("result" in files.answer("write", path="d/a", data=b"mine"))
            assert SECRET not in str(files.answer("read", path="d/a"))
            files.answer("write", path="d/a", data=b"more", append=False)
            files.answer("edit", path="d/a", old=b"secret", new=b"x")
            files.answer("move", path="d/a", new_path="d/b")
            files.answer("make_directory", path="d/e/f", parents=True)
            files.answer("search", pattern="secret")
            files.answer("remove", path="d/e", recursive=True)
            files.answer("remove", path="d/b")
            files.answer("write", path="d/a", data=b"mine")
    assert found == {True, False}, "both were met"
    assert os.listdir(files.outside) == ["a"]
    after = (files.outside / "a").stat()
    assert (files.outside / "a").read_text() == "secret"
    assert (before.st_ino, before.st_ctime_ns) == (after.st_ino, after.st_ctime_ns)


def test_a_file_that_becomes_a_link_leads_nowhere_else(files: Files) -> None:
    files.write("a", b"mine")
    (files.place / "link").symlink_to(files.outside / "a")
    (files.outside / "a").write_text("secret")
    with swapped(files.place / "a", files.place / "link"):
        found = set()
        for _ in range(400):
            answer = files.answer("read", path="a")
            found.add("result" in answer)
            assert SECRET not in str(answer)
            files.answer("write", path="a", data=b"!", append=True)
            assert not files.do("search", pattern="secret")
    assert found == {True, False}, "both were met"
    assert (files.outside / "a").read_text() == "secret"


def test_a_file_that_becomes_a_fifo_stops_nobody(files: Files) -> None:
    files.write("a", b"mine")
    os.mkfifo(files.place / "fifo")
    with swapped(files.place / "a", files.place / "fifo"):
        for _ in range(300):
            files.answer("read", path="a")
            files.answer("write", path="a", data=b"!", append=True)
            files.do("search", pattern="secret")
