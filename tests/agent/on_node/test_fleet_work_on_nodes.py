"""Work on two nodes at once: commands in all workspaces, what they use, who did what."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from codesmith.nodes.registry import Registry
from codesmith.sdk.client import Client
from tests.person import BIN, TOP, Person


@pytest.fixture(scope="module")
def ops(make_person: Callable[..., Person]) -> Person:
    """Somebody with two prepared nodes, and three workspaces on them."""
    person = make_person({"web1": "bookworm", "web2": "trixie"})
    person.prepare()
    with person.here():
        for name, node in (("api", "web1"), ("shop", "web1"), ("shop", "web2")):
            with Client(Registry.load(person.registry).get(node)) as client:
                client.workspace.create(name=name)
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
        "inv job.start api --node web1 --name busy -- sh -c 'head -c 9M /dev/zero > data/big; while :; do :; done'"
    )
    ops.runs("inv workspace.stop shop --node web2")
    ops.wait_until(lambda: top(ops)["web1/api"]["disk_bytes"] >= 9 << 20, within_s=60)
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


def test_who_did_what_on_all_nodes(ops: Person) -> None:
    rows = ops.runs("inv audit.list --all --workspace shop --json").json
    times = [row["time"] for row in rows]
    assert {row["node"] for row in rows} == {"web1", "web2"}
    assert times == sorted(times, reverse=True)
    made = ops.runs("inv token.create shop --node web2 --json").json
    ops.runs(f"inv token.revoke {made['id']} --node web2")
    newest = ops.runs("inv audit.list --all --workspace shop --limit 1 --json").json[0]
    assert (newest["node"], newest["method"], newest["target"]["workspace"]) == ("web2", "token.revoke", "shop")


@pytest.mark.long  # tests/ssh/test_ssh_hostkeys.py trusts one node
def test_the_keys_of_all_nodes_are_trusted_at_once(ops: Person) -> None:
    pins = ops.registry.parent / "known_hosts"
    true = pins.read_text()
    pins.write_text("")
    asked = ops.types("inv node.trust --all", ("trust 2 new keys? [y/N]", "n"), code=2)
    assert asked.count("shows ssh-ed25519 SHA256:") == 2
    refused = ops.fails("inv node.trust --all", code=2)
    assert refused.err.splitlines()[-1].endswith("inv node.trust --node web1 --node web2 --yes")
    assert pins.read_text() == ""
    rows = ops.runs("inv node.trust --all --yes --json").json
    assert [(row["node"], row["added"]) for row in rows] == [("web1", True), ("web2", True)]
    assert [row["added"] for row in ops.runs("inv node.trust --node web1 --node web2 --json").json] == [False, False]
    assert set(map(key_of, pins.read_text().splitlines())) <= set(map(key_of, true.splitlines()))
    with ops.changed_host_key("web1"):
        changed = ops.runs("inv node.trust --all --json", code=4)
    assert [row.get("kind") for row in changed.json] == ["HostKeyChanged"] * 2
    pins.write_text(true)
    for words in ("", "web1 --all", "web1 --tag eu"):
        assert ops.fails(f"inv node.trust {words}", code=1).err.startswith("error: node.trust ")


def key_of(line: str) -> str:
    return line.split(" ", 1)[1].strip()


def test_a_prepare_that_was_cut_off_goes_on_with_what_is_not_done(ops: Person) -> None:
    argv = [str(BIN / "inv"), "node.prepare", "--jobs", "1"]
    with subprocess.Popen(
        argv, cwd=TOP, env=ops.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stderr
        next(line for line in process.stderr if line.startswith("web2"))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out.split("\t")[:2]) == (2, ["web1", "nothing to do"])
    assert "1 of 2 nodes is not done; to go on with them: inv node.prepare --resume\n" in err
    resumed = ops.runs("inv node.prepare --resume --json")
    assert [row["node"] for row in resumed.json] == ["web2"]
    assert resumed.err.startswith("node.prepare of 20")
    assert ops.fails("inv node.prepare --resume", code=1).err.startswith("error: no node.prepare of ")


@pytest.mark.long  # tests/fleet/test_runs.py has it without nodes
def test_a_restart_that_failed_at_a_node_goes_on_there(ops: Person) -> None:
    entries = {name: ops.lab_entry(name) for name in ("web1", "web2")}
    ops.write_registry({**entries, "web2": {**entries["web2"], "port": 1}})
    try:
        failed = ops.runs("inv node.restart --all --json", code=5)
    finally:
        ops.write_registry(entries)
    assert [row.get("kind") for row in failed.json] == [None, "Unreachable"]
    resumed = ops.runs("inv node.restart --resume --json")
    assert [(row["node"], row["state"]) for row in resumed.json] == [("web2", "active")]
    assert "web2 has changed in nodes.yaml" in resumed.err
