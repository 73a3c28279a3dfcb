"""Virtual machines of the lab: a kernel of their own, with control groups v2. In `make test-vm` alone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from codesmith.lab import Lab, LabNode, qemu
from codesmith.lab.processes import Process
from codesmith.lab.record import Run

pytestmark = [pytest.mark.vm, pytest.mark.lab, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module", params=qemu.RELEASES)
def machine(request: pytest.FixtureRequest, lab: Lab, new_name) -> Iterator[LabNode]:
    """A virtual machine of each release."""
    name = new_name("vm")
    yield lab.up(name, request.param)
    lab.down(name)


def test_a_machine_boots_with_its_own_kernel_and_no_failed_unit(machine):
    assert machine.run(["systemctl", "is-system-running"]).stdout == "running\n"
    assert machine.failed_units == []
    ours = subprocess.run(["uname", "-r"], capture_output=True, text=True, check=True).stdout
    assert machine.run(["uname", "-r"]).stdout != ours
    assert machine.run(["hostname"]).stdout.strip() == machine.name


def test_a_machine_has_control_groups_v2_with_every_controller(machine):
    controllers = machine.run(["cat", "/sys/fs/cgroup/cgroup.controllers"]).stdout.split()
    assert {"cpu", "io", "memory", "pids"} <= set(controllers)


def test_memory_limits_of_units_hold_in_a_machine(machine):
    eat = "import sys; sys.stdout.write('began'); sys.stdout.flush(); bytearray(200 << 20)"
    unit = ["systemd-run", "--pipe", "--wait", "--quiet", "-p", "MemoryMax=50M", "-p", "MemorySwapMax=0"]
    done = machine.run([*unit, "python3", "-c", eat], check=False)
    assert (done.stdout, done.status != 0) == ("began", True)


def test_a_machine_keeps_its_disk_over_a_reboot_a_cut_and_a_halt(machine):
    machine.run(["sh", "-c", "echo kept >/root/kept; echo lost >/run/lost; sync"])
    machine.reboot()
    assert machine.run(["sh", "-c", "cat /root/kept; ls /run/lost"], check=False).stdout == "kept\n"
    run = Run.read(machine.folder)
    machine.power_cut()
    assert machine.state == "stopped"
    assert run is not None
    assert not run.nspawn.is_alive
    machine.start()
    assert machine.run(["cat", "/root/kept"]).stdout == "kept\n"
    machine.shutdown()
    assert machine.state == "stopped"
    machine.start()


def test_the_network_of_a_machine_can_be_cut_silently(machine):
    open_ssh = subprocess.Popen(
        [*machine.ssh_args, "while read line; do echo $line; done"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert open_ssh.stdin is not None
    assert open_ssh.stdout is not None
    with open_ssh:
        open_ssh.stdin.write("one\n")
        open_ssh.stdin.flush()
        assert open_ssh.stdout.readline() == "one\n"
        machine.cut_network()
        open_ssh.stdin.write("two\n")
        open_ssh.stdin.flush()
        done = subprocess.run(
            [*machine.ssh_args[:-1], "-o", "ConnectTimeout=3", machine.name, "true"],
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 255
        assert open_ssh.poll() is None
        machine.restore_network()
        assert open_ssh.stdout.readline() == "two\n"
        open_ssh.stdin.close()


def test_a_machine_goes_without_a_trace(lab, new_name):
    name = new_name("gone")
    node = lab.up(name, qemu.RELEASES[0])
    run, link = Run.read(node.folder), node.record.id
    assert run is not None
    lab.down(name)
    assert not node.folder.exists()
    assert not run.nspawn.is_alive
    assert Process.of(run.supervisor.pid) != run.supervisor
    assert subprocess.run(["ip", "link", "show", link], capture_output=True, check=False).returncode != 0
