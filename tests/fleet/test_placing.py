"""workspace.create --any: which node is taken, and what is said of it."""

from __future__ import annotations

import json
import threading

import pytest
import yaml

from codesmith.fleet.placing import Room, explained, rank
from tests.sdk.sdk_doubles import USER
from tests.sdk.stream_doubles import stand_in
from tests.tasks.conftest import place
from tests.tasks.test_deletes import MISSING, WORKSPACE

pytestmark = pytest.mark.slow

__all__ = ["place"]
GIB = 1 << 30
THREE = yaml.safe_dump(
    {"nodes": {name: {"host": f"{name}.invalid", "tags": ["eu"]} for name in ("web1", "web2", "web3")}}
)


def room(node: str, memory: float, disk: float, reason: str = "") -> Room:
    return Room(node, int(memory * GIB), int(disk * GIB), reason)


@pytest.mark.parametrize(
    ("rooms", "order"),
    [
        ([room("a", 1, 10), room("b", 2, 20)], ["b", "a"]),
        ([room("a", 4, 10), room("b", 3, 90)], ["b", "a"]),  # its scarcer one is 3/4, that of a 1/9
        ([room("a", 4, 45), room("b", 2.8, 63), room("c", 0.1, 90)], ["b", "a", "c"]),  # together a has more
        ([room("b", 2, 20), room("a", 2, 20)], ["a", "b"]),
        ([room("a", 4, 10), room("b", 4, 20), room("c", 2, 20)], ["b", "a", "c"]),
        ([room("a", 0, 0), room("b", 0, 0)], ["a", "b"]),
        ([room("a", 9, 9, "unreachable"), room("b", 1, 1)], ["b"]),
        ([], []),
    ],
)
def test_the_scarcer_of_memory_and_disk_decides_then_the_name(rooms, order):
    assert [one.node for one in rank(rooms)] == order
    assert [one.node for one in rank(list(reversed(rooms)))] == order


def test_the_choice_is_told_with_its_figures():
    said = explained([room("b", 2, 20), room("a", 1.5, 10)], [room("c", 0, 0, "error: no\nanswer")])
    assert said == (
        "on b: 2.0 GiB memory, 20 GiB disk free; a: 1.5 GiB memory, 10 GiB disk free; c left out: error: no answer"
    )


@pytest.fixture
def nodes(place):
    place.write(THREE)
    return place


def info(memory: float, disk: float):
    return {
        "memory_available_bytes": int(memory * GIB),
        "disk": {"total_bytes": 99 * GIB, "free_bytes": int(disk * GIB)},
    }


def answers(memory: float = 1, disk: float = 10, **others):
    known = {
        "workspace_get": MISSING,
        "user_get": MISSING,
        "workspace_create": WORKSPACE,
        "node_info": info(memory, disk),
    }
    return {**known, **others}


def test_the_freest_node_is_taken_and_the_others_are_told(nodes):
    with (
        stand_in(nodes.endpoint("web1"), **answers(1, 10)) as web1,
        stand_in(nodes.endpoint("web2"), **answers(2, 20)) as web2,
    ):
        done = nodes.inv("workspace.create", "demo", "--any", "--tag", "eu")
    said = [line for line in done.stderr.splitlines() if line.startswith("on ")]
    assert done.returncode == 0, done.stderr
    assert "workspace.create" in [method for method, _ in web2.calls]
    assert "workspace.create" not in [method for method, _ in web1.calls]
    figures = "on web2: 2.0 GiB memory, 20 GiB disk free; web1: 1.0 GiB memory, 10 GiB disk free; web3 left out: "
    assert len(said) == 1 and said[0].startswith(figures) and "no address is known for 'web3.invalid'" in said[0]


@pytest.mark.parametrize(
    ("words", "others", "reason"),
    [
        ((), {"workspace_get": WORKSPACE}, "has a workspace demo already"),
        ((), {"user_get": {**USER, "drift": []}}, "has a user demo already"),
        (("--user", "ann"), {}, "has no user ann"),
        ((), {"node_info": {"disk": {}}}, "its agent is older; inv node.prepare --node web1"),
    ],
)
def test_a_node_that_cannot_have_it_is_left_out_with_the_reason(nodes, words, others, reason):
    user = {"user_get": {**USER, "drift": []}}
    with (
        stand_in(nodes.endpoint("web1"), **answers(8, 80, **others)),
        stand_in(nodes.endpoint("web2"), **answers(1, 10, **(user if words else {}))),
    ):
        done = nodes.inv("workspace.create", "demo", "--any", *words)
    assert done.returncode == 0, done.stderr
    assert f"on web2: 1.0 GiB memory, 10 GiB disk free; web1 left out: {reason}; web3 left out: " in done.stderr


def test_without_a_node_that_can_have_it_the_reasons_are_told(nodes):
    with (
        stand_in(nodes.endpoint("web1"), **answers(workspace_get=WORKSPACE)),
        stand_in(nodes.endpoint("web2"), **answers(workspace_get=WORKSPACE)),
    ):
        done = nodes.inv("workspace.create", "demo", "--any")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: no node can take it:\n  web1: has a workspace demo already\n  web2: has a work" in done.stderr
    nodes.write("nodes: {web3: {host: web3.invalid}}\n")
    done = nodes.inv("workspace.create", "demo", "--any")
    assert done.returncode == 5 and "error: no node can take it:\n  web3: node web3 (" in done.stderr


def test_all_nodes_are_looked_at_at_once(nodes):
    together = threading.Barrier(3, timeout=30)

    def waits(_):
        together.wait()
        return info(1, 10)

    with (
        stand_in(nodes.endpoint("web1"), **answers(node_info=waits)),
        stand_in(nodes.endpoint("web2"), **answers(node_info=waits)),
        stand_in(nodes.endpoint("web3"), **answers(node_info=waits)),
    ):
        done = nodes.inv("workspace.create", "demo", "--any", "--json")
    assert done.returncode == 0 and "on web1: " in done.stderr
    assert next(iter(json.loads(done.stdout).items())) == ("node", "web1")
