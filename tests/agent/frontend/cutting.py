"""Front ends and changes that are interrupted."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.shared.errors import AgentError
from tests.agent.conftest import Rpc, serve


@contextmanager
def agent(folder: Path) -> Iterator[Rpc]:
    """Run a front end; nothing is resumed by itself."""
    running = serve(folder)
    try:
        yield next(running)
    finally:
        for _ in running:
            pass


def cut_off(rpc: Rpc, verb: str, method: str, **params: Any) -> None:
    """Make a call whose helper ends before its reply."""
    rpc.helper.refusals[verb] = None
    rpc.refuses(method, 1004, **params)
    del rpc.helper.refusals[verb]


def assigned_half_way(rpc: Rpc, refusal: AgentError | None) -> None:
    """Interrupt the assignment of workspace demo from ada to bob; its completion fails until `refusals` are cleared."""
    for name in ("ada", "bob", "eve"):
        rpc.call("user.create", name=name)
    rpc.call("workspace.create", name="demo", user="ada")
    cut_off(rpc, "workspace.assign", "workspace.assign", name="demo", user="bob")
    rpc.helper.refusals["workspace.assign"] = refusal


@contextmanager
def resuming(rpc: Rpc, verb: str) -> Iterator[None]:
    """Hold a change while it is being resumed; it ends afterwards."""
    rpc.helper.entered.clear()
    rpc.helper.hold_back(verb)
    resuming_thread = threading.Thread(target=rpc.dispatcher.resume)
    resuming_thread.start()
    try:
        assert rpc.helper.entered.wait(10)
        yield
    finally:
        rpc.helper.gate.set()
        resuming_thread.join()


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def full(*_: object) -> int:
    raise sqlite3.OperationalError("database or disk is full")


def names(rpc: Rpc, method: str = "user.list") -> list[str]:
    return [one["name"] for one in rpc.call(method)]
