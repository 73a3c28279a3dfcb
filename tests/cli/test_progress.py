"""The view that a terminal shows during the work on nodes."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from codesmith.cli import progress
from codesmith.cli.progress import Progress

pytestmark = pytest.mark.slow

TOP = Path(__file__).parents[2]
# Two nodes: one is done at once, the other when it is told to.
WORK = """
import sys, threading
from pathlib import Path
from codesmith.fleet import report, selection
from codesmith.nodes.registry import Node
nodes = [Node(name, Path("x"), host="h") for name in ("quick", "slow")]
def work(node):
    if node.name == "slow":
        sys.stdin.readline()
    return {"node": node.name}
report.report(selection.Chosen(nodes), work, ["node"])
"""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_each_node_under_way_has_a_line_with_its_step():
    view = Progress(3, "connect")
    view.begin("a")
    view.begin("bb")
    view.step("bb", "install git\x1b[1m")
    view.end("a", ok=False)
    head, *lines = view.lines()
    assert head.startswith("1 of 3 done, 1 failed, ")
    assert [line.split(None, 3) for line in lines] == [["bb", "0", "s", "install git\\x1b[1m"]]


def test_more_than_a_screen_is_counted():
    view = Progress(40, "connect")
    for number in range(20):
        view.begin(f"n{number}")
    assert len(view.lines()) == 18
    assert view.lines()[-1] == "and 4 more"


@pytest.mark.parametrize("term, is_shown", [("xterm", True), ("dumb", False)])
def test_it_is_for_terminals_that_can_move_their_cursor(monkeypatch, term, is_shown):
    monkeypatch.setenv("TERM", term)
    assert Progress(1, stream=Terminal()).is_shown is is_shown
    assert not Progress(1, stream=io.StringIO()).is_shown


def test_what_is_short_is_not_shown(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress(1, stream=stream) as view:
        view.begin("a")
        view.draw()
    assert stream.getvalue() == ""


def test_what_lasts_is_shown_and_gone_at_the_end(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "SHOWN_AFTER_S", 0)
    stream = Terminal()
    with Progress(2, "connect", stream=stream) as view:
        view.begin("web1")
        view.draw()
        assert "0 of 2 done" in stream.getvalue() and "connect" in stream.getvalue()
    assert stream.getvalue().endswith("\x1b[2K")  # the line is wiped


# The same by steps that are told, as prepare, rollback and uninstall do.
TELL = 'tell(Progress(node.name, "step", "did this", 0.1, then="do that"))'
STEPS = (
    WORK.replace("from pathlib", "from codesmith.bootstrap.session import Progress\nfrom pathlib")
    .replace("def work(node):", "def work(node, tell):")
    .replace("        sys.stdin", f"        {TELL}\n        sys.stdin")
    .replace("report.report(", "report.report_steps(")
)


def on_a_terminal(until: bytes, work: str = WORK, **environment: str) -> bytes:
    """Run `work` with a terminal as stderr; let the slow node continue once the terminal has shown `until`."""
    ours, theirs = pty.openpty()
    env = {"PATH": os.environ["PATH"], "TERM": "xterm", **environment}
    with subprocess.Popen(
        [sys.executable, "-c", work], cwd=TOP, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while until not in shown:
            shown += os.read(ours, 4096)
        out, _ = process.communicate(b"\n", timeout=60)
    os.close(ours)
    assert out == b"quick\nslow\n"
    return shown


def test_a_terminal_sees_what_is_under_way_and_stdout_is_data_alone():
    shown = on_a_terminal(b"1 of 2 done")
    assert b"slow" in shown and b"calling" in shown


def test_a_step_that_has_not_ended_is_seen_and_one_that_went_well_is_no_line():
    shown = on_a_terminal(b"do that", STEPS)
    assert b"slow" in shown and b"did this" not in shown


# A question comes up while the view is shown; `setsid` gives the process a terminal of its own, for /dev/tty.
ASK = """
import sys, threading
from pathlib import Path
from codesmith.fleet import report, selection; from codesmith.cli import prompt
from codesmith.nodes.registry import Node
asked = []
def work(node):
    Path(sys.argv[1]).read_text()  # a pipe: goes on when the view was seen
    asked.append(prompt.ask("what? "))
    return {"node": node.name}
report.report(selection.Chosen([Node("slow", Path("x"), host="h")]), work, ["node"])
print(asked)
"""


def test_a_question_has_the_terminal_for_itself(tmp_path):
    os.mkfifo(tmp_path / "go")
    ours, theirs = pty.openpty()
    env = {"PATH": os.environ["PATH"], "TERM": "xterm"}
    argv = ["setsid", "--ctty", sys.executable, "-c", ASK, tmp_path / "go"]
    with subprocess.Popen(argv, cwd=TOP, env=env, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"calling" not in shown:
            shown += os.read(ours, 4096)
        (tmp_path / "go").write_text("")
        while b"what? " not in shown:
            shown += os.read(ours, 4096)
        os.write(ours, b"geheim\n")
        with contextlib.suppress(OSError):  # the terminal's end
            while more := os.read(ours, 4096):
                shown += more
        assert process.stdout.read() == b"slow\n['geheim']\n"
    os.close(ours)
    before, _, after = shown.partition(b"what? ")
    assert before.endswith(b"\x1b[2K")  # the view is wiped, not written into
    assert after.startswith(b"\r\n")  # nothing is drawn until it is answered


def test_there_is_no_colour():
    assert b"\x1b[3" not in on_a_terminal(b"calling", NO_COLOR="1")
