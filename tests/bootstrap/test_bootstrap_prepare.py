"""prepare brings real nodes to the desired state, repairs drift, and does nothing if there is nothing to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import paramiko
import pytest

from codesmith.bootstrap import layout
from codesmith.bootstrap import pack as packing
from codesmith.bootstrap.apply import apply
from codesmith.bootstrap.plan import plan
from codesmith.bootstrap.prepare import Prepared, Progress, prepare
from codesmith.bootstrap.probe import probe
from codesmith.errors import AuthenticationFailed, StepFailed, Unreachable, Unsupported
from codesmith.lab import LabNode
from codesmith.nodes.registry import Node
from codesmith.ssh.fabric_connection import connect
from codesmith.ssh.target import resolve
from tests.bootstrap.drift import DRIFT
from tests.bootstrap.node_side import ask, call, ledger_of, sh, sums_of
from tests.kinds import some_names_of
from tests.releases import BOOKWORM_FIRST

pytestmark = pytest.mark.usefixtures("same_agent")
AsNode = Callable[..., Node]
Boot = Callable[..., LabNode]


def kinds(done: Prepared) -> list[str]:
    return [f"{step.kind} {step.name}" for step in done.steps]


@BOOKWORM_FIRST
def test_prepare_on_every_release(any_node: LabNode, as_node: AsNode) -> None:
    def new_node() -> None:
        # A forwarder that waits for this name meets the new id as soon as the agent listens.
        met.append(sh(any_node, "ls /run/codesmith/agent.sock 2>&1 || true"))

    met: list[str] = []
    done = prepare(as_node(any_node), on_new_node=new_node)
    assert done.changed
    assert [text.rpartition(": ")[2].strip() for text in met] == ["No such file or directory"]
    answer = ask(any_node)
    assert (answer["node_id"], answer["agent"]) == (done.node_id, done.agent_version)
    assert answer["build"] == packing.pack().sha256
    assert sh(any_node, "systemctl is-enabled " + " ".join(layout.ENABLED)).split() == ["enabled"] * len(layout.ENABLED)
    assert any_node.failed_units == []
    again = prepare(as_node(any_node), on_new_node=new_node)
    assert len(met) == 1
    assert (again.changed, again.steps, again.node_id) == (False, (), done.node_id)


@BOOKWORM_FIRST
def test_what_prepare_made_survives_a_reboot(any_node: LabNode, as_node: AsNode) -> None:
    before = prepare(as_node(any_node)).node_id
    any_node.reboot()
    assert ask(any_node)["node_id"] == before
    assert prepare(as_node(any_node)).steps == ()


# Prints which modules of ours were compiled, of all that a command imports.
STARTS = """
import subprocess, sys
for module in ("http_server", "server", "job", "dial"):
    names = {"http_server": "agent.frontend", "server": "agent.helper", "job": "agent.git", "dial": "agent"}
    words = f"import sys; sys.path.insert(0, {sys.argv[1]!r}); import {names[module]}.{module}"
    said = subprocess.run([sys.executable, "-I", "-S", "-v", "-c", words], capture_output=True, text=True, check=True)
    read = [line.split()[-1].strip("'") for line in said.stderr.splitlines() if "code object from" in line]
    ours = [path for path in read if path.startswith(sys.argv[1])]
    assert ours, said.stderr
    print(*(path for path in ours if not path.endswith(".pyc")))
