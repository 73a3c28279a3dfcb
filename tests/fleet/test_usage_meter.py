"""The meter of a node's workspaces, by a clock of the test."""

from __future__ import annotations

import json

import pytest

from codesmith.fleet.usage_meter import Meter
from codesmith.nodes.registry import Registry
from codesmith.tunnel.local_endpoint import endpoint_path
from tests.sdk.stream_doubles import stand_in
from tests.tasks.test_deletes import USAGE, WORKSPACE

RUNNING = {**WORKSPACE, "runtime": {"state": "running", "since": None, "idle_stop_at": None}}


class Desk:
    """A node with one workspace, and a clock; `look` takes the time of the call and what was used until then."""

    def __init__(self, node) -> None:
        self.times: list[float] = []
        self.used, self.workspace = 0.0, RUNNING
        self.meter = Meter(node, clock=lambda: self.times.pop(0))

    def look(self, begun: float, used: float, took: float = 0.0):
        # The first look asks for names, then for what they use.
        self.times, self.used = [begun, begun + took] * 2, used
        (row,) = self.meter.look()
        return row["cpu_percent"]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.setenv("CODESMITH_HOME", str(tmp_path / "home"))
    (tmp_path / "nodes.yaml").write_text(json.dumps({"nodes": {"web1": {"host": "a.invalid"}}}))
    node = Registry.load(tmp_path / "nodes.yaml").get("web1")
    one = Desk(node)
    answers = {
        "workspace_list": lambda _: [one.workspace],
        "workspace_get": lambda _: one.workspace,
        "workspace_usage": lambda _: {**USAGE, "cpu_s": one.used},
    }
    with stand_in(endpoint_path(node), **answers):
        yield one
        one.meter.close()


def test_cpu_is_what_was_used_since_the_last_look_per_second(desk):
    assert desk.look(100, 5.0) is None
    assert desk.look(102, 6.0) == 50.0
    assert desk.look(106, 14.0) == 200.0
    assert desk.look(107, 14.0, took=0.5) == 0.0
    assert desk.look(109, 15.0, took=1.5) == 40.0  # in the middle of its call: 2.5 s later


def test_a_reading_that_may_be_of_any_time_tells_nothing(desk):
    desk.look(100, 5.0, took=4.0)
    assert desk.look(105, 6.0, took=0.1) is None
    assert desk.look(107, 7.0, took=0.1) == 50.0


def test_what_started_anew_or_does_not_run_has_no_percentage(desk):
    desk.look(100, 5.0)
    assert desk.look(102, 0.5) is None
    assert desk.look(104, 1.5) == 50.0
    desk.workspace = {**RUNNING, "runtime": {**RUNNING["runtime"], "state": "stopped"}}
    assert desk.look(106, 1.5) is None
    desk.workspace = {**RUNNING, "id": "another-one"}
    assert desk.look(108, 2.5) is None
