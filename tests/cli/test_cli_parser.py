"""Each trap of Invoke's parser is closed."""

from __future__ import annotations

import sys

import pytest
from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.program import Program

from codesmith.cli.program import CodeSmith
from codesmith.cli.task import task
from codesmith.errors import CodeSmithError

CALLS = []


@task(help={"name": "A.", "number": "B.", "ratio": "C.", "word": "D.", "flag": "E."}, choices={"word": ("a", "b")})
def one(
    c,
    name: str,
    number: int | None = None,
    ratio: float = 1.0,
    word: str = "a",
    node: list[str] | None = None,
    flag: bool = True,
) -> dict[str, object]:
    """Take a parameter of each type."""
    CALLS.append({"name": name, "number": number, "ratio": ratio, "word": word, "node": node, "flag": flag})
    return CALLS[-1]


@task()
def two(c, first: str, second: str) -> None:
    """Take two parameters."""


@task(remainder="argv", exit_code=lambda code: code)
def run(c, argv: list[str] | None = None, code: int = 0) -> int:
    """Take the words after `--`."""
    CALLS.append(argv)
    return code


@task()
def fail(c, how: str) -> None:
    """Raise the exception named `how`."""
    raise {
        "bug": RuntimeError("ouch \x1b[31m"),
        "ours": CodeSmithError("no\x1b[2Jt so", hint="do"),
        "ctrl-c": KeyboardInterrupt(),
        "exit": Exit("bye", code=9),
    }[how]


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    CALLS.clear()
    monkeypatch.setenv("CODESMITH_HOME", str(tmp_path))
    monkeypatch.delenv("CODESMITH_DEBUG", raising=False)

    def call(*words, program=Program):
        monkeypatch.setattr(sys, "argv", ["inv", *words])
        options = {} if program is CodeSmith else {"version": "1", "name": "t", "binary": "inv"}
        code = 0
        try:
            program(namespace=Collection(one, two, run, fail), **options).run(["inv", *words])
        except SystemExit as stopped:
            code = stopped.code or 0
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def test_types_come_from_the_annotation(call):
    assert call("one", "x", "--number", "7", "--ratio", "2.5", "--node", "a", "--node", "b", "--no-flag")[0] == 0
    assert CALLS == [{"name": "x", "number": 7, "ratio": 2.5, "word": "a", "node": ["a", "b"], "flag": False}]


def test_defaults_reach_the_task(call):
    call("one", "x")
    assert CALLS == [{"name": "x", "number": None, "ratio": 1.0, "word": "a", "node": [], "flag": True}]


@pytest.mark.parametrize(
    "words, says",
    [
        (["--number", "x"], "error: --number takes a whole number, not 'x'\nhint: inv tests --help"),
        (["--number", "1.5"], "error: --number takes a whole number, not '1.5'"),
        (["--ratio", "fast"], "error: --ratio takes a number, not 'fast'"),
        (["--ratio", "nan"], "error: --ratio takes a number, not 'nan'"),
        (["--ratio", "inf"], "error: --ratio takes a number, not 'inf'"),
        (["--word", "c"], "error: --word takes one of a, b, not 'c'"),
        (["--node"], "Flag --node needed value and was not given one!"),
        (["--number"], "Flag --number needed value and was not given one!"),
    ],
)
def test_a_bad_value_is_one_sentence(call, words, says):
    code, out, err = call("one", "x", *words)
    assert (code, out, CALLS) == (1, "", [])
    assert err.startswith(says.split("\n")[0])
    assert "Traceback" not in err


def test_help_behind_a_missing_positional_parameter_is_help(call):
    code, out, err = call("one", "--help")
    assert (code, err, CALLS) == (0, "", [])
    assert "NAME" in out
    assert "--word a|b" in out


@pytest.mark.parametrize("word", ["--dry", "-R", "--list", "--unknown", "--nunber"])
def test_an_option_is_never_a_name(call, word):
    code, _, err = call("one", word)
    assert (code, CALLS) == (1, [])
    said = {
        "--unknown": "has no option --unknown\nhint: see what it takes: inv test_cli_parser.one --help\n",
        "--nunber": "has no option --nunber\nhint: did you mean: --number\n",
    }
    assert said.get(word, f"needs NAME, not '{word}'") in err


def test_there_are_no_short_flags_nobody_wrote(call):
    code, _, err = call("one", "x", "-n", "7")
    assert (code, CALLS) == (1, [])
    assert "No idea what '-n' is" in err


def test_words_behind_the_dashes_stay_as_they_are(call):
    assert call("run", "--", "sh", "-c", "echo 'a  b'; exit", "--", "--help", "")[0] == 0
    assert CALLS == [["sh", "-c", "echo 'a  b'; exit", "--", "--help", ""]]


def test_without_dashes_there_are_no_words(call):
    call("run")
    assert CALLS == [[]]


def test_a_result_can_be_an_exit_code(call):
    assert call("run", "--code", "42")[0] == 42


