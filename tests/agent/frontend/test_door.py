"""The door over its real socket: who comes in, where it leads, and what runs there."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from agent.frontend import door, entrances
from agent.frontend.entrances import choose
from agent.shared import framing, rate_limit
from agent.shared.errors import NotFound
from tests.agent.conftest import Rpc
from tests.agent.frontend.door_user import KEYS, Ann, make_user
from tests.agent.frontend.stand_in_runtime import HOST_KEY, StandInRuntime


def request_of(runtime: StandInRuntime, kind: str) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while not (found := [one for one in runtime.requests if one["request"] == kind]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found[-1]


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        (None, [*entrances.SHELL]),
        ("make  -j 'a b'", [*entrances.COMMAND, "make  -j 'a b'"]),
        ("site make", [*entrances.COMMAND, "site make"]),
        ("internal-sftp", [*entrances.SFTP_SERVER]),
        ("/usr/lib/openssh/sftp-server -l INFO", [*entrances.SFTP_SERVER]),
        ("scp -t .", [*entrances.COMMAND, "scp -t ."]),
        ("caf\udce9", [*entrances.COMMAND, "caf\udce9"]),
    ],
)
def test_what_is_asked_for_runs_inside(ann: Ann, site: StandInRuntime, command: str | None, argv: list[str]) -> None:
    answer, connection = ann.ask(command, env={"LANG": "de_DE.UTF-8", "LC_ALL": "C", "PATH": "/tmp", "LC_X": "a\nb"})
    with connection:
        asked = request_of(site, "run")
        assert answer == {"stream": "frames"}
        assert (asked["argv"], asked["env"], asked["cwd"]) == (argv, {"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, "")
        assert (asked["stdin"], asked["tty"]) == ("stream", None)


def test_a_terminal_has_a_size(ann: Ann, site: StandInRuntime) -> None:
    _, connection = ann.ask("top", tty={"rows": 31, "cols": 97, "term": "xterm-256color"})
    with connection:
        assert request_of(site, "run")["tty"] == {"rows": 31, "cols": 97, "term": "xterm-256color"}
    for tty in ({}, {"rows": 0, "cols": 1}, {"rows": 1, "cols": 70000}, {"rows": True, "cols": 1}, "80x24"):
        assert "tty" in ann.refused(tty=tty)


def test_dial_carries_ssh_for_all_keys_of_the_user(ann: Ann, site: StandInRuntime) -> None:
    answer, connection = ann.ask("codesmith-dial")
    with connection:
        assert answer == {"stream": "bytes"}
        assert request_of(site, "ssh")["public_keys"] == KEYS
        assert connection.recv(100) == b"SSH-2.0-StandIn\r\n"
    answer, connection = ann.ask("codesmith-known-hosts site")
    with connection:
        assert answer == {"lines": [f"* {HOST_KEY}"]}
    assert "which" not in ann.refused("codesmith-dial web")


def test_the_connection_itself_is_passed_on(ann: Ann, site: StandInRuntime) -> None:
    _, connection = ann.ask("codesmith-dial site")
    with connection:
        assert connection.recv(100) == b"SSH-2.0-StandIn\r\n"
        connection.sendall(b"x" * 300_000)
        connection.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: connection.recv(65536), b"")) == b"x" * 300_000


def test_who_entered_is_recorded(ann: Ann, site: StandInRuntime) -> None:
    for command in (None, "make", "internal-sftp", "codesmith-dial"):
        ann.ask(command)[1].close()
    records = ann.records()
    assert [one["target"]["how"] for one in records] == ["shell", "command", "sftp", "dial"]
    assert all(one["target"]["user"] == "ann" and one["target"]["workspace"] == "site" for one in records)
    assert {(one["peer_uid"], one["outcome"], one["owner"]) for one in records} == {(os.getuid(), "ok", "ann")}
    listed = ann.rpc.call("audit.list", workspace="site")
    assert {"dial", "shell"} <= {one["target"].get("how") for one in listed}


def test_who_comes_in_again_and_again_does_not_decide_how_long_the_record_is(
    ann: Ann, site: StandInRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limit, "BURST", 3)
    monkeypatch.setattr(rate_limit, "REFILL_S", 1e9)
    for _ in range(8):
        ann.ask("make")[1].close()
    assert ["more" in one["target"] for one in ann.records()] == [False] * 3
    monkeypatch.setattr(rate_limit, "BURST", 4)
    ann.ask("make")[1].close()
    assert ann.records()[-1]["target"]["more"] == "5"


def test_without_threads_one_is_refused_and_the_next_comes_in(
    ann: Ann, site: StandInRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with ann.connect() as connection:
            assert "try again" in framing.receive(connection, 1000)["error"]
    answer, connection = ann.ask("id")
    with connection:
        assert answer == {"stream": "frames"}


@pytest.mark.parametrize(
    "message",
    [{"command": 7}, {"command": "a\0b"}, {"command": "x" * 200_000}, {"command": ["id"]}, {"protocol": 2}],
)
def test_what_is_no_request_is_refused(ann: Ann, site: StandInRuntime, message: dict[str, Any]) -> None:
    assert ann.refused(**message)
    assert site.requests == []


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", struct.pack(">I", 4) + b"[1]x", b"\xff" * 8])
def test_who_speaks_something_else_is_left(ann: Ann, data: bytes) -> None:
    with ann.connect() as connection:
        connection.sendall(data)
        try:
            assert connection.recv(100) == b""
        except ConnectionResetError:
            pass


def test_who_says_nothing_is_left(ann: Ann, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "REQUEST_S", 0.2)
    with ann.connect() as connection:
        assert connection.recv(1) == b""


def test_too_many_at_once_are_refused(ann: Ann, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "PEER_MAX", 2)
    first, second = ann.connect(), ann.connect()
    with first, second:
        deadline = time.monotonic() + 20
        with ann.connect() as third:
            assert "too many" in framing.receive(third, 1000)["error"]
        first.close()
        while "too many" in ann.refused("codesmith-dial nothing"):
            assert time.monotonic() < deadline


@pytest.mark.slow
def test_those_who_fill_it_together_keep_nobody_out(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty, each with all that it gets, and refused for more; then somebody else comes."""
    uids = range(90000, 90021)
    for uid in uids:
        make_user(rpc, f"u{uid}", uid=uid)
    opened, ours = door.Door(rpc.dispatcher), contextlib.ExitStack()

    def comes_in(uid: int) -> bool:
        """Come and say nothing: who is refused has its answer already."""
        monkeypatch.setattr(door, "peer_uid", lambda _: uid)
        inner, outer = socket.socketpair()
        ours.enter_context(outer)
        opened.take(inner)
        outer.setblocking(False)
        with suppress(BlockingIOError):
            assert "too many" in framing.receive(outer, 1000)["error"]
            return False
        return True

    with ours:
        counts = {uid: sum(1 for _ in iter(lambda uid=uid: comes_in(uid), False)) for uid in uids[:-1]}
        assert counts[uids[0]] == door.PEER_MAX
        assert min(counts.values()) >= 1, counts
        assert comes_in(uids[-1])


