"""A runtime answers with the word of its login: what is no answer harms nobody, and is not shown as one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.frontend.helper_client import Helper
from agent.frontend.runtime_client import Runtimes, RuntimeSilent, check_execution, check_status
from agent.shared import framing
from agent.shared.errors import AgentError, CommandFailed, InUse, InvalidParams, LimitReached
from tests.agent.conftest import Rpc

GOOD = {
    "exit_code": 0, "signal": None, "killed_by": None, "duration_s": 0.1, "stdout": "", "stdout_encoding": "text",
    "stderr": "", "stderr_encoding": "text", "omitted_bytes": 0,
}  # fmt: skip


@contextmanager
def answering(folder: Path, answer: bytes | dict[str, Any]) -> Iterator[Runtimes]:
    """Have a login in the place of the supervisor of workspace demo."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(folder / "demo.sock"))
    listening.listen()

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            framing.receive(connection, framing.REQUEST_MAX)
            if isinstance(answer, dict):
                framing.send(connection, answer)
            else:
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    yield Runtimes(Helper(str(folder / "helper.sock")), str(folder))
    thread.join()
    listening.close()


@pytest.mark.parametrize("answer", [b"", b"\0\0\0\5{}", b"\xff\xff\xff\xff", b"\0\0\0\2[]", b"\0\0\0\1x"])
def test_what_breaks_off_is_told(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path, answer) as runtimes, pytest.raises(RuntimeSilent, match="ended before its answer"):
        runtimes.call("demo", "start")


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"result": []}, {"error": 7}, {"error": {"code": 1005, "message": "x", "data": {"kind": "disabled"}}},
        {"error": {"message": 7, "data": {"kind": "limit"}}},
        {"error": {"message": "x", "data": {"kind": "read_only"}}},
        {"error": {"message": "x", "data": []}}, {"error": {"message": "x", "data": {"kind": ["limit"]}}},
    ],
)  # fmt: skip
def test_what_is_no_answer_is_told(tmp_path: Path, answer: dict[str, Any]) -> None:
    with answering(tmp_path, answer) as runtimes, pytest.raises(CommandFailed, match="nonsense"):
        runtimes.call("demo", "start")


def test_a_refusal_is_shown_without_what_controls_a_terminal(tmp_path: Path) -> None:
    data = {"kind": "limit", "hint": "\x1b[2Jx" + "y" * 99999, "pending": True, "reference": "z"}
    answer = {"error": {"code": 1, "message": "a\x1b[31mb\n" + "c" * 99999, "data": data}}
    with answering(tmp_path, answer) as runtimes, pytest.raises(LimitReached) as refused:
        runtimes.call("demo", "start")
    assert refused.value.problem.startswith("a\\x1b[31mb\\nc")
    assert set(refused.value.data) == {"kind", "hint"}
    assert refused.value.data["hint"].isprintable()
    assert (len(refused.value.problem) < 5000, len(refused.value.data["hint"]) < 5000) == (True, True)
    assert not refused.value.is_pending


def test_a_field_that_is_wrong_is_named(tmp_path: Path) -> None:
    error = InvalidParams.of("stdin", "must be base64").to_dict()
    with answering(tmp_path, {"error": error}) as runtimes, pytest.raises(InvalidParams) as refused:
        runtimes.call("demo", "start")
    assert refused.value.data["errors"] == [{"field": "stdin", "problem": "must be base64"}]


@pytest.mark.parametrize(
    "change",
    [
        {"exit_code": "0"}, {"exit_code": -1}, {"exit_code": 256}, {"exit_code": True}, {"exit_code": None},
        {"signal": "KILL"}, {"signal": 9}, {"signal": "SIGKILL\n"}, {"killed_by": "me"}, {"killed_by": []},
        {"duration_s": -1}, {"duration_s": "1"}, {"duration_s": float("nan")}, {"duration_s": float("inf")},
        {"stdout": None}, {"stdout": []}, {"stderr_encoding": "latin-1"}, {"stderr_encoding": []},
        {"omitted_bytes": -1}, {"omitted_bytes": "x"}, {"omitted_bytes": True},
    ],
)  # fmt: skip
def test_an_execution_has_the_types_of_the_contract(change: dict[str, Any]) -> None:
    assert check_execution({**GOOD, "more": 1}) == {**GOOD, "truncated": False}
    with pytest.raises(CommandFailed, match="nonsense"):
        check_execution({**GOOD, **change})


def test_times_of_a_runtime_are_times() -> None:
    time = "2026-11-29T20:00:00.000Z"
    assert check_status({"since": time, "idle_stop_at": None}) == {"since": time, "idle_stop_at": None}
    assert check_status({"since": f"{time}\n", "idle_stop_at": 7}) == {"since": None, "idle_stop_at": None}
    assert check_status({}) == {"since": None, "idle_stop_at": None}


def test_a_runtime_that_is_not_there_is_asked_for_once(rpc: Rpc) -> None:
    rpc.call("workspace.create", name="demo")
    assert rpc.call("workspace.exec", name="demo", argv=["date"])["stdout"] == "date"
    (rpc.path.parent / "demo.sock").unlink()
    assert rpc.call("workspace.start", name="demo")["runtime"]["since"] == "2026-11-23T00:00:00.000Z"
    rpc.helper.refusals["exec"] = InUse("being cloned", for_clone=True)
    rpc.refuses("workspace.exec", 1004, name="demo", argv=["date"])
    rpc.helper.refusals.clear()
    for cwd in ("/etc", "..", "code/../../x", "code/.."):
        rpc.refuses("workspace.exec", -32602, name="demo", argv=["date"], cwd=cwd)
    assert issubclass(InUse, AgentError)
