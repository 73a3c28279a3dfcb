"""`workspace.exec` at a terminal, which it gets back as it was, however the command ends."""

from __future__ import annotations

import re
import signal
import threading

import pytest

from tests.agent.on_node.terminal import Terminal
from tests.sdk.stream_doubles import INPUT, STDERR, STDOUT, Frames, stand_in
from tests.tasks.conftest import INV, PATIENCE_S
from tests.tasks.exec_command import EXEC, ends, run

pytestmark = pytest.mark.slow


@pytest.fixture
def at_terminal(place):
    """Start `inv workspace.exec demo ...` at a terminal of 30 rows and 100 columns."""

    def start(*words: str, command=EXEC) -> Terminal:
        environment = {**place.environment, "TERM": "xterm-256color"}
        return Terminal([*command, *words], environment, rows=30, columns=100)

    return start


def test_a_terminal_gives_a_terminal_that_is_restored(place, at_terminal):
    sizes, typed = [], []

    def play(frames: Frames) -> None:
        frames.send(STDOUT, b"ready$ ")
        while b"".join(typed) != b"\x03ls\r" or len(sizes) < 2:
            kind, payload = frames.receive()
            (typed if kind == INPUT else sizes).append(payload)
        frames.send(STDOUT, b"bye\r\n")
        frames.end(5)

    with stand_in(place.endpoint(), play) as server, at_terminal("--", "bash") as terminal:
        before = terminal.mode()
        terminal.wait_for("ready")
        assert terminal.is_raw
        terminal.resize(40, 120)
        terminal.types("\x03ls\r")
        terminal.wait_for("bye")
        assert terminal.wait_for_end() == 5
        assert terminal.mode() == before
    assert server.calls[0][1]["tty"] == {"rows": 30, "cols": 100, "term": "xterm-256color"}
    assert b'{"rows": 40, "cols": 120}' in sizes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_us_restores_the_terminal(place, at_terminal, number):
    with stand_in(place.endpoint(), waits), at_terminal("--", "bash") as terminal:
        before = terminal.mode()
        terminal.wait_for("ready")
        assert terminal.is_raw
        terminal.process.send_signal(number)
        assert terminal.wait_for_end() == -number
        assert terminal.mode() == before


def waits(frames: Frames) -> None:
    frames.send(STDOUT, b"ready\r\n")
    frames.await_drop()


def test_a_cut_connection_restores_the_terminal(place, at_terminal):
    with (
        stand_in(place.endpoint(), lambda frames: frames.send(STDOUT, b"ready\r\n")),
        at_terminal("--", "x") as terminal,
    ):
        before = terminal.mode()
        assert terminal.wait_for_end() == 5
        assert terminal.mode() == before
        # It broke, if the size of the terminal came just then: nobody was there to read it.
        assert re.search("error: web1: the connection (ended|broke)", terminal.shown)


def test_keys_close_the_connection(place, at_terminal):
    typed = []

    def play(frames: Frames) -> None:
        frames.send(STDOUT, b"ready\r\n")
        try:
            while True:
                kind, payload = frames.receive()
                if kind == INPUT:
                    typed.append(payload)
        except ConnectionError:
            pass

    with stand_in(place.endpoint(), play), at_terminal("--", "bash") as terminal:
        terminal.wait_for("ready")
        terminal.types("a~.\r~~\r~x~.\r~.")
        terminal.wait_for("cancelled: the connection is closed, which ends the command there")
        assert terminal.wait_for_end() == 2
    assert b"".join(typed) == b"a~.\r~\r~x~.\r"


def test_a_stop_gives_the_terminal_back_until_it_goes_on(place):
    """The shell of a person suspends it with Enter ~ Ctrl-Z, and `fg` goes on."""
    resumed = threading.Event()

    def play(frames: Frames) -> None:
        frames.send(STDOUT, b"ready\r\n")
        assert resumed.wait(PATIENCE_S)
        while frames.receive() != (INPUT, b"q"):
            pass
        frames.end(0)

    environment = {**place.environment, "TERM": "xterm", "PS1": "prompt> ", "ENV": ""}
    shell = ["dash", "-i"]  # bash would put the terminal right by itself
    with stand_in(place.endpoint(), play), Terminal(shell, environment, rows=30, columns=200) as terminal:
        terminal.wait_for("prompt> ")
        terminal.types(f"{INV} workspace.exec demo -- bash\n")
        terminal.wait_for("ready")
        terminal.types("\r~\x1a")
        terminal.wait_for("Stopped(?s:.*)prompt> ")
        terminal.types("stty -a | grep -o ' icanon'; fg\n")
        terminal.wait_for(" icanon\r\n(?s:.*)workspace.exec demo -- bash\r\n")
        resumed.set()
        terminal.types("q")
        terminal.wait_for("prompt> ")
        terminal.types("exit\n")
        terminal.wait_for_end()


def test_no_tty_keeps_outputs_apart_at_a_terminal(place, at_terminal):
    with stand_in(place.endpoint(), ends((STDOUT, b"out\n"), (STDERR, b"err\n"))) as server:
        with at_terminal("--no-tty", "--", "make") as terminal:
            terminal.wait_for("out\r\nerr\r\n")
            assert terminal.wait_for_end() == 0
    assert "tty" not in server.calls[0][1]


def test_tty_without_a_terminal_is_given_when_asked_for(place):
    with stand_in(place.endpoint(), ends((STDOUT, b"x\r\n"))) as server:
        assert run(place, "--tty", "--", "top").stdout == b"x\r\n"
    assert server.calls[0][1]["tty"].keys() == {"rows", "cols", "term"}
