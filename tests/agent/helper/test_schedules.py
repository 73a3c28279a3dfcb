"""Park and restore schedules of a user; cron and atd themselves are tested on nodes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.helper.accounts import schedules

UID, JOBS = 98765, 500


@pytest.fixture
def spool(base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An at spool with very many jobs of one user, all still to come."""
    (base / "atjobs").mkdir(0o770)
    for place in ("CRON", "LINGER", "AT_OUTPUT"):
        monkeypatch.setattr(schedules, place, (str(base), "none"))
    monkeypatch.setattr(schedules, "AT", (str(base), "atjobs"))
    minute = int(time.time()) // 60 + 1_000_000
    for number in range(JOBS):
        file = base / "atjobs" / f"a{number:05x}{minute:08x}"
        file.touch()
        os.chown(file, UID, UID)
    yield base / "atjobs"


def test_any_number_of_at_jobs_is_put_away_and_back_in_one_go(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costly, before = [], sorted(os.listdir(spool))
    fsync, listdir = os.fsync, os.listdir
    monkeypatch.setattr(os, "fsync", lambda file: (costly.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "listdir", lambda folder: (costly.append("listdir"), listdir(folder))[1])
    monkeypatch.setattr(schedules, "_wake_atd", lambda: costly.append("wake"))
    schedules.park("ada", UID)
    assert {name[:15] for name in listdir(spool)} == {".parked-cs-ada-"}
    schedules.restore("ada", UID)
    assert sorted(listdir(spool)) == before
    assert costly == ["listdir", "fsync", "listdir", "fsync", "wake"]