def test_it_serves_no_method(ann: Ann) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "user.list", "params": {}})
    assert "protocol" not in ann.refused(method="user.list", jsonrpc="2.0", id=1, params={}, protocol=9, body=body)


def test_where_a_command_leads() -> None:
    def leads(user: str, names: list[str], command: str | None) -> tuple[str, str, str | None]:
        return tuple(choose(user, names, command))  # type: ignore[return-value]

    several = ["site", "web"]
    assert leads("ann", ["site"], "site make") == ("site", "", "site make")
    assert leads("ann", several, "site make  -j") == ("site", "", "make  -j")
    assert leads("ann", several, " web  ") == ("web", "", None)
    assert leads("ann", several, "codesmith-dial web") == ("web", "codesmith-dial", None)
    # The dedicated one needs no name, so that scp and sftp still lead there.
    assert leads("site", several, "make") == ("site", "", "make")
    assert leads("site", several, None) == ("site", "", None)
    assert leads("site", several, "codesmith-dial") == ("site", "codesmith-dial", None)
    for command in (None, "make", "codesmith-dial", "codesmith-dial other", "site/../web id", "codesmith-dial site x"):
        with pytest.raises(NotFound, match="site, web"):
            choose("ann", several, command)
    with pytest.raises(NotFound, match="no workspace"):
        choose("ann", [], "id")
