"""audit.list over the real socket: newest first, whole records, little memory, whatever the file holds."""

from __future__ import annotations

import errno
import json
import os
import resource
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.frontend import audit
from agent.shared import clock
from tests.agent.conftest import Rpc


def record(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "time": f"2026-11-23T00:{number // 60 % 60:02}:{number % 60:02}.000Z", "method": "workspace.create",
        "request_id": None, "peer_uid": 0, "peer_login": "root", "target": {"name": f"w{number}"}, "outcome": "ok",
        "duration_s": 0.1, **changes,
    }  # fmt: skip


def write(file: Path, records: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(one, separators=(",", ":")) + "\n" for one in records))


def names(found: list[dict[str, Any]]) -> list[str]:
    return [one["target"]["name"] for one in found]


def test_newest_first_and_page_by_page(rpc: Rpc) -> None:
    write(rpc.audit, [record(number) for number in range(2000)][:3000:10])
    first = rpc.call("audit.list", limit=3)
    assert names(first) == ["w1990", "w1980", "w1970"]
    assert names(rpc.call("audit.list", limit=2, before=first[-1]["time"])) == ["w1960", "w1950"]
    assert len(rpc.call("audit.list")) == 100
    later = "2026-11-23T01:00:30+01:00"
    assert names(rpc.call("audit.list", before=later)) == ["w20", "w10", "w0"]


