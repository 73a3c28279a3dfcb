"""What a workspace answers about its files is the word of its login: what is no answer is not shown as one."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from agent.frontend import file_answers, files
from agent.shared.errors import (
    AgentError,
    AlreadyExists,
    CommandFailed,
    InUse,
    InvalidParams,
    LimitReached,
    NotFound,
    Unsupported,
)
from tests.agent.files.stand_in import ENDED, StandInFiles

RECORD = ["a", "file", 3, 0o644, 1_700_000_000_000_000_000, None, "1-2-3-4"]
PIECE = {"data": "b25l", "size_bytes": 3, "next_offset": 3, "eof": True, "etag": "1-2-3-4"}


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandInFiles:
    return StandInFiles(tmp_path, monkeypatch)


def forged(demo: StandInFiles, answer: Any) -> None:
    text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    demo.forge = lambda _: text


def without(number: int, value: Any) -> list[Any]:
    return [*RECORD[:number], value, *RECORD[number + 1 :]]


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"{", b"[]", b"7", b"[" * 100_000, b'{"result": ' + b"9" * 100_000 + b"}", b"\xff", {}, {"result": None},
        {"result": []}, {"result": RECORD[:-1]}, {"result": [*RECORD, 1]}, {"result": {"path": "a"}},
        {"result": without(0, "")}, {"result": without(0, 7)}, {"result": without(0, "a\0")},
        {"result": without(0, "x" * 100_000)}, {"result": without(1, "door")}, {"result": without(2, -1)},
        {"result": without(2, True)}, {"result": without(3, 1 << 20)}, {"result": without(4, "now")},
        {"result": without(5, 7)}, {"result": without(6, "x\n")}, {"result": without(6, None)},
        {"refused": "no such word", "message": "x"}, {"refused": 7}, {"refused": None},
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_record_is_told(demo: StandInFiles, answer: Any) -> None:
    forged(demo, answer)
    with pytest.raises(CommandFailed, match="the runtime answered nonsense"):
        demo.call("file.stat", workspace="demo", path="a")


def test_what_is_no_piece_is_told(demo: StandInFiles) -> None:
    for change in (
        {"data": "?"}, {"data": None}, {"size_bytes": -1}, {"next_offset": 4}, {"next_offset": 0}, {"eof": 1},
        {"etag": "x"}, {"size_bytes": "3"},
    ):  # fmt: skip
        forged(demo, {"result": {**PIECE, **change}})
        with pytest.raises(CommandFailed, match="nonsense"):
            demo.call("file.read", workspace="demo", path="a")
    forged(demo, {"result": PIECE})
    assert demo.call("file.read", workspace="demo", path="a")["data"] == "one"


@pytest.mark.parametrize(
    "answer", [{}, [7], [["a", 0, "x"]], [["a", 1]], [["a", 1, 7]], [["", 1, "x"]], [["a", True, "x"]]]
)
def test_what_is_no_match_is_told(demo: StandInFiles, answer: Any) -> None:
    if answer == [["a", True, "x"]]:
        answer = [["a", "1", "x"]]
    forged(demo, {"result": answer})
    with pytest.raises(CommandFailed, match="nonsense"):
        demo.call("file.search", workspace="demo", pattern="x")


def test_an_answer_without_end_is_not_read(demo: StandInFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ANSWER_BYTES_MAX", 1000)
    forged(demo, {"result": ["x" * 2000]})
    with pytest.raises(CommandFailed, match="nonsense"):
        demo.call("file.list", workspace="demo")


@pytest.mark.slow
def test_a_refusal_has_our_kind_and_hint(demo: StandInFiles) -> None:
    cases: list[tuple[str, type[AgentError]]] = [
        ("busy", InUse), ("changed", InUse), ("exists", AlreadyExists), ("failed", CommandFailed),
        ("full", LimitReached), ("memory", LimitReached), ("missing", NotFound), ("not_empty", InUse),
        ("other_file_system", Unsupported), ("quota", LimitReached), ("time", LimitReached),
        ("too_large", LimitReached),
    ]  # fmt: skip
    assert {word for word, _ in cases} == set(file_answers.REFUSALS)
    for word, kind in cases:
        forged(demo, {"refused": word, "message": "a\x1b[2J" + "b" * 99_999, "hint": "rm -rf /", "code": 7})
        with pytest.raises(kind) as refused:
            demo.call("file.stat", workspace="demo", path="it's")
        assert type(refused.value) is kind
        assert refused.value.problem.startswith("a\\x1b[2Jb")
        assert len(refused.value.problem) < 5000
        assert "rm -rf" not in str(refused.value.data)
        assert "it's" not in refused.value.data["hint"], "a path in a hint is one word of a shell"


def test_a_refusal_names_a_parameter_of_the_call(demo: StandInFiles) -> None:
    for field, shown in (("path", "path"), ("new_path", "new_path"), ("x\x1b", "path"), (7, "path")):
        forged(demo, {"refused": "wrong", "message": "is bad", "field": field})
        with pytest.raises(InvalidParams) as refused:
            demo.call("file.move", workspace="demo", path="a", new_path="b")
        assert refused.value.data["errors"] == [{"field": shown, "problem": "is bad"}]


@pytest.mark.slow
def test_how_a_job_ended_is_told(demo: StandInFiles) -> None:
    for change, kind, text in (
        ({"killed_by": "memory", "exit_code": 137, "signal": "SIGKILL"}, LimitReached, "needed more memory"),
        ({"killed_by": "timeout", "exit_code": 137, "signal": "SIGKILL"}, LimitReached, "did not end in time"),
        ({"exit_code": 137, "signal": "SIGKILL"}, CommandFailed, "ended before it could answer"),
        ({"exit_code": "x"}, CommandFailed, "nonsense"),
    ):
        demo.ended = {**ENDED, **change}
        with pytest.raises(kind, match=text):
            demo.call("file.stat", workspace="demo", path="a")
        with pytest.raises(kind, match=text) as refused:
            demo.call("file.write", workspace="demo", path="a", data="", append=True)
        assert refused.value.is_pending, "a repeated call is not carried out again"
    demo.ended = ENDED
    with pytest.raises(NotFound) as refused:
        demo.call("file.edit", workspace="demo", path="b", old="x", new="")
    assert not refused.value.is_pending


@pytest.mark.slow
def test_data_is_text_or_base64(demo: StandInFiles) -> None:
    for data, encoding in (("half \udc80", "text"), ("\ud800", None), ("no base64", "base64"), ("ü", "base64")):
        with pytest.raises(InvalidParams) as refused:
            demo.call("file.write", workspace="demo", path="a", data=data, encoding=encoding)
        assert refused.value.data["errors"][0]["field"] == "data"
        assert data not in str(refused.value)
    for text in ("grün\r\n\0", ""):
        demo.call("file.write", workspace="demo", path="a", data=text)
        assert demo.call("file.read", workspace="demo", path="a")["data"] == text
    raw = bytes(range(256))
    demo.call("file.write", workspace="demo", path="a", data=base64.b64encode(raw).decode(), encoding="base64")
    for encoding in ("text", "base64", None):
        found = demo.call("file.read", workspace="demo", path="a", encoding=encoding)
        assert (base64.b64decode(found["data"]), found["encoding"]) == (raw, "base64")


def test_times_that_no_calendar_has(demo: StandInFiles) -> None:
    demo.call("file.write", workspace="demo", path="a", data="")
    assert demo.call("file.stat", workspace="demo", path="a")["modified_at"].startswith("20")
    os.utime(demo.folder / "a", ns=(0, -1))
    assert demo.call("file.stat", workspace="demo", path="a")["modified_at"] == "1969-12-31T23:59:59.999Z"
    for ns, shown in ((-(10**30), "0001-01-01T00:00:00"), (10**30, "9999-12-31T23:59:59")):
        forged(demo, {"result": without(4, ns)})
        assert demo.call("file.stat", workspace="demo", path="a")["modified_at"].startswith(shown)


def test_an_offset_has_bounds(demo: StandInFiles) -> None:
    demo.call("file.write", workspace="demo", path="a", data="one")
    with pytest.raises(InvalidParams, match="offset: is larger than any file"):
        demo.call("file.read", workspace="demo", path="a", offset=1 << 70)
    assert demo.call("file.read", workspace="demo", path="a", offset=1 << 60)["eof"] is True
