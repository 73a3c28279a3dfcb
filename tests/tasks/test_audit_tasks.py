"""`audit.list` of several nodes: one log, newest first, against stand-ins."""

from __future__ import annotations

import json

import pytest

from tests.sdk.stream_doubles import stand_in

DAMAGED = {"error": {"code": 1009, "message": "damaged", "data": {"kind": "read_only"}}}
CURSOR = "1f-0123456789abcdef"


def record(number, seconds):
    return {
        "time": f"2026-11-30T12:00:{seconds:02}.000Z", "method": "workspace.create", "request_id": None, "peer_uid": 0,
        "peer_login": "root", "target": {"name": f"w{number}"}, "outcome": "ok", "duration_s": 0.1, "owner": None,
        "exit_code": None, "signal": None, "killed_by": None, "token": None, "cursor": CURSOR,
    }  # fmt: skip


@pytest.fixture
def two(place):
    place.write("nodes: {web1: {host: a.invalid}, web2: {host: b.invalid}}\n")
    return place


@pytest.mark.slow
def test_the_logs_of_several_nodes_are_one_newest_first(two):
    # The clock of web1 was set back: its own order stays.
    one, other = [record(1, 50), record(2, 10), record(3, 30)], [record(4, 40), record(5, 20)]
    with (
        stand_in(two.endpoint("web1"), audit_list=one) as server,
        stand_in(two.endpoint("web2"), audit_list=other),
    ):
        rows = json.loads(two.inv("audit.list", "--all", "--workspace", "shop", "--json").stdout)
        few = json.loads(two.inv("audit.list", "--all", "--limit", "2", "--json").stdout)
        piped = two.inv("audit.list", "--node", "web1", "--node", "web2").stdout
    assert [(row["node"], row["target"]["name"]) for row in rows] == [
        ("web1", "w1"), ("web2", "w4"), ("web2", "w5"), ("web1", "w2"), ("web1", "w3")
    ]  # fmt: skip
    assert [row["target"]["name"] for row in few] == ["w1", "w4"]
    assert [line.split("\t")[0] for line in piped.splitlines()] == ["web1", "web2", "web2", "web1", "web1"]
    assert server.calls[0] == ("audit.list", {"limit": 100, "workspace": "shop"})


def test_of_one_node_the_log_is_as_it_was(two):
    with stand_in(two.endpoint("web1"), audit_list=[record(1, 50)]) as server:
        (row,) = json.loads(two.inv("audit.list", "--node", "web1", "--before", CURSOR, "--json").stdout)
    assert row == record(1, 50)
    assert server.calls[0][1]["before"] == CURSOR


def test_a_node_that_fails_is_named_behind_the_records_of_the_others(two):
    with stand_in(two.endpoint("web1"), audit_list=DAMAGED), stand_in(two.endpoint("web2"), audit_list=[record(1, 1)]):
        done = two.inv("audit.list", "--all", "--json")
    first, last = json.loads(done.stdout)
    assert (done.returncode, first["node"], last) == (
        6, "web2", {"node": "web1", "error": "damaged", "kind": "AgentRefused"}
    )  # fmt: skip


@pytest.mark.slow
def test_a_cursor_is_of_one_node(two):
    with stand_in(two.endpoint("web1"), audit_list=[]) as server, stand_in(two.endpoint("web2"), audit_list=[]):
        done = two.inv("audit.list", "--all", "--before", CURSOR)
        assert (done.returncode, server.calls) == (1, [])
        assert two.inv("audit.list", "--all", "--before", "2026-11-23T00:00:00Z").returncode == 0
    assert done.stderr.startswith("error: --before takes a time for several nodes: a cursor is of one log\nhint: ")
