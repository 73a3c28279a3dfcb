"""A supervisor ends when nothing was used for a while, and never while something runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

import pytest

from tests.agent.supervisor.conftest import Supervisor

pytestmark = pytest.mark.slow

IDLE_S = 1.0


def ended_after(supervisor: Supervisor) -> float:
    begun = time.monotonic()
    assert supervisor.process.wait(20) == 0
    return time.monotonic() - begun


def test_it_ends_when_it_was_not_used_for_its_time(start: Callable[..., Supervisor]) -> None:
    supervisor = start(idle_stop_s=IDLE_S)
    supervisor.run("true")
    assert IDLE_S - 0.2 <= ended_after(supervisor) <= IDLE_S + 1


def test_a_command_keeps_it(start: Callable[..., Supervisor]) -> None:
    supervisor = start(idle_stop_s=IDLE_S)
    with supervisor.send("exec", **supervisor.command("sleep", str(2 * IDLE_S))):
        supervisor.wait_until(supervisor.pids)
        assert supervisor.ask("status")["result"]["idle_stop_at"] is None
        assert ended_after(supervisor) >= 2 * IDLE_S


def test_looking_is_no_use(start: Callable[..., Supervisor]) -> None:
    supervisor = start(idle_stop_s=IDLE_S)
    supervisor.ask("start")
    begun, said = time.monotonic(), []
    while time.monotonic() < begun + IDLE_S - 0.3:
        said.append(supervisor.ask("status")["result"]["idle_stop_at"])
    moments = [datetime.fromisoformat(text.replace("Z", "+00:00")) for text in said]
    assert (max(moments) - min(moments)).total_seconds() < 0.1
    assert ended_after(supervisor) < 1.5


def test_one_that_is_only_looked_at_ends_at_once(start: Callable[..., Supervisor]) -> None:
    supervisor = start(idle_stop_s=60)
    assert supervisor.ask("status")["result"]["processes"] == 0
    assert ended_after(supervisor) < 5


def test_one_that_nobody_asks_ends_after_its_time(start: Callable[..., Supervisor]) -> None:
    assert ended_after(start(idle_stop_s=IDLE_S)) < 10


def test_one_for_a_clone_takes_nothing_else_and_ends_with_it(start: Callable[..., Supervisor]) -> None:
    supervisor = start(idle_stop_s=0, for_clone=True)
    request = {"action": "read", "names": ["x"] * 20_000, "programs": ["git"]}
    with supervisor.send("git", job="a" * 32, timeout_s=10.0, job_request=request):
        error = supervisor.ask("exec", **supervisor.command("true"))
        assert (error["error"]["code"], error["error"]["data"]["for_clone"]) == (1004, True)
        time.sleep(2.5)
        assert supervisor.process.poll() is None, "a clone takes long"
    assert ended_after(supervisor) < 5
