"""`inv file.*` as real processes, against the methods themselves and a directory of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.agent.files.stand_in import StandInFiles
from tests.sdk.sdk_doubles import http, scripted
from tests.tasks.conftest import INV, TOP, Place
from tests.waiting import eventually

pytestmark = pytest.mark.slow

CALLS_MAX = 500
MIB = 1 << 20


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandInFiles:
    (tmp_path / "workspace").mkdir()
    return StandInFiles(tmp_path / "workspace", monkeypatch)


@contextmanager
def served(place: Place, demo: StandInFiles) -> Iterator[None]:
    with scripted(place.endpoint(), *[demo.answer] * CALLS_MAX):
        yield


def run(place: Place, *words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [INV, *words], cwd=TOP, env=place.environment, capture_output=True, timeout=120, check=False, **options
    )


def test_bytes_of_any_size_go_in_and_out(place: Place, demo: StandInFiles, tmp_path: Path) -> None:
    sizes = (0, 168 << 10, (168 << 10) + 1, MIB + 3)
    with served(place, demo):
        for size in sizes:
            data = os.urandom(size)
            (tmp_path / "blob").write_bytes(data)
            done = run(place, "file.write", "demo", "a", "--from", str(tmp_path / "blob"))
            assert (done.returncode, done.stderr) == (0, b"")
            assert done.stdout.splitlines()[:3] == [b"path\ta", b"type\tfile", f"size_bytes\t{size}".encode()]
            assert (demo.folder / "a").read_bytes() == data
            done = run(place, "file.read", "demo", "a")
            assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")
            assert os.listdir(demo.folder) == ["a"]
    writes = [params for method, params in demo.calls if method == "file.write"]
    assert max(len(params["data"]) for params in writes) <= 256 << 10, "what one request takes"


def test_standard_input_is_written(place: Place, demo: StandInFiles) -> None:
    with served(place, demo):
        run(place, "file.write", "demo", "a", "--mode", "0750", input=b"one\n")
        run(place, "file.write", "demo", "a", "--append", "--from", "-", input=b"two\n")
        run(place, "file.write", "demo", "a", "--append", input=b"x" * MIB)
    assert (demo.folder / "a").read_bytes() == b"one\ntwo\n" + b"x" * MIB
    assert (demo.folder / "a").stat().st_mode & 0o777 == 0o750


def test_a_long_write_keeps_mode_link_and_etag(place: Place, demo: StandInFiles) -> None:
    (demo.folder / "d").mkdir()
    (demo.folder / "d" / "a").write_text("old")
    (demo.folder / "d" / "a").chmod(0o750)
    (demo.folder / "link").symlink_to("d/a")
    with served(place, demo):
        etag = json.loads(run(place, "file.stat", "demo", "d/a", "--json").stdout)["etag"]
        words = ("file.write", "demo", "link", "--if-etag", etag)
        assert run(place, *words, input=b"x" * MIB).returncode == 0
        again = run(place, *words, input=b"y" * MIB)
        assert (again.returncode, b"has changed" in again.stderr) == (6, True)
        absent = run(place, "file.write", "demo", "link", "--if-etag", "absent", input=b"y" * MIB)
        assert absent.returncode == 6
        made = run(place, "file.write", "demo", "new", "--if-etag", "absent", input=b"y" * MIB)
        assert made.returncode == 0, made.stderr
    assert (demo.folder / "link").is_symlink()
    assert (demo.folder / "d" / "a").read_bytes() == b"x" * MIB
    assert (demo.folder / "d" / "a").stat().st_mode & 0o777 == 0o750
    assert sorted(os.listdir(demo.folder)) == ["d", "link", "new"]


@pytest.mark.parametrize("mode", ["0444", "0500", "0200"])
def test_a_long_write_has_any_mode(place: Place, demo: StandInFiles, mode: str) -> None:
    with served(place, demo):
        done = run(place, "file.write", "demo", "a", "--mode", mode, input=b"x" * MIB)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (demo.folder / "a").read_bytes() == b"x" * MIB
    assert (demo.folder / "a").stat().st_mode & 0o777 == int(mode, 8)
    assert os.listdir(demo.folder) == ["a"]


def test_a_long_write_that_fails_leaves_nothing(place: Place, demo: StandInFiles) -> None:
    (demo.folder / "a").write_text("old")
    (demo.folder / "dangling").symlink_to("nothing")
    (demo.folder / "directory").mkdir()
    with served(place, demo):
        for path in ("dangling", "directory", "missing/a", "../a"):
            done = run(place, "file.write", "demo", path, input=b"x" * MIB)
            assert done.returncode in (3, 6), done.stderr
            assert done.stdout == b""
    assert sorted(os.listdir(demo.folder)) == ["a", "dangling", "directory"]
    refuse = demo.answer

    def full(request: dict[str, Any]) -> bytes:
        if len([method for method, _ in demo.calls if method == "file.write"]) == 12:
            demo.forge = lambda _: b'{"refused": "full", "message": "a: No space left on device"}'
        else:
            demo.forge = lambda answer: answer
        return refuse(request)

    demo.calls.clear()
    with scripted(place.endpoint(), *[full] * CALLS_MAX):
        done = run(place, "file.write", "demo", "a", input=b"x" * 3 * MIB)
    assert (done.returncode, done.stderr.splitlines()[0]) == (6, b"error: a: No space left on device")
    assert ((demo.folder / "a").read_text(), sorted(os.listdir(demo.folder))) == ("old", ["a", "dangling", "directory"])


def test_ctrl_c_leaves_the_file_as_it_was(place: Place, demo: StandInFiles) -> None:
    (demo.folder / "a").write_text("old")
    with served(place, demo):
        process = subprocess.Popen(
            [INV, "file.write", "demo", "a"], cwd=TOP, env=place.environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin
        process.stdin.write(b"x" * MIB)
        process.stdin.flush()
        eventually(lambda: any(name.startswith(".codesmith-upload-") for name in os.listdir(demo.folder)))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said.splitlines()[0]) == (2, b"error: cancelled: a is as it was")
    assert b".codesmith" not in said, "what its pieces are called is nobody's business"
    assert ((demo.folder / "a").read_text(), os.listdir(demo.folder)) == ("old", ["a"])


def test_a_part_is_read(place: Place, demo: StandInFiles) -> None:
    data = bytes(1000) + b"\xff" + os.urandom(2 * MIB)  # where the part begins it is no UTF-8
    (demo.folder / "a").write_bytes(data)
    with served(place, demo):
        words = ("file.read", "demo", "a", "--offset", "1000", "--limit")
        assert run(place, *words, str(MIB)).stdout == data[1000 : 1000 + MIB]
        assert run(place, *words, "7").stdout == data[1000:1007]
        shown = json.loads(run(place, *words, "7", "--json").stdout)
        assert (shown["next_offset"], shown["eof"], shown["encoding"]) == (1007, False, "base64")
        for option, value in (("--limit", "0"), ("--offset", "-1")):
            refused = run(place, "file.read", "demo", "a", f"{option}={value}")
            assert (refused.returncode, f"{option} takes a whole number".encode() in refused.stderr) == (1, True)


def test_a_reader_that_goes_away_ends_it(place: Place, demo: StandInFiles) -> None:
    with (demo.folder / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with served(place, demo):
        command = f"{INV} file.read demo huge | head -c 10 | wc -c"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], cwd=TOP, env=place.environment, capture_output=True, timeout=60
        )
    assert (done.stdout.strip(), done.stderr) == (b"10", b"")


def test_a_file_that_changes_while_it_is_read_is_told(place: Place, demo: StandInFiles) -> None:
    (demo.folder / "a").write_bytes(b"x" * MIB)

    def changing(request: dict[str, Any]) -> bytes:
        answer = demo.answer(request)
        with (demo.folder / "a").open("r+b") as file:
            file.write(b"y")
        return answer

    with scripted(place.endpoint(), changing, demo.answer, demo.answer):
        done = run(place, "file.read", "demo", "a")
    assert (done.returncode, b"a was changed while it was read" in done.stderr) == (1, True)


def test_an_edit_takes_texts_or_files(place: Place, demo: StandInFiles, tmp_path: Path) -> None:
    (demo.folder / "a").write_text("one\n\n  two\n")
    (tmp_path / "new").write_text("lines\nof text\n")
    with served(place, demo):
        assert run(place, "file.edit", "demo", "a", "--old", "one", "--new", "1").returncode == 0
        assert run(place, "file.edit", "demo", "a", "--old", "\n\n  ", "--new", "\n").returncode == 0
        assert run(place, "file.edit", "demo", "a", "--old", "two\n", "--new-from", f"{tmp_path}/new").returncode == 0
        assert (demo.folder / "a").read_text() == "1\nlines\nof text\n"
        assert run(place, "file.edit", "demo", "a", "--old-from", "-", "--new", "", input=b"of text\n").returncode == 0
        assert (demo.folder / "a").read_text() == "1\nlines\n"
        for words, says in (
            (("--old", "1"), "either --new or --new-from is needed"),
            (("--new", "1"), "either --old or --old-from is needed"),
            (("--old", "", "--new", "1"), "--old is empty"),
            (("--old", "1", "--new", "2", "--new-from", "x"), "not both"),
            (("--old-from", "-", "--new-from", "-"), "cannot both be standard input"),
        ):
            done = run(place, "file.edit", "demo", "a", *words)
            assert (done.returncode, says in done.stderr.decode()) == (1, True), done.stderr
        none = run(place, "file.edit", "demo", "a", "--old", "nix", "--new", "")
        assert (none.returncode, none.stderr.splitlines()[0]) == (6, b"error: --old: does not occur in a")


def test_a_day_on_the_command_line(place: Place, demo: StandInFiles) -> None:
    with served(place, demo):
        assert run(place, "file.make-directory", "demo", "d/e", "--parents").stdout.startswith(b"path\td/e\n")
        run(place, "file.write", "demo", "d/a", input=b"one\ntwo\n")
        assert (
            run(place, "file.list", "demo", "--path", "d")
            .stdout.splitlines()[1]
            .startswith(b"d/e\tdirectory\t0\t0755\t")
        )
        assert run(place, "file.search", "demo", "^t.o").stdout == b"d/a\t2\ttwo\n"
        assert run(place, "file.move", "demo", "d/a", "d/b").stdout.startswith(b"path\td/b\n")
        refused = run(place, "file.remove", "demo", "d")
        assert refused.returncode == 6
        assert refused.stderr.splitlines()[1] == b"hint: inv file.remove demo d --recursive"
        assert run(place, "file.remove", "demo", "d", "--recursive").stdout == b"path\td\nremoved\ttrue\n"
        missing = run(place, "file.stat", "demo", "d")
        assert (missing.returncode, missing.stderr) == (
            3, b"error: d: no such file or directory\nhint: inv file.list demo\n"
        )  # fmt: skip


def test_names_that_are_no_text_go_both_ways(place: Place, demo: StandInFiles) -> None:
    for raw in (b"\xe9t\xe9", b"two\nlines", b"tab\tname"):
        with served(place, demo):
            assert (
                run(place, "file.write", "demo", raw.decode("utf-8", "surrogateescape"), input=b"one").returncode == 0
            )
            assert os.listdir(os.fsencode(demo.folder)) == [raw]
            listed = run(place, "file.list", "demo")
            assert (listed.returncode, len(listed.stdout.splitlines())) == (0, 1), "a line for each entry"
            shown = json.loads(run(place, "file.list", "demo", "--json").stdout)
            assert os.fsencode(shown[0]["path"]) == raw
            assert run(place, "file.read", "demo", os.fsdecode(raw)).stdout == b"one"
            assert run(place, "file.remove", "demo", os.fsdecode(raw)).returncode == 0


def test_a_repeated_write_does_nothing_twice(place: Place, demo: StandInFiles) -> None:
    """Cut off in the middle, and repeated by its id: each call has the id and the content that it had."""
    seen: dict[str, tuple[bytes, bytes]] = {}
    lost = [7]

    def once(request: dict[str, Any]) -> bytes | None:
        identity, content = request["params"].get("request_id"), json.dumps(request["params"]).encode()
        if identity is None:
            return demo.answer(request)
        if identity in seen:
            assert seen[identity][0] == content, "the id was used for another call"
            answer = json.loads(seen[identity][1].partition(b"\r\n\r\n")[2])
            return http({**answer, "id": request["id"]})
        seen[identity] = (content, demo.answer(request))
        if len(seen) == lost[0]:
            lost[0] = 0
            return b"HTTP/1.1 200 OK\r\nContent-Le"
        return seen[identity][1]

    data = os.urandom(2 * MIB)
    with scripted(place.endpoint(), *[once] * CALLS_MAX, hang_up_after=(7, 8)):
        first = run(place, "file.write", "demo", "a", input=data)
        assert first.returncode == 5, first.stderr
        hint = first.stderr.decode().partition("CODESMITH_REQUEST_ID=")[2].split()[0]
        environment = {**place.environment, "CODESMITH_REQUEST_ID": hint}
        again = subprocess.run(
            [INV, "file.write", "demo", "a"], cwd=TOP, env=environment, input=data, capture_output=True, check=False
        )
    assert again.returncode == 0, again.stderr
    assert ((demo.folder / "a").read_bytes(), os.listdir(demo.folder)) == (data, ["a"])
