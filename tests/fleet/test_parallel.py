"""Work on several nodes in parallel: bounded, each node with its own result."""

from __future__ import annotations

import contextlib
import threading

import pytest

from codesmith.doctor import doctor
from codesmith.errors import AuthenticationFailed, Unreachable
from codesmith.fleet import installation, parallel
from codesmith.nodes.registry import Node


@pytest.fixture
def nodes(tmp_path):
    return [Node(f"n{number}", tmp_path / "nodes.yaml", host="x") for number in range(40)]


def test_outcomes_come_in_the_order_of_the_nodes(nodes):
    assert [outcome.result for outcome in parallel.each(nodes, lambda node: node.name)] == [node.name for node in nodes]


@pytest.mark.slow
@pytest.mark.parametrize("limit", [parallel.AT_ONCE, 3])
def test_as_many_run_at_once_as_may_and_no_more(nodes, limit):
    running, most, lock = [0], [0], threading.Lock()
    one_too_many = threading.Barrier(limit + 1)

    def work(node):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        with contextlib.suppress(threading.BrokenBarrierError):
            one_too_many.wait(0.5)
        with lock:
            running[0] -= 1

    parallel.each(nodes, work, limit)
    assert most[0] == limit


def test_one_failure_stops_no_other(nodes):
    def work(node):
        if node.name in ("n3", "n7"):
            raise Unreachable(f"{node.name} is gone", hint="look")
        return node.name

    outcomes = parallel.each(nodes, work)
    assert sum(outcome.result is not None for outcome in outcomes) == 38
    with pytest.raises(parallel.SomeFailed) as caught:
        parallel.raise_failures(outcomes)
    assert str(caught.value) == "error: 2 of 40 nodes failed:\n  n3: n3 is gone\n  n7: n7 is gone\nhint: look"
    assert caught.value.code == 5


def test_failures_of_different_kinds_end_with_1(nodes):
    errors = {"n0": Unreachable("a"), "n1": AuthenticationFailed("b")}

    def work(node):
        raise errors[node.name]

    with pytest.raises(parallel.SomeFailed) as caught:
        parallel.raise_failures(parallel.each(nodes[:2], work))
    assert caught.value.code == 1


def test_the_only_nodes_error_is_its_own(nodes):
    def work(node):
        raise Unreachable("gone")

    outcomes = parallel.each(nodes[:1], work)
    with pytest.raises(Unreachable, match="gone"):
        parallel.raise_only(outcomes)


def test_what_nobody_has_foreseen_at_one_node_stops_no_other(nodes, tmp_path, monkeypatch):
    monkeypatch.setenv("CODESMITH_HOME", str(tmp_path))

    def work(node):
        if node.name == nodes[0].name:
            raise ZeroDivisionError("ouch")
        return node.name

    first, *others = parallel.each(nodes, work, at_once=1)
    assert [outcome.result for outcome in others] == [node.name for node in nodes[1:]]
    assert isinstance(first.error.__cause__, ZeroDivisionError)
    assert f"{nodes[0].name} failed unexpectedly: ZeroDivisionError: ouch" in first.error.problem
    assert "Traceback" in next((tmp_path / "log").iterdir()).read_text()


def test_the_row_of_a_node_that_could_not_be_verified_has_its_error_alone():
    row = {"node": "n1", "error": "gone", "kind": "Unreachable"}
    assert installation.drift_lines([row]) == [{"node": "n1", "error": "gone"}]


def test_what_the_doctor_stumbles_over_at_one_node_is_a_finding(monkeypatch, tmp_path):
    def stumble(node):
        raise Unreachable("it is odd", hint="look")

    monkeypatch.setenv("CODESMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(doctor, "check_node", stumble)
    (tmp_path / "nodes.yaml").write_text("nodes: {n0: {host: x}}\n")
    (row,) = [row for row in doctor.examine({"file": str(tmp_path / "nodes.yaml")}) if row["node"] == "n0"]
    assert (row["status"], row["detail"], row["next"].split()[0]) == ("fail", "it is odd", "look")


def test_of_the_only_node_a_bug_reaches_the_caller(nodes):
    def work(node):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        parallel.each(nodes[:1], work)


@pytest.mark.slow
def test_ctrl_c_tells_what_was_done_what_is_in_progress_and_what_was_not_started(nodes):
    let_go, is_there = threading.Event(), threading.Event()

    def work(node):
        if node.name == "n1":
            is_there.set()
            let_go.wait()
        return node.name

    def press_ctrl_c():
        if is_there.is_set():
            raise KeyboardInterrupt

    with pytest.raises(parallel.Interrupted) as caught:
        parallel.each(nodes[:4], work, 1, press_ctrl_c)
    let_go.set()
    assert [outcome.result for outcome in caught.value.outcomes] == ["n0"]
    assert (caught.value.in_progress, caught.value.not_started) == (["n1"], ["n2", "n3"])
    assert str(caught.value) == "cancelled: 1 of 4 nodes are done; in progress: n1; not started: n2, n3"