def test_no_two_records_have_one_time_and_pages_miss_none(rpc: Rpc) -> None:
    batch = [{"jsonrpc": "2.0", "id": n, "method": "user.create", "params": {"name": "No"}} for n in range(16)]
    callers = [threading.Thread(target=lambda: [rpc.answer(batch) for _ in range(3)]) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    times: list[str] = []
    while page := rpc.call("audit.list", limit=7, **({"before": times[-1]} if times else {})):
        times += [one["time"] for one in page]
    assert len(set(times)) == len(times) == 4 * 3 * 16
    assert times == sorted(times, reverse=True)


def pages(rpc: Rpc, **wanted: Any) -> Iterator[list[dict[str, Any]]]:
    """Yield the pages of the audit record, each from the end of the previous one."""
    page = rpc.call("audit.list", **wanted)
    for _ in range(1000):
        if not page:
            return
        yield page
        page = rpc.call("audit.list", **wanted, before=page[-1]["cursor"])
    pytest.fail("pages without end")


@pytest.mark.slow
def test_pages_have_each_record_once_when_the_clock_steps_ten_years_and_back(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stepped(datetime):
        step = timedelta()

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + cls.step

    monkeypatch.setattr(clock, "datetime", Stepped)
    wanted = []
    for years in (0, 10, 0, -10, 0):
        Stepped.step = timedelta(days=365 * years)
        for number in range(40):
            rpc.refuses("user.disable", 1001, name=f"n{years}x{number}".replace("-", "m"))
            wanted.append(f"n{years}x{number}".replace("-", "m"))
    found = []
    for page in pages(rpc, limit=7):
        found += names(page)
        rpc.refuses("user.disable", 1001, name="meanwhile")  # newer ones change nothing
    assert found == wanted[::-1]
    ours = {"user": "n10x3"}
    assert [names(page) for page in pages(rpc, limit=1, **ours)] == [["n10x3"]]


@pytest.mark.slow
@pytest.mark.parametrize("rotate", ["move", "copy and truncate"])
def test_pages_go_on_in_a_file_that_was_moved_aside(rpc: Rpc, rotate: str) -> None:
    for number in range(40):
        rpc.refuses("user.disable", 1001, name=f"old{number}")
    going = pages(rpc, limit=7)
    found = names(next(going))
    if rotate == "move":
        rpc.audit.rename(rpc.audit.with_name("audit.jsonl.1"))
    else:
        rpc.audit.with_name("audit.jsonl.1").write_bytes(rpc.audit.read_bytes())
        os.truncate(rpc.audit, 0)
    for number in range(50):
        rpc.refuses("user.disable", 1001, name=f"new{number}")
    found += [name for page in going for name in names(page)]
    assert found == [f"old{number}" for number in reversed(range(40))]
    assert names(rpc.call("audit.list", limit=1000)) == [f"new{number}" for number in reversed(range(50))]


def test_a_cursor_whose_record_is_gone_is_refused(rpc: Rpc) -> None:
    for name in ("ada", "bob"):
        rpc.call("user.create", name=name)
    cursor = rpc.call("audit.list", limit=1)[0]["cursor"]
    rpc.audit.unlink()
    rpc.call("user.create", name="eve")
    for gone in (cursor, "0-0123456789abcdef", "ffffffffffffffff-0123456789abcdef"):
        assert rpc.refuses("audit.list", -32602, before=gone)["data"]["errors"][0]["field"] == "before"
    assert names(rpc.call("audit.list", before=rpc.call("audit.list")[-1]["cursor"])) == []


def test_a_file_that_was_moved_away_takes_no_more_records(rpc: Rpc) -> None:
    rpc.call("user.create", name="ada")
    rpc.audit.rename(rpc.audit.with_suffix(".1"))
    rpc.call("user.create", name="bob")
    assert names(rpc.call("audit.list")) == ["bob"]
    lines = rpc.audit.with_suffix(".1").read_text().splitlines()
    assert [json.loads(line)["target"]["name"] for line in lines] == ["ada"]
    assert rpc.audit.stat().st_mode & 0o777 == 0o600


def test_what_was_just_refused_is_there(rpc: Rpc) -> None:
    rpc.refuses("user.disable", 1001, name="nobody", request_id="r9")
    (found,) = rpc.call("audit.list")
    assert (found["method"], found["outcome"], found["request_id"]) == ("user.disable", "not_found", "r9")


def test_only_what_names_the_user_or_workspace(rpc: Rpc) -> None:
    rpc.call("user.create", name="ada")
    rpc.call("workspace.create", name="ada")
    rpc.call("workspace.create", name="demo", user="ada")
    rpc.call("workspace.exec", name="demo", argv=["true"])
    shown = [(one["method"], one["target"]["name"]) for one in rpc.call("audit.list", user="ada")]
    assert shown == [
        ("workspace.exec", "demo"), ("workspace.create", "demo"), ("workspace.create", "ada"), ("user.create", "ada"),
    ]  # fmt: skip
    shown = [(one["method"], one["target"]["name"]) for one in rpc.call("audit.list", workspace="demo")]
    assert shown == [("workspace.exec", "demo"), ("workspace.create", "demo")]
    assert names(rpc.call("audit.list", workspace="ada")) == ["ada"]


def test_torn_and_foreign_lines_are_left_out(rpc: Rpc) -> None:
    good = json.dumps(record(1)).encode()
    lines = [b'{"time":"2026', b"\xff\x00", b"{}", b"[]", b"7", good, b"x" * 300_000, good, b""]
    rpc.audit.write_bytes(b"\n".join(lines) + good[:40])
    assert names(rpc.call("audit.list")) == ["w1", "w1"]


def test_huge_words_of_a_refused_call_stay_short_and_listed(rpc: Rpc) -> None:
    rpc.refuses("user.create", -32602, name="x" * 100_000, request_id={"a": "b" * 50_000})
    assert rpc.audit.stat().st_size < 1000
    assert rpc.call("audit.list")[0]["target"]["name"] == "x" * 128


@pytest.mark.parametrize("before", ["", "yesterday", "2026-11-23T00:00:00", "Z", "2026-13-01T00:00:00Z"])
def test_a_time_that_is_none_is_refused(rpc: Rpc, before: str) -> None:
    assert rpc.refuses("audit.list", -32602, before=before)["data"]["errors"][0]["field"] == "before"


@pytest.mark.slow
def test_reading_backwards_takes_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    write(file, [record(number) for number in range(15_000)])
    tracemalloc.start()
    count = sum(1 for _ in audit.read_backwards(str(file)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 15_000
    assert peak < 1 << 20


def test_a_line_that_was_torn_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    write(file, [record(1)])
    with file.open("ab") as torn:
        torn.write(b'{"time":"2026')
    audit.Audit(str(file)).write(json.dumps(record(2)))
    assert [one["target"]["name"] for one in audit.read_backwards(str(file))] == ["w2", "w1"]


@pytest.mark.usefixtures("capsys")  # else the limit would be for standard error too
def test_a_line_that_does_not_fit_leaves_no_half_of_it(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    write(file, [record(1)])
    whole = file.read_bytes()
    trail = audit.Audit(str(file))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, limits[1]))
    try:
        trail.write(json.dumps(record(2)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == whole
    trail.write(json.dumps(record(3)))
    assert [one["target"]["name"] for one in audit.read_backwards(str(file))] == ["w3", "w1"]


def test_a_record_that_the_file_does_not_take_is_in_the_journal(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(audit.Audit, "append", full)
    assert rpc.call("user.create", name="ada")["state"] == "active"
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("audit ")]
    assert [json.loads(line.removeprefix("audit "))["target"] for line in lines] == [{"name": "ada"}]
