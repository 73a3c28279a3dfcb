"""What is read is what is there, in pieces; what is written is there whole, or not at all."""

from __future__ import annotations

import base64
import fcntl
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.files import writing
from tests.agent.files.conftest import Files

MIB = 1 << 20
TOP = Path(__file__).parents[3]


def test_a_file_is_read_in_pieces(files: Files) -> None:
    data = os.urandom(3 * 4096 + 5)
    (files.place / "a").write_bytes(data)
    found, offset, is_end = b"", 0, False
    while not is_end:
        piece = files.do("read", path="a", offset=offset, limit=4096, whole_characters=False)
        found += base64.b64decode(piece["data"])
        offset, is_end = piece["next_offset"], piece["eof"]
        assert piece["size_bytes"] == len(data)
    assert found == data


def test_a_piece_of_text_ends_at_a_whole_character(files: Files) -> None:
    text = "aß€😀" * 50
    (files.place / "a").write_text(text, encoding="utf-8")
    for limit in (1, 2, 3, 4, 5, 7, 100):
        found, offset, is_end = "", 0, False
        while not is_end:
            piece = files.do("read", path="a", offset=offset, limit=limit)
            found += base64.b64decode(piece["data"]).decode()
            assert piece["next_offset"] > offset, "a reader gets on"
            offset, is_end = piece["next_offset"], piece["eof"]
        assert found == text, limit


def test_what_is_not_utf8_is_not_cut(files: Files) -> None:
    for data in (b"\xff" * 10, b"abc\xc3", b"\xe9t\xe9", b"\x80\x80"):
        (files.place / "a").write_bytes(data)
        assert files.read("a") == data
        assert files.read("a", limit=2) == data[:2]


def test_a_huge_sparse_file_is_read_by_offset(files: Files) -> None:
    with (files.place / "huge").open("wb") as file:
        file.truncate(1 << 40)
        file.seek((1 << 40) - 4)
        file.write(b"tail")
    piece = files.do("read", path="huge", offset=(1 << 40) - 4)
    assert (base64.b64decode(piece["data"]), piece["eof"], piece["size_bytes"]) == (b"tail", True, 1 << 40)
    beyond = files.do("read", path="huge", offset=1 << 41)
    assert (beyond["data"], beyond["eof"], beyond["next_offset"]) == ("", True, 1 << 41)
    assert files.refuses("too_large", "edit", path="huge", old=b"tail", new=b"") == (
        "huge is larger than 16 MiB, too large for an edit"
    )


def test_a_write_keeps_mode_and_attributes(files: Files) -> None:
    assert files.write("a", b"one")[3] == 0o644
    (files.place / "a").chmod(0o750)
    os.setxattr(files.place / "a", "user.origin", b"here")
    assert files.write("a", b"two")[3] == 0o750
    assert os.getxattr(files.place / "a", "user.origin") == b"here"
    assert files.write("a", b"x", append=True)[3] == 0o750
    assert files.do("edit", path="a", old=b"x", new=b"y")[3] == 0o750
    assert files.write("a", b"two", mode=0o600)[3] == 0o600
    (files.place / "a").chmod(0o4755)
    assert files.write("a", b"two")[3] == 0o755, "as after any write"


def test_other_hard_links_keep_the_old_file(files: Files) -> None:
    files.write("a", b"one")
    os.link(files.place / "a", files.place / "b")
    files.write("a", b"two")
    assert (files.read("a"), files.read("b")) == (b"two", b"one")


@pytest.mark.slow
def test_a_reader_sees_the_old_file_or_the_new_one(files: Files) -> None:
    sizes, stop = set(), threading.Event()
    files.write("a", b"a" * 100_000)

    def read() -> None:
        while not stop.is_set():
            data = (files.place / "a").read_bytes()
            sizes.add((len(data), len(set(data))))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(100):
            files.write("a", b"ab"[number % 2 : number % 2 + 1] * (100_000 + number % 2))
    finally:
        stop.set()
        reader.join()
    assert sizes <= {(100_000, 1), (100_001, 1)}


