"""Who may come in by the door, and who is put out when the right to enter is taken away."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agent.frontend import door
from agent.frontend.runtime_client import RuntimeSilent
from agent.shared import framing
from tests.agent.frontend.door_user import KEYS, Ann
from tests.agent.frontend.stand_in_runtime import StandInRuntime

OTHER = {"workspace.unshare": "ann", "workspace.assign": "bob"}


def test_a_login_that_is_no_user_gets_nothing(ann: Ann, site: StandInRuntime) -> None:
    document = ann.rpc.store.get_user("ann")
    assert document is not None
    ann.rpc.store.put_user({**{key: one for key, one in document.items() if key != "workspaces"}, "uid": 70002})
    # It is refused before it says anything, so it holds nothing.
    with ann.connect() as connection:
        assert framing.receive(connection, 1000) == {"error": door.NOBODY}
        assert connection.recv(1) == b""
    for _ in range(20):
        assert ann.refused("codesmith-dial site") == door.NOBODY
    assert [(one["outcome"], one["target"]) for one in ann.records()] == [("forbidden", {})]
    assert site.requests == []


@pytest.mark.parametrize("take_away", ["disabled", "owner disabled", "unshared", "assigned", "deleted"])
def test_who_may_not_enter_is_refused(ann: Ann, site: StandInRuntime, take_away: str) -> None:
    rpc = ann.rpc
    if take_away == "disabled":
        rpc.call("user.disable", name="ann")
    elif take_away == "owner disabled":
        rpc.call("workspace.share", name="web", user="ann")
        rpc.call("user.disable", name="bob")
        assert "disabled" in ann.refused("web id")
        return
    elif take_away == "unshared":
        rpc.call("workspace.share", name="web", user="ann")
        rpc.call("workspace.unshare", name="web", user="ann")
        assert "web" not in ann.refused("codesmith-dial nothing").replace("'nothing'", "")
        return
    elif take_away == "assigned":
        rpc.call("workspace.assign", name="site", user="bob")
    else:
        rpc.call("workspace.delete", name="site")
    assert ann.refused("id")
    assert [one for one in site.requests if one["request"] in ("run", "ssh")] == []


def test_without_a_key_nobody_comes_in_by_a_connection_that_is_open(ann: Ann, site: StandInRuntime) -> None:
    """sshd looks at keys when a connection begins, and never again."""
    ann.rpc.call("user.set_keys", name="ann", ssh_keys=[])
    assert ann.refused("id") == door.NO_KEY
    ann.rpc.call("user.set_keys", name="ann", ssh_keys=KEYS[1:])
    answer, connection = ann.ask("id")
    with connection:
        assert answer == {"stream": "frames"}


@pytest.mark.parametrize("moment", ["start", "run"])
def test_who_comes_while_the_right_is_taken_away_is_put_out(
    ann: Ann, site: StandInRuntime, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The runtime has ended once for it already, and starts anew for who is late."""
    runtimes = ann.rpc.dispatcher.context.runtimes
    call = runtimes.call

    def assign_first(workspace: str, request: str, **fields: Any) -> Any:
        answer = call(workspace, request, **fields)
        if request == moment:
            ann.rpc.call("workspace.assign", name="site", user="bob")
        return answer

    monkeypatch.setattr(runtimes, "call", assign_first)
    answer, connection = ann.ask("id")
    with connection:
        assert ("error" in answer) is (moment == "start")
        assert connection.recv(100) in (b"", b"SSH-2.0-StandIn\r\n")
        assert connection.recv(100) == b""


@pytest.mark.parametrize("change", ["workspace.unshare", "workspace.assign", "user.disable"])
def test_who_comes_before_the_change_is_written_is_put_out(
    ann: Ann, site: StandInRuntime, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """All that ran has ended, and nobody is told so yet: the store still says who might enter before."""
    rpc, came, passed_on = ann.rpc, list[socket.socket](), threading.Event()
    watch, end_if_too_late = rpc.dispatcher.context.job_watch, door.Door.end_if_too_late
    if change == "workspace.unshare":
        rpc.call("workspace.assign", name="site", user="bob")
        rpc.call("workspace.share", name="site", user="ann")
    while_ending = watch.while_ending

    def look(*arguments: Any) -> None:
        end_if_too_late(*arguments)
        passed_on.set()

    @contextmanager
    def then_enter(workspaces: Iterable[str]) -> Iterator[None]:
        with while_ending(workspaces):
            yield
        answer, connection = ann.ask("id")
        came.append(connection)
        assert answer == {"stream": "frames"}
        assert passed_on.wait(20)

    monkeypatch.setattr(door.Door, "end_if_too_late", look)
    monkeypatch.setattr(watch, "while_ending", then_enter)
    rpc.call(change, **({"name": "ann"} if change == "user.disable" else {"name": "site", "user": OTHER[change]}))
    with came[0]:
        came[0].settimeout(2)
        assert b"".join(iter(lambda: came[0].recv(100), b"")) in (b"", b"SSH-2.0-StandIn\r\n")
    assert not watch.is_ending("site")


def test_a_runtime_that_does_not_answer_keeps_nobody_in(
    ann: Ann, site: StandInRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the connection already; whether the right to enter was taken away meanwhile is not looked at any more."""
    runtimes = ann.rpc.dispatcher.context.runtimes
    call = runtimes.call

    def answer_never(workspace: str, request: str, **fields: Any) -> Any:
        answer = call(workspace, request, **fields)
        if request == "ssh":
            raise RuntimeSilent("no answer", command="supervisor", exit_code=None, stderr="")
        return answer

    monkeypatch.setattr(runtimes, "call", answer_never)
    answer, connection = ann.ask("codesmith-dial")
    with connection:
        assert answer == {"stream": "bytes"}
        assert b"".join(iter(lambda: connection.recv(100), b"")) in (b"", b"SSH-2.0-StandIn\r\n")


def test_who_comes_while_all_is_ended_is_put_out(ann: Ann, site: StandInRuntime) -> None:
    with ann.rpc.dispatcher.context.job_watch.while_ending(["site"]):
        _, connection = ann.ask("id")
        with connection:
            assert b"".join(iter(lambda: connection.recv(100), b"")) in (b"", b"SSH-2.0-StandIn\r\n")
