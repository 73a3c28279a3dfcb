"""Real `inv top` processes: once and live, against stand-ins of two nodes."""

from __future__ import annotations

import itertools
import json
import signal
import threading

import pytest
import yaml

from tests.agent.on_node.terminal import Terminal
from tests.sdk.stream_doubles import stand_in
from tests.tasks.conftest import INV
from tests.tasks.test_deletes import USAGE, WORKSPACE

pytestmark = pytest.mark.slow

IDLE_AT = "2999-11-30T12:00:00.000Z"
RUNNING = {"state": "running", "since": "2026-11-30T11:00:00.000Z", "idle_stop_at": None}
DAMAGED = {"error": {"code": 1009, "message": "damaged", "data": {"kind": "read_only"}}}


class Uses:
    """What the workspaces of a node use: each look finds that a workspace has used `cpu_s` seconds more."""

    def __init__(self, **uses):
        self.uses, self.looks = uses, {name: itertools.count() for name in uses}

    def answers(self):
        return {"workspace_list": self.list, "workspace_get": self.get, "workspace_usage": self.usage}

    def list(self, _):
        return [self.workspace(name) for name in self.uses]

    def workspace(self, name):
        state = self.uses[name].get("runtime", "stopped")
        listed = {"state": state, "since": None, "idle_stop_at": None}
        number = list(self.uses).index(name)
        return {
            **WORKSPACE, "id": f"id-{number}", "name": name, "user": "ada", "runtime": listed,
            "state": self.uses[name].get("state", "ready"),
        }  # fmt: skip

    def get(self, params):
        idle = {"idle_stop_at": IDLE_AT} if self.uses[params["name"]].get("idle") else {}
        return {**self.workspace(params["name"]), "runtime": {**RUNNING, **idle}}

    def usage(self, params):
        use, number = self.uses[params["name"]], next(self.looks[params["name"]])
        more = {key: value for key, value in use.items() if key in USAGE}
        return {**USAGE, **more, "cpu_s": number * use.get("cpu_s", 0)}


ONE = {"runtime": "running", "memory_bytes": 300 << 20, "cpu_s": 1e6, "tasks": 4, "disk_bytes": 1 << 20}
WEB1 = {
    "api": ONE,
    "rest": {"disk_bytes": 5 << 30},
    "idle": {"runtime": "running", "memory_bytes": 1 << 20, "idle": True},
}
WEB2 = {"shop": {"runtime": "running", "memory_bytes": 900 << 20, "cpu_s": 1.0}, "new": {"state": "pending"}}


@pytest.fixture
def two(place):
    place.write("nodes: {web1: {host: a.invalid, tags: [eu]}, web2: {host: b.invalid}}\n")
    return place


@pytest.fixture
def both(two):
    with (
        stand_in(two.endpoint("web1"), **Uses(**WEB1).answers()) as one,
        stand_in(two.endpoint("web2"), **Uses(**WEB2).answers()) as other,
    ):
        two_servers = (one, other)
        yield two_servers


@pytest.fixture
def at_terminal(two):
    def start(*words, rows=20, columns=140):
        environment = {key: value for key, value in two.environment.items() if key not in ("COLUMNS", "LINES")}
        return Terminal([INV, "top", *words], {**environment, "TERM": "dumb"}, rows=rows, columns=columns)

    return start


def names(text):
    return [line.split("\t")[0] for line in text.splitlines()]