@contextmanager
def no_more_than(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_write_that_fails_leaves_the_old_file(files: Files) -> None:
    files.write("a", b"one")
    with no_more_than(1000):
        assert files.refuses("too_large", "write", path="a", data=b"x" * 2000) == "a: File too large"
        files.refuses("too_large", "write", path="new", data=b"x" * 2000)
        files.refuses("too_large", "edit", path="a", old=b"one", new=b"x" * 2000)
        files.refuses("too_large", "write", path="a", data=b"x" * 2000, append=True)
    assert files.read("a") == b"one"
    assert files.names() == {"a"}


def test_a_full_disk_leaves_the_old_file(files: Files) -> None:
    (files.place / "small").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", files.place / "small"], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root mounts; make test runs as root")
    try:
        files.write("small/a", b"one")
        assert files.refuses("full", "write", path="small/a", data=b"x" * 100_000) == (
            "small/a: No space left on device"
        )
        files.refuses("full", "write", path="small/a", data=b"x" * 100_000, append=True)
        assert files.read("small/a") == b"one"
        assert os.listdir(files.place / "small") == ["a"]
        files.write("b", b"b")
        assert "another file system" in files.refuses("other_file_system", "move", path="b", new_path="small/b")
    finally:
        subprocess.run(["umount", files.place / "small"], check=True)


def test_what_a_killed_write_left_is_removed_by_the_next(files: Files) -> None:
    (files.place / ".codesmith-write-0123").write_text("half")
    (files.place / ".codesmith-upload-new").write_text("in progress")
    (files.place / ".codesmith-upload-old").write_text("of last week")
    os.utime(files.place / ".codesmith-upload-old", (1, 1))
    files.write("a", b"one")
    assert files.names() == {"a", ".codesmith-upload-new"}


