"""Limits and lists that change while something runs, on real nodes: they act at once, and nothing is ended by them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.shared.names import RUNTIMES
from tests.agent.on_node.web1 import Web1
from tests.releases import TRIXIE_FIRST

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]
MANY = "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; echo all"
HOG = "x = bytearray(200 << 20); print(len(x))"
HOLD = "import time; x = bytearray(120 << 20); print('held', flush=True); time.sleep(1000)"
INTERFACES = ["sh", "-c", "tail -n +3 /proc/net/dev | cut -d: -f1"]


def boxed(web1: Web1, name: str, **fields: Any) -> Any:
    """Make a workspace with a sandbox, and a job that runs in it."""
    web1.client.workspace.create(name=name)
    web1.client.sandbox.create(workspace=name, **fields)
    return web1.client.job.start(workspace=name, argv=["sleep", "1000"])


def runs(web1: Web1, name: str, job: Any) -> bool:
    return bool(web1.client.job.get(workspace=name, id=job.id).state == "running")


def test_limits_act_on_what_runs_and_end_nothing(web1: Web1) -> None:
    client, run = web1.client, web1.client.workspace.exec
    job = boxed(web1, "live", limits={"memory_bytes": 512 << 20})
    assert run(name="live", argv=["python3", "-c", HOG]).exit_code == 0
    assert "all" in run(name="live", argv=["sh", "-c", MANY]).stdout
    changed = client.sandbox.update(workspace="live", limits={"memory_bytes": 64 << 20, "tasks": 20, "cpus": 0.5})
    assert changed.limits == {"memory_bytes": 64 << 20, "tasks": 20, "cpus": 0.5}
    assert all(changed.enforced[name] for name in changed.limits)
    assert client.sandbox.get(workspace="live").limits == changed.limits
    assert client.workspace.usage(name="live").memory_limit_bytes == 64 << 20
    assert run(name="live", argv=["python3", "-c", HOG]).killed_by == "memory"
    assert "all" not in run(name="live", argv=["sh", "-c", MANY]).stdout
    assert runs(web1, "live", job)
    changed = client.sandbox.update(workspace="live", limits={"memory_bytes": None, "tasks": None, "cpus": None})
    assert changed.limits == {}
    assert not {"memory_bytes", "tasks", "cpus"} & set(changed.enforced)
    assert run(name="live", argv=["python3", "-c", HOG]).exit_code == 0
    assert "all" in run(name="live", argv=["sh", "-c", MANY]).stdout
    assert runs(web1, "live", job)


def test_a_changed_limit_is_that_of_the_next_runtime_too(web1: Web1) -> None:
    client, run = web1.client, web1.client.workspace.exec
    boxed(web1, "next", limits={"memory_bytes": 64 << 20})
    client.sandbox.update(workspace="next", limits={"memory_bytes": 512 << 20})
    client.workspace.stop(name="next")
    assert run(name="next", argv=["python3", "-c", HOG]).exit_code == 0
    # Where nothing runs it is seen from inside.
    client.workspace.stop(name="next")
    changed = client.sandbox.update(workspace="next", limits={"memory_bytes": 64 << 20})
    assert changed.enforced["memory_bytes"]
    assert run(name="next", argv=["python3", "-c", HOG]).killed_by == "memory"
    # What systemd keeps of a changed unit does not count for the next workspace of its name.
    client.workspace.delete(name="next")
    client.workspace.create(name="next")
    assert run(name="next", argv=["python3", "-c", HOG]).exit_code == 0


def test_the_time_of_a_command_changes_for_those_that_start_from_now_on(web1: Web1) -> None:
    client, run = web1.client, web1.client.workspace.exec
    job = boxed(web1, "time")
    client.sandbox.update(workspace="time", limits={"runtime_s": 0.5})
    assert run(name="time", argv=["sleep", "60"]).killed_by == "timeout"
    assert runs(web1, "time", job)
    client.workspace.stop(name="time")
    assert run(name="time", argv=["sleep", "60"]).killed_by == "timeout"
    client.sandbox.update(workspace="time", limits={"runtime_s": None})
    assert run(name="time", argv=["sleep", "0.7"]).exit_code == 0


def test_a_limit_below_what_is_used_wants_force(web1: Web1) -> None:
    client = web1.client
    boxed(web1, "used", limits={"memory_bytes": 512 << 20})
    held = client.job.start(workspace="used", argv=["python3", "-c", HOLD])
    web1.person.wait_until(lambda: "held" in client.job.logs(workspace="used", id=held.id).data, within_s=20)
    for limits in ({"memory_bytes": 64 << 20}, {"tasks": 2}):
        refusal = web1.refuses(client.sandbox.update, "in_use", workspace="used", limits=limits)
        assert "--force" in str(refusal)
        assert client.sandbox.get(workspace="used").limits == {"memory_bytes": 512 << 20}
    assert client.workspace.usage(name="used").memory_limit_bytes == 512 << 20
    assert client.sandbox.update(workspace="used", limits={"tasks": 2}, force=True).enforced["tasks"]
    assert runs(web1, "used", held)


def test_a_limit_that_the_node_does_not_enforce_changes_nothing(web1: Web1) -> None:
    client = web1.client
    client.workspace.create(name="bare")
    boxed(web1, "weak", limits={"tasks": 40})
    # The kernel's file is hidden behind another one: what systemd writes has no effect.
    place = "$(systemctl show --property=ControlGroup --value codesmith-workspace@weak.service)/pids.max"
    group = f"$(ls -d /sys/fs/cgroup/pids{place} /sys/fs/cgroup{place} 2>/dev/null | head -n 1)"
    web1.on(f"for one in {group}; do echo max >/run/weak; mount --bind -o ro /run/weak $one; done")
    try:
        refusal = web1.refuses(client.sandbox.update, "unsupported", workspace="weak", limits={"tasks": 30})
        assert "tasks" in refusal.problem
    finally:
        web1.on(f"umount {group}")
    assert client.sandbox.get(workspace="weak").limits == {"tasks": 40}
    # Its change says what the helper's ledger has.
    assert client.sandbox.update(workspace="weak", limits={"cpus": 2.0}).limits == {"tasks": 40, "cpus": 2.0}
    assert client.sandbox.update(workspace="weak", limits={"tasks": 30}).enforced["tasks"]
    refusal = web1.refuses(client.sandbox.update, "unsupported", workspace="weak", limits={"disk_bytes": 1 << 30})
    assert "disk_bytes (/srv/codesmith is on overlay" in refusal.problem
    refusal = web1.refuses(client.sandbox.create, "unsupported", workspace="bare", limits={"disk_bytes": 1 << 30})
    assert "disk_bytes" in refusal.problem
    assert client.workspace.get(name="bare").sandbox is None


def test_another_mode_of_the_network_wants_a_restart_while_something_runs(web1: Web1) -> None:
    client = web1.client
    job = boxed(web1, "mode")
    for network in ("none", {"allow": ["pypi.org"]}):
        refusal = web1.refuses(client.sandbox.update, "in_use", workspace="mode", network=network)
        assert "--restart" in str(refusal)
        assert runs(web1, "mode", job)
    web1.refuses(client.sandbox.update, "in_use", workspace="mode", allow=["pypi.org"])
    changed = client.sandbox.update(workspace="mode", network="none", restart=True)
    assert (changed.network, changed.enforced["network"]) == ("none", True)
    assert client.job.get(workspace="mode", id=job.id).state == "killed"
    assert client.workspace.exec(name="mode", argv=INTERFACES).stdout.split() == ["lo"]
    # The supervisor alone does not keep it from changing.
    changed = client.sandbox.update(workspace="mode", network="full")
    assert "network" not in changed.enforced
    assert len(client.workspace.exec(name="mode", argv=INTERFACES).stdout.split()) > 1


def test_lists_change_without_a_restart(web1: Web1) -> None:
    client = web1.client
    job = boxed(web1, "list", network={"allow": ["pypi.org", "*.example.org:443"]})
    changed = client.sandbox.update(workspace="list", allow=["GitHub.com", "pypi.org"], deny=["bad.example.org"])
    assert changed.network == {"allow": ["pypi.org", "*.example.org:443", "github.com"], "deny": ["bad.example.org"]}
    policy = json.loads(web1.on("cat /run/codesmith/egress/list/policy.json").out)
    assert {key: policy[key] for key in ("allow", "deny")} == changed.network
    changed = client.sandbox.update(workspace="list", allow=["bad.example.org"], drop=["github.com"])
    assert changed.network == {"allow": ["pypi.org", "*.example.org:443", "bad.example.org"], "deny": []}
    changed = client.sandbox.update(workspace="list", network={"allow": ["pypi.org"], "deny": []})
    assert changed.network == {"allow": ["pypi.org"], "deny": []}
    assert runs(web1, "list", job)


def test_a_change_that_was_cut_off_is_completed_by_the_next_call(web1: Web1) -> None:
    client = web1.client
    job = boxed(web1, "torn", limits={"tasks": 40})
    change = {"workspace": "torn", "limits": {"tasks": 30}, "network": None, "allow": [], "deny": [], "drop": []}
    message = {"verb": "sandbox.change", "arguments": {**change, "restart": False, "force": False}}
    # The helper has done it, and nobody told the front end.
    assert json.loads(web1.helper(message).out)["result"]["limits"] == {"tasks": 30}
    assert client.sandbox.get(workspace="torn").limits == {"tasks": 40}
    assert client.sandbox.update(workspace="torn", limits={"tasks": 30}).limits == {"tasks": 30}
    assert client.sandbox.get(workspace="torn").limits == {"tasks": 30}
    # The unit has changed, and the ledger has not.
    web1.on("systemctl set-property --runtime codesmith-workspace@torn.service TasksMax=25")
    assert client.sandbox.update(workspace="torn", limits={"tasks": 25}).enforced["tasks"]
    # The ledger says another network than what runs.
    web1.on(f'sed -i \'s/"network": "full"/"network": "none"/\' {RUNTIMES}/torn.json')
    web1.refuses(client.sandbox.update, "in_use", workspace="torn", network="full")
    assert runs(web1, "torn", job)
    client.sandbox.update(workspace="torn", network="full", restart=True)
    web1.person.wait_until(lambda: not runs(web1, "torn", job), within_s=20)


def test_a_workspace_without_a_sandbox_is_told_how_to_make_one(web1: Web1) -> None:
    web1.client.workspace.create(name="unboxed")
    refusal = web1.refuses(web1.client.sandbox.update, "not_found", workspace="unboxed", limits={"tasks": 5})
    assert "inv sandbox.create unboxed" in str(refusal)


def test_the_command_line_changes_limits_and_lists_and_names_the_command_that_allows_a_host(web1: Web1) -> None:
    said = web1.person.runs
    web1.client.workspace.create(name="words")
    said("inv sandbox.create words --memory 512M --allow pypi.org")
    job = web1.client.job.start(workspace="words", argv=["sleep", "1000"])
    asked = ["curl", "--silent", "--output", "/dev/null", "https://files.example.org/x"]
    assert web1.client.workspace.exec(name="words", argv=asked).exit_code != 0
    command = "inv sandbox.update words --allow files.example.org"
    for look in ("inv sandbox.get words", "inv workspace.usage words"):
        web1.person.wait_until(lambda look=look: f"to allow it: {command}" in said(look).err, within_s=20)
    changed = json.loads(said(f"{command} --memory none --tasks 200 --json").out)
    assert changed["limits"] == {"tasks": 200}
    assert changed["network"] == {"allow": ["pypi.org", "files.example.org"], "deny": []}
    refusal = web1.person.runs("inv sandbox.update words --network full", code=6)
    assert "--restart" in refusal.err
    assert runs(web1, "words", job)
    assert json.loads(said("inv sandbox.update words --network full --restart --json").out)["network"] == "full"
