"""Lists of several nodes: how many are asked at once."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest

from codesmith.fleet import lists, parallel
from codesmith.tunnel.local_endpoint import endpoint_path

NODES, TIME_S = 40, 20.0


class Asked:
    """A client of any node; each waits until `together` of them are asked, or for a moment."""

    barrier: threading.Barrier
    now, most, lock = 0, 0, threading.Lock()

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> Asked:
        with self.lock:
            Asked.now += 1
            Asked.most = max(Asked.most, Asked.now)
        self.barrier.wait(TIME_S)
        return self

    def __exit__(self, *_: object) -> None:
        with self.lock:
            Asked.now -= 1


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "nodes.yaml"
    path.write_text("nodes: {" + ", ".join(f"n{number}: {{host: h{number}}}" for number in range(NODES)) + "}")
    monkeypatch.setenv("CODESMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("codesmith.sdk.client.Client", Asked)
    Asked.now = Asked.most = 0
    return path


def show(registry: Path, together: int, **choice: int) -> int:
    """List the nodes, `together` of them at once at least; return how many it were at most."""
    Asked.barrier = threading.Barrier(together)
    lists.show({"all": True, "file": str(registry), **choice}, lambda _: [], ("name",))  # type: ignore[typeddict-item]
    return Asked.most


def test_all_nodes_whose_endpoints_are_up_are_asked_at_once(registry: Path) -> None:
    for node in lists.selection.choose({"all": True, "file": str(registry)}).nodes:
        endpoint_path(node).touch()
    assert show(registry, NODES) == NODES


def test_those_that_have_to_connect_wait_for_their_turn(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = lists.CONNECTS
    assert (
        limit.acquire(blocking=False) and [limit.acquire(blocking=False) for _ in range(parallel.AT_ONCE)][-1] is False
    )
    limit.release(parallel.AT_ONCE)
    turns = Turns()
    monkeypatch.setattr(lists, "CONNECTS", turns)
    show(registry, 8)
    assert turns.taken == NODES


class Turns(contextlib.AbstractContextManager[None]):
    """Counts who asks for a turn."""

    def __init__(self) -> None:
        self.taken, self._lock = 0, threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.taken += 1

    def __exit__(self, *_: object) -> None:
        pass


def test_jobs_is_the_limit_for_lists_too(registry: Path) -> None:
    for node in lists.selection.choose({"all": True, "file": str(registry)}).nodes:
        endpoint_path(node).touch()
    assert show(registry, 4, jobs=4) == 4
