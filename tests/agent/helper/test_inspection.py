"""Where the node differs from the ledger, of a node that is described; the rest is tried on real nodes."""

from __future__ import annotations

import os
import stat

import pytest

from agent.helper.inspection import NodeState, compare
from agent.helper.ledger.ledger import LoginRecord, WorkspaceRecord
from agent.shared.names import login_of

UID, TIME = 70000, "2026-11-23T00:00:00.000Z"


def directory(mode: int, gid: int = UID) -> os.stat_result:
    return os.stat_result((stat.S_IFDIR | mode, 1, 1, 1, UID, gid, 0, 0, 0, 0))


def problems(workspace: os.stat_result, home: os.stat_result) -> list[str]:
    node = NodeState(
        accounts={}, groups={}, lines={}, expired=set(), homes={login_of("demo"): home},
        workspaces={"demo": workspace}, marks={},
    )  # fmt: skip
    logins = [LoginRecord("demo", UID, "leaving", TIME)]
    found = compare(logins, [WorkspaceRecord("demo", "demo", "1", "active", TIME)], set(), {}, node)
    return [one.text for one in found]


@pytest.mark.parametrize(
    ("mode", "gid", "is_open"),
    [
        (0o700, UID, False), (0o750, UID, False), (0o2711, 33, False), (0o755, UID, True), (0o702, UID, True),
        (0o770, 33, True), (0o740, 33, True), (0o1777, UID, True),
    ],
)  # fmt: skip
def test_a_directory_that_others_may_list_is_named(mode: int, gid: int, is_open: bool) -> None:
    path, home = "/srv/codesmith/workspaces/demo", "/srv/codesmith/home/cs-demo"
    for place, found in (
        (path, problems(directory(mode, gid), directory(0o700))),
        (home, problems(directory(0o700), directory(mode, gid))),
    ):
        said = f"{place} is open to other logins: its mode is {mode:04o} (on the node: chmod 0700 {place})"
        assert found == ([said] if is_open else [])