@pytest.mark.slow
def test_a_write_that_is_killed_leaves_the_old_file(files: Files) -> None:
    """Killed again and again, at any moment: the old file or the new one, never another."""
    code = (
        "import sys, base64; sys.path.insert(0, sys.argv[1]); from agent.files import job\n"
        "print(flush=True)\n"
        "while True:\n"
        "    for byte in (b'a', b'b'):\n"
        "        data = base64.b64encode(byte * 300_000).decode()\n"
        "        job.answer({'action': 'write', 'root': '/', 'path': 'a', 'data': data, 'mode': None,"
        " 'append': False, 'if_etag': None}, '.')\n"
    )
    files.write("a", b"a" * 300_000)
    for _ in range(10):
        process = subprocess.Popen([sys.executable, "-c", code, TOP], cwd=files.place, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.communicate()
        assert (files.place / "a").read_bytes() in (b"a" * 300_000, b"b" * 300_000)
    files.write("a", b"end")
    assert files.names() == {"a"}


def test_an_etag_tells_a_change(files: Files) -> None:
    etag = files.write("a", b"one")[-1]
    assert files.do("read", path="a")["etag"] == files.do("stat", path="a")[-1] == etag
    times = (files.place / "a").stat()
    (files.place / "a").write_bytes(b"two")
    os.utime(files.place / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert files.do("stat", path="a")[-1] != etag, "the time was set back, and the size is the same"
    for action, more in (
        ("write", {"data": b""}),
        ("write", {"data": b"", "append": True}),
        ("edit", {"old": b"t", "new": b""}),
    ):
        assert "has changed" in files.refuses("changed", action, path="a", if_etag=etag, **more)
    etag = files.write("a", b"1", if_etag=files.do("stat", path="a")[-1])[-1]
    etag = files.write("a", b"2", if_etag=etag, append=True)[-1]
    files.do("edit", path="a", old=b"12", new=b"3", if_etag=etag)
    assert files.read("a") == b"3"
    assert "not there any more" in files.refuses("changed", "write", path="b", data=b"", if_etag=etag)


def test_absent_is_an_etag_too(files: Files) -> None:
    files.write("a", b"one", if_etag="absent")
    for append in (False, True):
        assert files.refuses("changed", "write", path="a", data=b"", if_etag="absent", append=append) == (
            "a is there already"
        )
    assert files.read("a") == b"one"


@pytest.mark.slow
def test_of_many_writes_with_one_etag_one_wins(files: Files) -> None:
    code = (
        "import sys, base64; sys.path.insert(0, sys.argv[1]); from agent.files import job\n"
        "answer = job.answer({'action': 'write', 'root': '/', 'path': 'a', 'data': 'eA==', 'mode': None,"
        " 'append': False, 'if_etag': sys.argv[2]}, '.')\n"
        "print('result' in answer)\n"
    )
    for etag in (files.write("a", b"one")[-1], "absent"):
        if etag == "absent":
            files.do("remove", path="a")
        several = [
            subprocess.Popen([sys.executable, "-c", code, TOP, etag], cwd=files.place, stdout=subprocess.PIPE)
            for _ in range(6)
        ]
        assert sorted(process.communicate()[0] for process in several) == [b"False\n"] * 5 + [b"True\n"]


def test_a_directory_that_is_locked_is_waited_for(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "LOCK_WAIT_S", 0.2)
    held = os.open(files.place, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        assert "holds a lock" in files.refuses("busy", "write", path="a", data=b"")
    finally:
        os.close(held)
    files.write("a", b"")


def test_an_edit_replaces_the_one_occurrence(files: Files) -> None:
    files.write("a", b"\xff one two\r\none three")
    assert files.refuses("wrong", "edit", path="a", old=b"four", new=b"x") == "old does not occur in a"
    assert (
        files.refuses("wrong", "edit", path="a", old=b"one", new=b"x") == "old occurs 2 times in a; it must occur once"
    )
    assert files.answer("edit", path="a", old=b"one", new=b"x")["count"] == 2
    files.do("edit", path="a", old=b"two\r\none", new=b"")
    assert files.read("a") == b"\xff one  three"
    files.write("a", b"aaa")
    assert "occurs 2 times" in files.refuses("wrong", "edit", path="a", old=b"aa", new=b"x"), "they overlap"
    files.refuses("missing", "edit", path="b", old=b"aa", new=b"x")


def test_ten_megabytes_go_in_and_out_in_pieces(files: Files) -> None:
    data = os.urandom(10 * MIB)
    name, piece = ".codesmith-upload-0123", 128 << 10
    etag = files.write(name, data[:piece], if_etag="absent")[-1]
    for at in range(piece, len(data), piece):
        etag = files.write(name, data[at : at + piece], append=True, if_etag=etag)[-1]
    files.do("move", path=name, new_path="a", replace=True)
    found, offset = b"", 0
    while offset < len(data):
        one: dict[str, Any] = files.do("read", path="a", offset=offset, whole_characters=False)
        found, offset = found + base64.b64decode(one["data"]), one["next_offset"]
    assert found == data
    assert files.names() == {"a"}


def test_an_upload_is_on_disk_before_it_gets_its_name(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.rename

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        done.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))

    def renamed(*words: Any, **where: Any) -> None:
        replace(*words, **where)
        done.append("renamed")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    files.write("a", b"one")
    assert [name[:17] for name in done] == [".codesmith-write-", "workspace"]
    done.clear()
    upload, etag = ".codesmith-upload-1", "absent"
    for number in range(3):
        etag = files.write(upload, b"two", append=number > 0, if_etag=etag)[-1]
    assert done == [], "no piece waits for the disk"
    monkeypatch.setattr(writing, "SYNC_BYTES", 10)
    etag = files.write(upload, b"!", append=True, if_etag=etag)[-1]
    assert done == [upload], "but for one of many"
    done.clear()
    files.do("move", path=upload, new_path="a", replace=True)
    assert done == [upload, "renamed", "workspace", "workspace"]
    assert files.read("a") == b"two" * 3 + b"!"
