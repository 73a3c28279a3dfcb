"""How many records somebody may cause who comes in again and again."""

from __future__ import annotations

import time

import pytest

from agent.shared import rate_limit


def test_a_burst_then_one_in_a_while_and_what_is_left_out_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    at = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: at)
    allowance = rate_limit.Allowance()
    assert [allowance.admit("ann") for _ in range(rate_limit.BURST + 5)] == [0] * rate_limit.BURST + [None] * 5
    assert allowance.admit("bob") == 0
    at += rate_limit.REFILL_S
    assert [allowance.admit("ann") for _ in range(3)] == [5, None, None]
    at += rate_limit.REFILL_S * rate_limit.BURST * 2
    assert [allowance.admit("ann") for _ in range(2)] == [2, 0]