def test_python_callers_get_the_function(call, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["python", "--", "not", "for", "us"])
    assert one(Context(), "x", number=3)["number"] == 3
    assert one(Context(), name="x", node="web1")["node"] == ["web1"]
    assert run(Context(), code=42) == 42
    assert run(Context(), argv=["a b"]) == 0
    assert CALLS[-2:] == [None, ["a b"]]
    with pytest.raises(RuntimeError):
        fail(Context(), "bug")
    with pytest.raises(KeyboardInterrupt):
        fail(Context(), "ctrl-c")
    with pytest.raises(TypeError):
        one(Context(), nonsense=1)


def test_our_errors_are_told_with_hint_and_code_and_without_escape_sequences(call):
    assert call("fail", "ours") == (1, "", "error: no\\x1b[2Jt so\nhint: do\n")


def test_ctrl_c_is_cancelled(call):
    assert call("fail", "ctrl-c") == (2, "", "error: cancelled\n")


def test_an_exit_of_invokes_own_passes(call):
    assert call("fail", "exit") == (9, "", "bye\n")


def test_a_bug_is_one_sentence_with_a_reference_to_its_traceback(call, tmp_path):
    code, out, err = call("fail", "bug")
    assert (code, out) == (1, "")
    first, second = err.splitlines()
    log = next((tmp_path / "log").iterdir())
    reference = log.stem.removeprefix("error-")
    assert first.startswith("error: ") and first.endswith(f"RuntimeError: ouch \\x1b[31m (reference {reference})")
    assert second == f"hint: cat {log}"
    assert "Traceback" in log.read_text()
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o700


def test_debug_shows_the_traceback_at_once(call, monkeypatch):
    monkeypatch.setenv("CODESMITH_DEBUG", "1")
    assert "Traceback" in call("fail", "bug")[2]


@pytest.mark.parametrize(
    "words, says",
    [
        (["onne", "x"], "error: no task 'onne'\nhint: did you mean: codesmith one\n"),
        (["zzz"], "error: no task 'zzz'\nhint: codesmith help\n"),
        (["one", "x", "y"], "error: one does not take 'y'\nhint: see what it takes: codesmith one --help\n"),
        (["one", "x", "--zzz"], "error: one has no option --zzz\nhint: see what it takes: codesmith one --help\n"),
        (["one", "x", "--nod=web1"], "error: one has no option --nod\nhint: did you mean: --node\n"),
        (["--zzz"], "error: no option --zzz\nhint: codesmith help\n"),
        (["one"], "error: one needs NAME\nhint: codesmith one --help\n"),
        (["two", "run"], "error: two needs SECOND\nhint: codesmith two --help\n"),
        (["two"], "error: two needs FIRST and SECOND\nhint: codesmith two --help\n"),
        (["one", "run", "--number"], "error: --number needs a value\nhint: codesmith one --help\n"),
    ],
)
def test_our_program_says_what_a_word_could_have_been(call, words, says):
    assert call(*words, program=CodeSmith) == (1, "", says)


@pytest.mark.parametrize(
    "words, says",
    [
        (["one", "x", "fail", "bug"], "one does not take 'fail'"),
        (["one", "x", "fail"], "one does not take 'fail'"),
        (["one", "x", "one", "y"], "one does not take 'one'"),
        (["run", "fail", "--help"], "run does not take 'fail'"),
    ],
)
def test_a_second_task_is_an_error_and_neither_runs(call, words, says):
    hint = f"see what it takes: codesmith {words[0]} --help"
    assert call(*words, program=CodeSmith) == (1, "", f"error: {says}\nhint: {hint}\n")
    assert CALLS == []


def test_a_task_name_where_an_argument_is_due_is_that_argument(call):
    assert call("one", "fail", "--node", "run", program=CodeSmith)[0] == 0
    assert [(seen["name"], seen["node"]) for seen in CALLS] == [("fail", ["run"])]


@pytest.mark.parametrize("word", ["", " "])
@pytest.mark.parametrize(
    "words, option", [(["--node"], "--node"), (["--word"], "--word"), (["--number"], "--number"), ([], "NAME")]
)
def test_an_empty_text_is_an_error(call, words, option, word):
    name = ["x"] if words else []
    assert call("one", *name, *words, word) == (
        1, "", f"error: {option} is empty\nhint: inv test_cli_parser.one --help\n"
    )  # fmt: skip
    assert CALLS == []


def test_an_empty_value_behind_an_equals_sign_is_an_error(call):
    assert "--node is empty" in call("one", "x", "--node=")[2]
    assert CALLS == []


def test_an_empty_list_of_a_python_caller_is_an_error():
    with pytest.raises(CodeSmithError, match="node is an empty list"):
        one(Context(), "x", node=[])


def test_an_unknown_kind_of_parameter_is_a_bug_that_shows_at_once():
    @task()
    def bad(c, x: dict[str, str] | None = None) -> None:
        """Bad."""

    with pytest.raises(TypeError, match="parameter x: a task takes str, int"):
        bad.get_arguments()


def test_help_for_a_parameter_that_is_none_is_a_bug_that_shows_at_once():
    @task(help={"y": "Z."})
    def bad(c, x: str) -> None:
        """Bad."""

    with pytest.raises(ValueError, match="help for y"):
        bad.get_arguments()