def test_json_is_one_list_of_all_nodes(two, both):
    done = two.inv("top", "--all", "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert (done.returncode, list(rows)) == (0, ["shop", "api", "idle", "new", "rest"])
    assert [(rows[name]["node"], rows[name]["state"]) for name in ("shop", "api", "idle", "new", "rest")] == [
        ("web2", "running"), ("web1", "running"), ("web1", "idle"), ("web2", "pending"), ("web1", "stopped")
    ]  # fmt: skip
    assert (rows["idle"]["idle_stop_at"], rows["api"]["idle_stop_at"]) == (IDLE_AT, None)
    assert {key: rows["api"][key] for key in ("memory_bytes", "tasks", "disk_bytes", "user", "since")} == {
        "memory_bytes": 300 << 20, "tasks": 4, "disk_bytes": 1 << 20, "user": "ada", "since": RUNNING["since"]
    }  # fmt: skip


def test_one_list_has_the_cpu_of_two_looks(two, both):
    rows = {row["name"]: row for row in json.loads(two.inv("top", "--all", "--json").stdout)}
    assert rows["api"]["cpu_percent"] > rows["shop"]["cpu_percent"] > 0
    assert (rows["idle"]["cpu_percent"], rows["rest"]["cpu_percent"]) == (0.0, None)


def test_each_sort_has_its_order_and_each_form_its_text(two, both):
    orders = {
        "memory": ["shop", "api", "idle", "new", "rest"],
        "cpu": ["api", "shop", "idle", "new", "rest"],
        "disk": ["rest", "idle", "new", "shop", "api"],
        "name": ["api", "idle", "new", "rest", "shop"],
    }
    for sort, order in orders.items():
        assert names(two.inv("top", "--all", "--sort", sort).stdout) == order, sort
    assert two.inv("top", "--node", "web2", "-o", "name").stdout == "shop\nnew\n"
    assert [row["name"] for row in yaml.safe_load(two.inv("top", "--tag", "eu", "-o", "yaml").stdout)] == [
        "api", "idle", "rest"
    ]  # fmt: skip
    heads, first, *_ = two.inv("top", "--all", "-o", "table").stdout.splitlines()
    assert heads.split()[:6] == ["name", "node", "state", "cpu", "memory", "disk"]
    assert "900 MiB" in first
    bad = two.inv("top", "--sort", "size")
    assert (bad.returncode, bad.stderr.splitlines()[0]) == (
        1, "error: --sort takes one of memory, cpu, disk, name, not 'size'"
    )  # fmt: skip


def test_only_the_workspaces_that_are_asked_for(two, both):
    assert two.inv("top", "--node", "web1", "--user", "ada", "--label", "a=b").returncode == 0
    assert ("workspace.list", {"user": "ada", "labels": {"a": "b"}}) in both[0].calls
    assert both[1].calls == []


def test_a_look_costs_one_round_trip_at_a_node(two):
    with stand_in(two.endpoint("web1"), **Uses(**WEB1).answers()) as one:
        two.inv("top", "--node", "web1", "--json")
    # The first look has to learn the names; then list, three usages, and what two running ones say.
    assert one.posts == [1, 3 + 2, 1 + 3 + 2]
    many = {f"w{number:03}": {"runtime": "running"} for number in range(40)}
    with stand_in(two.endpoint("web1"), **Uses(**many).answers()) as one:
        rows = json.loads(two.inv("top", "--node", "web1", "--json").stdout)
    assert len(rows) == 40
    assert max(one.posts) == 16
    assert sorted(one.posts) == sorted([1, *[16] * 5, *[16] * 5, 1])


def test_batches_of_a_large_node_are_sent_at_once(two):
    asked = threading.Barrier(3, timeout=30)
    many = Uses(**{f"w{number:03}": {} for number in range(48)})

    def usage(params):
        if int(params["name"][1:]) % 16 == 0:
            asked.wait()
        return many.usage(params)

    with stand_in(two.endpoint("web1"), **{**many.answers(), "workspace_usage": usage}):
        assert len(json.loads(two.inv("top", "--node", "web1", "--json").stdout)) == 48


def test_a_node_that_fails_is_named_and_the_others_shown(two):
    with (
        stand_in(two.endpoint("web1"), workspace_list=DAMAGED),
        stand_in(two.endpoint("web2"), **Uses(**WEB2).answers()),
    ):
        done = two.inv("top", "--all", "--json")
        alone = two.inv("top", "--node", "web1")
    assert json.loads(done.stdout)[2] == {"node": "web1", "error": "damaged", "kind": "AgentRefused"}
    assert (done.returncode, alone.returncode, alone.stdout) == (6, 6, "")
    assert alone.stderr.startswith("error: damaged\n")


def test_a_workspace_that_is_deleted_meanwhile_is_no_error(two):
    gone = {"error": {"code": 1001, "message": "no workspace", "data": {"kind": "not_found"}}}
    with stand_in(two.endpoint("web1"), **{**Uses(**WEB1).answers(), "workspace_usage": gone}):
        rows = json.loads(two.inv("top", "--node", "web1", "--json").stdout)
    assert [(row["memory_bytes"], row["cpu_percent"]) for row in rows] == [(None, None)] * 3


def test_a_terminal_is_redrawn_until_q_and_restored(two, both, at_terminal):
    with at_terminal("--all") as terminal:
        before = terminal.mode()
        terminal.wait_for(r"every 2 s, q or Ctrl-C ends")
        terminal.wait_for(r"2 nodes, 3 of 5 workspaces running: memory 1.2 GiB, cpu 0%, disk .* by memory")
        terminal.wait_for(r"name +node +state +memory(?s:.*)shop(?s:.*)api(?s:.*)in \d+ y")
        terminal.wait_for(r"name +node +state +cpu(?s:.*)shop(?s:.*)api")  # the second look knows it
        assert terminal.mode() != before
        terminal.types("n")
        terminal.wait_for(r"by name(?s:.*)api(?s:.*)idle(?s:.*)shop")
        terminal.types("q")
        assert terminal.wait_for_end() == 0
        assert terminal.mode() == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_ends_it_and_restores_the_terminal(both, at_terminal, number, code):
    with at_terminal("--all") as terminal:
        before = terminal.mode()
        terminal.wait_for(r"every 2 s(?s:.*)shop")
        if number == signal.SIGINT:
            terminal.types("\x03")
        else:
            terminal.process.send_signal(number)
        assert terminal.wait_for_end() == code
        assert terminal.mode() == before


def test_a_narrow_terminal_drops_columns_and_a_short_one_rows(two, both, at_terminal):
    with at_terminal("--all", "--sort", "name", rows=8, columns=40) as terminal:
        terminal.wait_for(r"2 nodes, 3 of 5 workspaces running: mem…(?s:.*)name +node +state +memory +disk *\x1b")
        terminal.wait_for(r"api +web1 +running +300 MiB(?s:.*)and \d more lines")
        terminal.resize(30, 140)
        terminal.wait_for(r"by name, keys(?s:.*)user +idle stop at(?s:.*)shop +web2 +running")
        terminal.types("q")
        assert terminal.wait_for_end() == 0


def test_a_node_that_hangs_holds_up_no_screen(two, at_terminal):
    slow, go_on = Uses(**WEB1), threading.Event()
    looks = itertools.count()

    def list_(params):
        if next(looks):
            assert go_on.wait(60)
            return DAMAGED
        return slow.list(params)

    with (
        stand_in(two.endpoint("web1"), **{**slow.answers(), "workspace_list": list_}),
        stand_in(two.endpoint("web2"), **Uses(**WEB2).answers()),
        at_terminal("--all") as terminal,
    ):
        terminal.wait_for(r"web1: no answer for \d s(?s:.*)shop(?s:.*)api")  # its last rows
        go_on.set()
        terminal.wait_for(r"web1: damaged")
        terminal.types("q")
        assert terminal.wait_for_end() == 0
