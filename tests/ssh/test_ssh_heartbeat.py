"""The clock behind the questions to a node that is silent."""

from __future__ import annotations

import time

import pytest

from codesmith.ssh import heartbeat


def test_questions_are_counted_since_the_last_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long this process stood still: it has to ask before it gives up."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT_S", 1e-9)
    monkeypatch.setattr(heartbeat, "REPLY_S", 2e-9)
    heart = heartbeat.Heartbeat()
    assert [heart.beat(), heart.beat()] == [True, True]
    heart.hear()
    assert [heart.beat(), heart.beat()] == [True, True]
    with pytest.raises(heartbeat.NoAnswer):
        heart.beat()


def test_a_suspended_machine_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep_s = iter([0.0, 0.1, 60.0, 60.0])
    monkeypatch.setattr(time, "clock_gettime", lambda _: time.monotonic() + next(asleep_s))
    watch = heartbeat.SleepWatch()
    assert [watch.has_slept() for _ in range(3)] == [False, True, False]