"""


@BOOKWORM_FIRST
def test_no_start_compiles_or_writes_anything(any_node: LabNode, as_node: AsNode) -> None:
    prepare(as_node(any_node))
    program = sh(any_node, f"readlink -f {layout.program_of(layout.CURRENT)}")
    before = sh(any_node, f"find {layout.CODE} -ls")
    assert any_node.run(["python3", "-B", "-c", STARTS, program]).stdout.split() == []
    sh(any_node, f"systemctl restart {layout.AGENT_SERVICE}; python3 -I -S {program} version")
    call(any_node, "node.health")
    assert sh(any_node, f"find {layout.CODE} -ls") == before


@BOOKWORM_FIRST
def test_what_runs_is_the_unpacked_release_itself(any_node: LabNode, as_node: AsNode) -> None:
    prepare(as_node(any_node))
    program = sh(any_node, f"readlink -f {layout.program_of(layout.CURRENT)}")
    call(any_node, "node.health")  # starts the helper
    pids = [any_node.unit_pid(unit) for unit in (layout.AGENT_SERVICE, layout.HELPER_SERVICE)]
    for pid in pids:
        assert Path(f"/proc/{pid}/cmdline").read_text().split("\0")[-3] == f"{layout.CURRENT}/program"
    # Late imports go by this path: `current` may lead to another release by then.
    said = sh(any_node, f"python3 -I -S -v {layout.CURRENT}/program help 2>&1")
    assert f"code object from '{program}/agent/__pycache__/main." in said
    assert f"{layout.CURRENT}/program/agent" not in said


def test_the_ledger_is_exact(node: LabNode, as_node: AsNode) -> None:
    prepare(as_node(node))
    ledger = ledger_of(node)
    assert ledger["node_id"] == json.loads(sh(node, f"cat {layout.NODE}"))["node_id"]
    modes = {entry["path"]: f"{entry['mode']} {entry['owner']}" for entry in ledger["entries"] if "mode" in entry}
    said = sh(node, f"stat -c '%n 0%a %U:%G' {' '.join(modes)}").splitlines()
    assert dict(line.split(" ", 1) for line in said) == modes
    sums = {entry["path"]: entry["sha256"] for entry in ledger["entries"] if "sha256" in entry}
    assert sums_of(node, sums) == sums
    for entry in ledger["entries"]:
        assert entry["made_by_us"], entry
    assert sh(node, "find / -xdev -name '.codesmith-tmp-*'") == ""


def test_nothing_to_do_is_one_connection_and_one_script(
    node: LabNode, as_node: AsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(as_node(node))
    opened: list[str] = []
    open_channel = paramiko.Transport.open_channel

    def counted(self: paramiko.Transport, kind: str, *args: Any, **kwargs: Any) -> paramiko.Channel:
        opened.append(kind)
        return open_channel(self, kind, *args, **kwargs)

    monkeypatch.setattr(paramiko.Transport, "open_channel", counted)
    relay = node.relay(rtt_ms=20)
    with relay as (host, port):
        assert not prepare(as_node(node, host=host, port=port)).changed
        traffic = relay.traffic()
    assert opened == ["session"]
    assert traffic.connections == 1
    # One Fabric connect and script takes six; two more are allowed (P5).
    assert traffic.round_trips <= 8


def test_plan_only_changes_nothing(fresh: Boot, as_node: AsNode) -> None:
    node = fresh("plain")
    done = prepare(as_node(node), plan_only=True)
    assert len(done.steps) > 20
    assert not done.changed
    assert sh(node, "ls -d /etc/codesmith /usr/lib/codesmith /srv/codesmith 2>/dev/null || true") == ""
    assert sh(node, "getent group codesmith || true") == ""


def in_any_order(steps: list[str]) -> list[str]:
    return [" ".join(sorted(re.split(r"[ ,]+", step))) for step in steps]


@pytest.mark.parametrize(
    "drift",
    some_names_of(
        DRIFT,
        "a changed unit file",
        "a stopped socket",
        "a lost ledger",
    ),
)
def test_drift_is_mended_by_exactly_the_steps_it_needs(node: LabNode, as_node: AsNode, drift: str) -> None:
    before = prepare(as_node(node)).node_id
    command, steps = DRIFT[drift]
    sh(node, command)
    done = prepare(as_node(node))
    release = layout.desired_for(packing.pack(), "").release.rpartition("/")[2]
    assert in_any_order(kinds(done)) == in_any_order([step.replace("RELEASE", release) for step in steps])
    assert done.node_id == before == ask(node)["node_id"]
    assert prepare(as_node(node)).steps == ()


@pytest.mark.parametrize("purged", [pytest.param("git", marks=pytest.mark.long), "python3"])  # which takes git with it
def test_missing_packages_come_from_the_nodes_package_manager(fresh: Boot, as_node: AsNode, purged: str) -> None:
    node = fresh("bare")
    names = "git" if purged == "git" else "git python3 python3-minimal python3.11 python3.11-minimal"
    sh(node, f"DEBIAN_FRONTEND=noninteractive apt-get purge -y {names} && apt-get autoremove -y")
    done = prepare(as_node(node))
    assert any(step.kind == "package" and purged in step.name for step in done.steps)
    assert ask(node)["node_id"] == done.node_id
    entries = ledger_of(node)["entries"]
    assert {"kind": "package", "name": purged, "made_by_us": True} in entries
    assert prepare(as_node(node)).steps == ()


@pytest.mark.long
def test_a_package_that_cannot_be_had_names_step_command_and_reason(fresh: Boot, as_node: AsNode) -> None:
    node = fresh("poor")
    sh(node, "apt-get purge -y git && rm -f /var/cache/apt/archives/git*")
    with pytest.raises(StepFailed) as error:
        prepare(as_node(node))
    assert "could not install git with apt-get" in error.value.problem
    assert "command: apt-get" in error.value.problem
    assert "E: " in error.value.problem


@pytest.mark.parametrize("count", [19, *(pytest.param(more, marks=pytest.mark.long) for more in (1, 4, 12, 18, 24))])
def test_a_prepare_that_was_cut_off_is_finished_by_the_next(fresh: Boot, as_node: AsNode, count: int) -> None:
    node = fresh("cut")
    payload = packing.pack()
    desired = layout.desired_for(payload, "the-id-of-the-first")
    connection = connect(resolve(as_node(node)))
    try:
        facts = probe(connection, desired)
        assert apply(connection, facts, plan(facts, desired)[:count], payload.data, lambda result: None)
    finally:
        connection.close()
    node.power_cut()
    node.start()
    done = prepare(as_node(node))
    assert ask(node)["node_id"] == done.node_id == "the-id-of-the-first"
    assert prepare(as_node(node)).steps == ()
    entries = ledger_of(node)["entries"]
    assert all(entry["made_by_us"] for entry in entries)


def test_a_prepare_that_lost_its_connection_ends_on_the_node(fresh: Boot, as_node: AsNode) -> None:
    node = fresh("lost")

    def leave(progress: Progress) -> None:
        if progress.phase == "step":
            node.run(["pkill", "-KILL", "-x", "sshd"])
            node.run(["systemctl", "start", "ssh"])

    with pytest.raises(Unreachable, match=r"the connection was lost"):
        prepare(as_node(node), on_progress=leave)
    done = prepare(as_node(node))
    assert ask(node)["node_id"] == done.node_id
    assert prepare(as_node(node)).steps == ()


def test_five_prepares_at_once_make_one_install(fresh: Boot, as_node: AsNode) -> None:
    node = fresh("busy")
    told: list[Progress] = []
    with ThreadPoolExecutor(5) as pool:
        done = list(pool.map(lambda _: prepare(as_node(node), on_progress=told.append), range(5)))
    assert {one.node_id for one in done} == {ask(node)["node_id"]}
    assert [one.changed for one in done].count(True) == 1
    assert [one.steps != () for one in done].count(True) == 1
    # Prepares that had planned the same steps carried out nothing.
    assert [one.text for one in told if one.phase == "step"].count("create the user codesmith") == 1


@pytest.mark.long
def test_an_operator_with_sudo_may_call_the_agent_afterwards(fresh: Boot, as_node: AsNode) -> None:
    node = fresh("sudo")
    node.add_login("ops", sudo="nopasswd")
    node.add_login("ada", sudo="nopasswd")
    done = prepare(as_node(node, user="ops"))
    assert "member ops" in kinds(done)
    assert prepare(as_node(node, user="ops")).steps == ()
    assert kinds(prepare(as_node(node, user="ada"))) == [f"ledger {layout.LEDGER}", "member ada"]
    assert sh(node, "id -nG codesmith") == "codesmith"


def test_an_operator_without_sudo_is_told_and_nothing_changes(fresh: Boot, as_node: AsNode) -> None:
    node = fresh("nosudo")
    node.add_login("ops", sudo="password", password="secret")
    with pytest.raises(AuthenticationFailed, match=r"ops cannot become root without a password"):
        prepare(as_node(node, user="ops"))
    assert sh(node, "ls -d /etc/codesmith 2>/dev/null || true") == ""


def test_an_unsupported_node_is_told_all_reasons_and_left_alone(fresh: Boot, as_node: AsNode) -> None:
    node = fresh("odd")
    sh(node, "mount -t tmpfs -o noexec,size=4m tmpfs /srv; useradd --home-dir /home/x codesmith; touch /tmp/then")
    with pytest.raises(Unsupported) as error:
        prepare(as_node(node))
    for reason in ("/srv is mounted noexec", "/srv has 4 MiB free", "a user codesmith (uid 1000, home /home/x)"):
        assert reason in error.value.problem
    assert sh(node, "find /etc /usr /srv /opt -xdev -newer /tmp/then") == ""


@pytest.mark.long
def test_sshd_that_forbids_socket_forwarding_is_no_obstacle(fresh: Boot, as_node: AsNode) -> None:
    node = fresh("strict")
    sh(node, "echo 'AllowStreamLocalForwarding no' >>/etc/ssh/sshd_config; systemctl restart ssh")
    assert prepare(as_node(node)).changed
