"""Work on two nodes at once: commands in all workspaces, what they use, who did what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.person import Person


@pytest.fixture(scope="module")
def ops(make_person: Callable[..., Person]) -> Person:
    """Somebody with two prepared nodes, and three workspaces on them."""
    person = make_person({"web1": "bookworm", "web2": "trixie"})
    person.runs("inv node.prepare")
    for name, node in (("api", "web1"), ("shop", "web1"), ("shop", "web2")):
        person.runs(f"inv workspace.create {name} --node {node}")
    return person


def test_a_command_runs_in_all_workspaces_of_all_nodes(ops: Person) -> None:
    said = ops.runs("inv workspace.exec --all -- sh -c 'id -un; hostname >&2; cat' < /dev/null")
    names = ["web1/api", "web1/shop", "web2/shop"]
    assert sorted(said.out.splitlines()) == [f"{name}: cs-{name[5:]}" for name in names]
    assert said.err.splitlines()[-1] == "3 of 3 ended with 0"
    failed = ops.runs("inv workspace.exec --all -- sh -c 'test $CODESMITH_WORKSPACE = api || exit 7'", code=7)
    assert [line.partition(",")[0] for line in failed.err.splitlines()[1:]] == [
        "  web1/shop: exit code 7", "  web2/shop: exit code 7"
    ]  # fmt: skip
    rows = ops.runs("inv workspace.exec shop --all --json -- echo hi").json
    assert [(row["node"], row["workspace"], row["stdout"]) for row in rows] == [
        ("web1", "shop", "hi\n"), ("web2", "shop", "hi\n")
    ]  # fmt: skip
    some = ops.runs("inv workspace.exec api --all -- true")
    assert some.err == "note: no workspace 'api' on web2\n1 of 1 ended with 0\n"


def test_top_has_what_all_workspaces_use(ops: Person) -> None:
    ops.runs(
        "inv job.start api --node web1 --name busy -- sh -c 'head -c 60M /dev/zero > data/big; while :; do :; done'"
    )
    ops.runs("inv workspace.stop shop --node web2")
    ops.wait_until(lambda: top(ops)["web1/api"]["disk_bytes"] >= 60 << 20, within_s=60)
    found = top(ops)
    assert next(iter(found)) == "web1/api"
    busy, idle, stopped = found["web1/api"], found["web1/shop"], found["web2/shop"]
    assert (busy["state"], idle["state"], stopped["state"]) == ("running", "idle", "stopped")
    assert busy["cpu_percent"] > max(1.0, idle["cpu_percent"])
    assert busy["memory_bytes"] > 0 and busy["tasks"] > 1 and idle["idle_stop_at"]
    assert (stopped["cpu_percent"], stopped["memory_bytes"]) == (None, 0)
    ops.runs("inv job.stop api busy --node web1")


def top(ops: Person) -> dict[str, Any]:
    rows = ops.runs("inv top --all --sort cpu --json").json
    return {f"{row['node']}/{row['name']}": row for row in rows}
