"""The runtime on real kernels with control groups v2, which the containers of the lab do not have."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.shared.names import unit_of
from codesmith.lab import qemu
from codesmith.nodes.registry import Registry
from codesmith.sdk.api import Execution
from codesmith.sdk.client import Client
from tests.agent.on_node.door_one import Door
from tests.agent.on_node.web1 import Web1

pytestmark = [
    pytest.mark.vm,
    pytest.mark.lab,
    pytest.mark.timeout(1800),
    pytest.mark.parametrize("release", qemu.RELEASES, scope="module"),
]
HOG = "import time; x = bytearray(24 << 20); time.sleep(3); print(len(x))"
GROUP = "/sys/fs/cgroup/codesmith.slice/" + unit_of("box", "service")
LIMITS = {"memory_bytes": 96 << 20, "tasks": 40, "cpus": 1.0}


def execute(web1: Web1, *argv: str) -> Execution:
    """Run a command by a client of its own, as another thread."""
    with Client(Registry.load(web1.person.registry).get("web1")) as client:
        return client.workspace.exec(name="box", argv=list(argv), timeout_s=120.0)


@pytest.fixture(scope="module")
def box(web1: Web1) -> Web1:
    web1.client.workspace.create(name="box")
    made = web1.client.sandbox.create(workspace="box", limits=LIMITS, network="none")
    assert set(made.enforced.values()) <= {True, None}
    return web1


def test_limits_are_those_of_the_whole_workspace(box: Web1) -> None:
    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(lambda _: execute(box, "python3", "-c", HOG), range(8)))
    assert {done.killed_by for done in ended} == {None, "memory"}
    usage = box.client.workspace.usage(name="box")
    assert usage.memory_limit_bytes == LIMITS["memory_bytes"]
    assert 0 < usage.memory_bytes <= LIMITS["memory_bytes"]
    assert usage.cpu_s > 0
    assert box.on(f"cat {GROUP}/memory.swap.max {GROUP}/pids.max {GROUP}/cpu.max").out.split()[:2] == ["0", "40"]


def test_forks_end_at_the_limit_and_stop_ends_them_all(box: Web1) -> None:
    bomb = "import os, time\ntry:\n while True: os.fork() or time.sleep(1000)\nexcept OSError: print('full')"
    assert "full" in execute(box, "python3", "-c", bomb).stdout
    execute(box, "sh", "-c", "for i in 1 2 3 4 5; do setsid sleep 1000 >/dev/null 2>&1 & done")
    door = Door(box)
    with door.session("box") as session:
        assert box.client.workspace.get(name="box").runtime.state == "running"
        assert box.client.workspace.stop(name="box").runtime.state == "stopped"
        assert session.wait(30) == 255
    assert box.on(f"ls {GROUP}", check=False).out == ""
    assert box.on("pgrep -U cs-box", check=False).out == ""


def test_no_command_writes_its_control_group_and_none_leaves_it(box: Web1) -> None:
    places = ("/sys/fs/cgroup", "/sys/fs/cgroup/system.slice")
    tries = "; ".join([f"echo max >{GROUP}/memory.max", *(f"echo $$ >{place}/cgroup.procs" for place in places)])
    done = execute(box, "sh", "-c", f"{tries}; cat /proc/self/cgroup; unshare -Urm sh -c '{tries}' 2>&1; echo over")
    assert unit_of("box", "service") in done.stdout
    assert done.stdout.endswith("over\n")
    assert box.on(f"cat {GROUP}/memory.max").out.strip() == str(LIMITS["memory_bytes"])


def test_a_reboot_leaves_workspace_and_limits(box: Web1) -> None:
    execute(box, "sh", "-c", "echo kept >data/kept")
    box.person.lab_node("web1").reboot()
    box.client.close()
    box.person.runs("inv node.connect")
    assert box.client.workspace.get(name="box").runtime.state == "stopped"
    assert execute(box, "cat", "data/kept").stdout == "kept\n"
    assert box.on(f"cat {GROUP}/memory.max").out.strip() == str(LIMITS["memory_bytes"])
    box.client.workspace.delete(name="box")
    box.client.close()
