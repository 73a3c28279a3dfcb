"""The clock behind the questions to a node that is silent."""

from __future__ import annotations

import time

import pytest

from codesmith.ssh import heartbeat


def test_a_suspended_machine_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep_s = iter([0.0, 0.1, 60.0, 60.0])
    monkeypatch.setattr(time, "clock_gettime", lambda _: time.monotonic() + next(asleep_s))
    watch = heartbeat.SleepWatch()
    assert [watch.has_slept() for _ in range(3)] == [False, True, False]
