"""Workspaces whose runtimes or supervisors are stand-ins."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.frontend import door, scoped
from tests.agent.conftest import Rpc
from tests.agent.frontend.door_user import Ann, make_user
from tests.agent.frontend.stand_in_jobs import StandInJobs
from tests.agent.frontend.stand_in_runtime import StandInRuntime


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


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[StandInRuntime]:
    """The runtime of `demo`."""
    there = StandInRuntime(tmp_path / "demo.sock")
    yield there
    there.close()


@pytest.fixture
def front(rpc: Rpc, runtime: StandInRuntime, monkeypatch: pytest.MonkeyPatch) -> Rpc:
    """A front end with the workspaces `demo` and `other`; who shows a wrong secret waits shortly."""
    monkeypatch.setattr(scoped, "WRONG_S", 0.01)
    rpc.call("workspace.create", name="demo")
    rpc.call("workspace.create", name="other")
    return rpc


@pytest.fixture
def ann(rpc: Rpc, tmp_path: Path) -> Iterator[Ann]:
    """Ann owns `site`; `web` is another one's."""
    for name in ("ann", "bob"):
        make_user(rpc, name, uid=os.getuid() if name == "ann" else 70001)
    rpc.call("workspace.create", name="site", user="ann")
    rpc.call("workspace.create", name="web", user="bob")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "door.sock"))
    listening.listen(256)
    thread = threading.Thread(target=door.serve, args=(listening, rpc.dispatcher))
    thread.start()
    yield Ann(rpc, tmp_path / "door.sock")
    listening.shutdown(socket.SHUT_RDWR)
    thread.join()
    listening.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[StandInRuntime]:
    there = StandInRuntime(tmp_path / "site.sock")
    yield there
    there.close()
