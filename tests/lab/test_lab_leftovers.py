"""Nothing of a node stays behind, however its owner ends, and nothing else is touched."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from codesmith.lab import Lab, teardown
from codesmith.lab.home import CLAIMS
from codesmith.lab.processes import Process
from codesmith.lab.record import Run
from codesmith.nodes.lab_home import node_dir
from tests.lab.lab_traces import Traces, eventually

pytestmark = pytest.mark.lab

BOOT_AND_WAIT = """
import sys
from codesmith.lab import Lab
if "keep" in sys.argv[2:]:
    with Lab(keep=True) as lab:
        node = lab.up(sys.argv[1])
else:
    node = Lab().up(sys.argv[1])
print(node.leader, flush=True)
sys.stdin.readline()
"""
CLAIM_AND_DIE = """
import os, sys
from codesmith.lab import disk, network, teardown
from codesmith.lab.home import ensure_dir
from codesmith.nodes.lab_home import node_dir
with teardown.claims_lock():
    folder = node_dir(sys.argv[1])
    node_id = teardown.claim_id(sys.argv[1], folder)
    ensure_dir(folder)
    network.ensure(node_id)
print(node_id, flush=True)
os.kill(os.getpid(), 9)
"""


def test_down_leaves_nothing(lab, boot):
    node = boot()
    node.run(["sh", "-c", "setsid sleep 999 >/dev/null 2>&1 &"])
    traces = Traces.of(node.folder)
    assert len(traces.left()) > 8, "the test does not see what it is to miss"
    assert lab.down(node.name)
    assert traces.left() == []
    assert not lab.down(node.name)


def test_a_node_that_somebody_looks_into_goes_all_the_same(lab, boot):
    node = boot()
    traces = Traces.of(node.folder)
    with open(node.root / "etc/hostname"):
        lab.down(node.name)
    assert traces.left() == []


@pytest.mark.long
def test_a_node_goes_with_trees_of_any_depth(lab, boot):
    node = boot()
    traces = Traces.of(node.folder)
    dig = "import os\nfor _ in range(5000): os.mkdir('d'); os.chdir('d')"
    node.run(["sh", "-c", 'mkdir /srv/deep && cd /srv/deep && exec python3 -c "$0"', dig])
    lab.down(node.name)
    assert traces.left() == []


def test_a_node_goes_with_its_killed_owner(script, new_name):
    name = new_name("orphan")
    owner = script(BOOT_AND_WAIT, name)
    assert owner.line()
    traces = Traces.of(node_dir(name))
    owner.kill()
    # Soon, because another process that uses the lab would remove it too.
    eventually(lambda: not traces.left(), "it outlived its owner", within_s=5)


def test_a_node_whose_owner_and_supervisor_are_killed_is_reaped(script, new_name):
    name = new_name("orphan")
    owner = script(BOOT_AND_WAIT, name)
    leader = int(owner.line())
    traces = Traces.of(node_dir(name))
    run = Run.read(node_dir(name))
    run.supervisor.send(signal.SIGSTOP)
    owner.kill()
    run.supervisor.send(signal.SIGKILL)
    assert run.supervisor.wait(10)
    assert Path("/proc", str(leader)).exists() or traces.left(), "nothing was left to reap"
    assert name in teardown.reap()
    assert traces.left() == []


def test_a_half_made_node_is_reaped(script, new_name):
    name = new_name("half")
    node_id = script(CLAIM_AND_DIE, name).line()
    traces = Traces(node_dir(name), node_id)

    def is_gone() -> bool:
        teardown.reap()  # or another process does it just now, and this one finds nothing to do
        return not traces.left()

    eventually(is_gone, "it was not reaped")


def test_a_living_owners_node_is_not_reaped(script, new_name):
    name = new_name("alive")
    owner = script(BOOT_AND_WAIT, name)
    leader = owner.line()
    assert name not in teardown.reap()
    assert Path("/proc", leader).exists()
    assert name in [node.name for node in Lab().list()]


def test_two_processes_get_the_same_node(script, new_name):
    name = new_name("shared")
    first, second = script(BOOT_AND_WAIT, name), script(BOOT_AND_WAIT, name)
    assert first.line() == second.line() != ""


def test_kept_nodes_outlive_their_maker(script, new_name, lab):
    name = new_name("kept")
    maker = script(BOOT_AND_WAIT, name, "keep")
    leader = maker.line()
    try:
        maker.kill()
        assert name not in teardown.reap()
        assert Path("/proc", leader).exists()
        assert lab.get(name).state == "running"
    finally:
        assert lab.down(name)


def test_ids_are_not_given_twice(new_name):
    with teardown.claims_lock():
        name = new_name()
        ids = {teardown.claim_id(name, Path("/nowhere", name)) for _ in range(3)}
        for node_id in ids:
            (CLAIMS / f"{node_id}.json").unlink()
    assert len(ids) == 3


def test_a_process_with_a_reused_pid_is_not_killed():
    with subprocess.Popen(["sleep", "600"]) as sleeper:
        real = Process.of(sleeper.pid)
        assert real is not None
        earlier = Process(real.pid, real.start - 1)
        earlier.send(signal.SIGKILL)
        assert earlier.wait(0)
        assert not earlier.is_alive
        assert real.is_alive
        real.send(signal.SIGKILL)
        assert real.wait(10)
    assert not real.is_alive
