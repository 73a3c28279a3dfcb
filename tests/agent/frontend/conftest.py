"""A workspace with a runtime whose supervisor is a stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.conftest import Rpc
from tests.agent.frontend.stand_in_jobs import StandInJobs


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the workspaces whose runtimes run."""
    running = {"demo"}
    monkeypatch.setattr("agent.frontend.runtime_state.is_running", lambda workspace: workspace in running)
    return running


@pytest.fixture
def supervisor(tmp_path: Path, runs: set[str]) -> Iterator[StandInJobs]:
    there = StandInJobs(tmp_path / "demo.sock")
    yield there
    if "demo" in runs:
        there.close()


@pytest.fixture
def demo(rpc: Rpc, supervisor: StandInJobs) -> Rpc:
    rpc.call("workspace.create", name="demo")
    return rpc
