"""Text from nodes is readable, and cannot control a terminal."""

from __future__ import annotations

import io
import json

import pytest
import yaml

from codesmith.cli import cells, output


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain", "plain"),
        ("Grüße 你好", "Grüße 你好"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\tb\nc\r", "a\\tb\\nc\\r"),
        ("\x9b31m\x7f\x00", "\\x9b31m\\x7f\\x00"),
        ("a\u202eb\u2028c", "a\\u202eb\\u2028c"),
    ],
)
def test_nothing_steers_a_terminal(text, shown):
    assert cells.escape(text) == shown


def show(data, columns=(), stream=None, **options):
    stream = stream or io.StringIO()
    output.show(data, columns, stream=stream, **options)
    return stream.getvalue()


def test_cells_are_one_line_each():
    row = {"a": None, "b": True, "c": ["x", "y"], "d": {"k": "v", "l": 1}, "e": "1\t2\n3", "f": 1.5}
    assert show([row]) == "\ttrue\tx,y\tk=v,l=1\t1\\t2\\n3\t1.5\n"
    assert show([row], ["f", "missing", "b"]) == "1.5\t\ttrue\n"


def test_one_record_is_a_line_per_field():
    assert show({"a": 1, "b": [2]}) == "a\t1\nb\t2\n"
    assert show({"a": 1, "b": 2}, ["b"]) == "b\t2\n"


def test_json_has_every_field_and_is_ascii():
    data = [{"a": "ü\x1b", "b": None}]
    text = show(data, ["a"], json=True)
    assert json.loads(text) == data
    assert text.isascii() and "\x1b" not in text


def test_nothing_is_nothing_in_a_pipe_and_a_word_on_a_terminal(capsys):
    assert show([], ["a"]) == ""
    assert show([], ["a"], json=True) == "[]\n"
    assert show([], ["a"], stream=Terminal()) == ""
    assert capsys.readouterr().err == "nothing to show\n"


def test_a_form_that_is_asked_for_is_given_also_in_a_pipe(monkeypatch):
    data = [{"name": "a\x1b", "size_bytes": 2048}, {"name": "b", "size_bytes": None}]
    monkeypatch.setattr(output.FORM, "name", "yaml")
    assert yaml.safe_load(show(data, ["name"])) == data
    assert "\x1b" not in show(data)
    monkeypatch.setattr(output.FORM, "name", "json")
    assert json.loads(show(data, ["name"])) == data
    monkeypatch.setattr(output.FORM, "name", "name")
    assert show(data, ["name"]) == "a\\x1b\nb\n"
    assert show({"id": "1", "name": "x"}) == "1\n"
    monkeypatch.setattr(output.FORM, "name", "table")
    assert [line.split() for line in show(data).splitlines()] == [
        ["name", "size"], ["a\\x1b", "2.0", "KiB"], ["b"],
    ]  # fmt: skip


def test_what_is_said_to_people_goes_to_stderr_escaped(capsys):
    output.say("web1  installed python3\x1b")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "web1  installed python3\\x1b\n")


def test_without_a_terminal_nobody_says_yes(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert output.confirm("Trust it?") is False
