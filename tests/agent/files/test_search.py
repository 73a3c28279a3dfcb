"""A search finds lines of text, and ends, whatever the pattern and the files are."""

from __future__ import annotations

import os

import pytest

from agent.files import search
from tests.agent.files.conftest import Files


def test_it_finds_lines_in_the_order_of_their_names(files: Files) -> None:
    for path in ("b/two", "b/a/one", "c", "a"):
        files.do("make_directory", path=os.path.dirname(path) or ".", parents=True)
        files.write(path, b"nothing\nfind me\r\n\nfind me too")
    assert files.do("search", pattern="^find me$") == [[path, 2, "find me"] for path in ("a", "b/a/one", "b/two", "c")]
    assert files.do("search", pattern="too", path="b/a") == [["b/a/one", 4, "find me too"]]
    assert files.do("search", pattern="too", path="c") == [["c", 4, "find me too"]]
    assert files.do("search", pattern="(?i)FIND", limit=3) == [
        ["a", 2, "find me"],
        ["a", 4, "find me too"],
        ["b/a/one", 2, "find me"],
    ]


def test_it_leaves_out_what_is_no_text(files: Files) -> None:
    files.write("text", "grün find\xff".encode("latin-1"))
    files.write("binary", b"find\0")
    for name in (".git", ".codesmith"):
        (files.place / name).mkdir()
        (files.place / name / "config").write_text("find")
    (files.place / "link").symlink_to("text")
    (files.place / "way").symlink_to(files.outside)
    (files.outside / "x").write_text("find")
    os.mkfifo(files.place / "fifo")
    (files.place / "directory").mkdir(mode=0)
    assert files.do("search", pattern="find") == [["text", 1, "gr\ufffdn find\ufffd"]]
    assert [found[0] for found in files.do("search", pattern="find", path=".git")] == [".git/config"], "when asked for"


def test_a_long_line_is_cut_around_the_match(files: Files) -> None:
    files.write("long", b"x" * 100_000 + b"find" + b"y" * 100_000 + b"\nshort find")
    (_, _, text), second = files.do("search", pattern="find")
    assert (len(text), text.index("find")) == (search.TEXT_MAX, search.BEFORE)
    assert second == ["long", 2, "short find"]


def test_a_line_without_end_takes_little_memory(files: Files) -> None:
    with (files.place / "endless").open("wb") as file:
        for _ in range(40):
            file.write(b"x" * (1 << 20))
        file.write(b"find")
    assert files.do("search", pattern="find") == [["endless", 1, "find"]] or files.do("search", pattern="xfind")


@pytest.mark.parametrize(("pattern", "problem"), [
    ("(", "missing )"), ("*", "nothing to repeat"), ("[a", "unterminated"), ("(" * 900, "is no regular expression"),
    ("a{99999999999}", "is no regular expression"),
])  # fmt: skip
def test_what_is_no_pattern_is_refused(files: Files, pattern: str, problem: str) -> None:
    assert problem in files.refuses("wrong", "search", pattern=pattern)


@pytest.mark.slow
def test_a_pattern_without_end_ends_with_its_time(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "TIME_S", 0.5)
    files.write("a", b"a" * 64 + b"!")
    assert "did not end" in files.refuses("time", "search", pattern="(a+)+$")


def test_the_number_of_files_and_of_bytes_is_bounded(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "FILES_MAX", 3)
    for number in range(4):
        files.write(str(number), b"")
    assert "more than 3 files" in files.refuses("too_large", "search", pattern="x")
    monkeypatch.setattr(search, "FILE_BYTES_MAX", 10)
    files.write("0", b"123456789\nx")
    assert files.do("search", pattern="x", path="0") == []


def test_matches_in_many_lines_are_bounded(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "ANSWER_BYTES_MAX", 1000)
    files.write("a", b"find\n" * 1000)
    assert "too long for one answer" in files.refuses("too_large", "search", pattern="find", limit=1000)
    assert len(files.do("search", pattern="find", limit=20)) == 20
