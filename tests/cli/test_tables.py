"""Tables on a terminal: values stay whole, sizes and ages are for people, states have colours."""

from __future__ import annotations

import datetime
import io
import re

import pytest

from codesmith.cli import output, people, tables

NOW = datetime.datetime(2026, 11, 30, 12, 0, tzinfo=datetime.UTC)
LONG = "/srv/codesmith/workspaces/demo/code/site"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def table(rows, names, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    screen = Terminal()
    output.show(rows, names, stream=screen)
    return re.sub("\x1b\\[[0-9;]*m", "", screen.getvalue())


ROWS = [
    {"name": "demo", "path": LONG, "detail": "one two three four five six", "state": "ready", "labels": {"a": "b"}},
    {"name": "other", "path": "", "detail": "seven", "state": "failed", "labels": {}},
]


@pytest.mark.parametrize("columns", [10, 30, 60, 70, 90, 200])
@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_no_value_is_broken_and_what_does_not_fit_is_named(monkeypatch, capsys, columns, term):
    monkeypatch.setenv("TERM", term)
    text = table(ROWS, ["name", "path", "detail", "state", "labels", "none"], columns, monkeypatch)
    heads = re.sub(r" {2,}", "|", text.splitlines()[0].strip()).split("|")
    assert heads[0] == "name"
    said = capsys.readouterr().err
    for head in ("path", "detail", "state", "labels"):
        assert (head in heads) is (not re.search(rf"\b{head}\b", said)), head
    assert "none" not in heads and "none" not in said, "an empty column is no loss"
    assert LONG in text or "path" not in heads
    if "detail" in heads:
        assert {"one", "two", "three", "four", "five", "six"} <= set(text.split())
    assert columns == 10 or max(len(line.rstrip()) for line in text.splitlines()) <= columns
    assert columns < 30 or "state" in heads, "how it is goes last"


def test_a_record_has_its_values_in_one_piece(monkeypatch):
    text = table({"path": LONG, "size_bytes": 3 << 20}, (), 20, monkeypatch)
    assert text.splitlines() == [f"path        {LONG}", "size_bytes  3.0 MiB"]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("memory_bytes", 536870912, "512 MiB"),
        ("limits", {"memory_bytes": 1 << 30, "tasks": 200}, "memory_bytes=1.0GiB,tasks=200"),
        ("created_at", "2026-11-30T11:57:00.000Z", "3 min ago"),
        ("expires_at", "2026-11-30T20:00:00.000Z", "in 8 h"),
        ("since", None, ""),
        ("created_at", "soon\x1b", "soon\\x1b"),
        ("a", ["x", "y"], "x,y"),
    ],
)
def test_a_value_is_shown_for_people(name, value, text):
    assert tables.shown(name, value, NOW) == text


def test_a_record_has_time_and_age(monkeypatch):
    assert re.fullmatch(
        r"created_at  2001-01-01T00:00:00Z \(\d+ y ago\)\n",
        table({"created_at": "2001-01-01T00:00:00Z"}, (), 80, monkeypatch),
    )


def test_a_pipe_and_json_have_exact_values():
    row = {"size_bytes": 2048, "created_at": "2001-01-01T00:00:00Z"}
    piped, as_json = io.StringIO(), io.StringIO()
    output.show([row], stream=piped)
    output.show([row], json=True, stream=as_json)
    assert piped.getvalue() == "2048\t2001-01-01T00:00:00Z\n"
    assert '"size_bytes": 2048' in as_json.getvalue()


def test_states_and_ages_have_colours_and_no_color_has_none(monkeypatch):
    row = {"name": "ready", "state": "ready", "created_at": "2001-01-01T00:00:00Z"}
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    for value, found in (("", {"32", "2"}), ("1", {"2"})):
        monkeypatch.setenv("NO_COLOR", value)
        screen = Terminal()
        output.show([row], stream=screen)
        line = screen.getvalue().splitlines()[1]
        assert set(re.findall("\x1b\\[([1-9][0-9]*)m", line)) == found
        assert line.startswith("ready"), "only a state is a state"


@pytest.mark.parametrize(
    ("time", "text"),
    [
        ("2026-11-30T12:00:00Z", "now"), ("2026-11-30T11:59:18Z", "42 s ago"), ("2026-11-30T09:00:00+00:00", "3 h ago"),
        ("2026-11-01T12:00:00Z", "29 d ago"), ("2020-11-30T12:00:00Z", "6 y ago"), ("x", ""),
        ("2026-11-30T12:00:00", ""),
    ],
)  # fmt: skip
def test_an_age_has_one_unit(time, text):
    assert people.age(time, NOW) == text
