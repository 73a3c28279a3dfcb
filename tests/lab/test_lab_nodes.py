"""Nodes are real: systemd, sshd, limits, packages, boots and power cuts."""

from __future__ import annotations

import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from codesmith.errors import StepFailed
from codesmith.lab import LabNodeDown, address
from tests.releases import BOOKWORM_FIRST

PYTHONS = {"bookworm": "3.11", "trixie": "3.13", "bullseye": "3.9"}
EAT_100_MB = "b'x' * 100_000_000"


def ssh(node, command, login="root"):
    """Run a command on a node over SSH and return its output."""
    *start, name = node.ssh_args
    done = subprocess.run([*start, "-l", login, name, command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_release_boots_without_a_failed_unit(any_node, release):
    assert any_node.run(["systemctl", "is-system-running"]).stdout.strip() == "running", any_node.failed_units
    assert any_node.host.system_info.codename == release
    assert any_node.host.run("python3 --version").stdout.split()[1].startswith(PYTHONS[release] + ".")


def test_ssh_enters_with_the_pinned_host_key(any_node):
    assert ssh(any_node, "hostname; id -un") == f"{any_node.name}\nroot"


def test_limits_of_units_hold_inside(any_node):
    def limited(limit, *command):
        unit = ["systemd-run", "--wait", "--pipe", "--quiet", "-p", limit, "--", *command]
        return any_node.run(unit, check=False)

    assert limited("MemoryMax=50M", "python3", "-c", EAT_100_MB).status != 0
    assert limited("MemoryMax=500M", "python3", "-c", EAT_100_MB).status == 0
    assert "Cannot fork" in limited("TasksMax=3", "sh", "-c", "sleep 9 & sleep 9 & sleep 9 & sleep 9").stderr
    spin = "import time; end = time.time() + 0.5\nwhile time.time() < end: pass\nprint(time.process_time())"
    assert float(limited("CPUQuota=20%", "python3", "-c", spin).stdout) < 0.4


def test_a_unit_can_be_without_the_nodes_network(any_node):
    unit = ["systemd-run", "--wait", "--pipe", "--quiet", "-p", "PrivateNetwork=yes", "--", "cat", "/proc/net/dev"]
    shown = any_node.run(unit).stdout
    assert "lo:" in shown
    assert "eth0:" not in shown


def test_what_apt_cannot_fetch_fails_at_once(any_node):
    assert any_node.run(["apt-config", "dump", "Acquire::Retries"]).stdout == 'Acquire::Retries "0";\n'


@BOOKWORM_FIRST
def test_packages_come_back_without_a_network(any_node):
    apt = "DEBIAN_FRONTEND=noninteractive apt-get --yes --quiet=2"
    any_node.run(["sh", "-c", f"{apt} purge git && ! command -v git"])
    any_node.run(["sh", "-c", f"{apt} install git && git --version"])


def test_nodes_boot_at_once_and_share_nothing(boot):
    with ThreadPoolExecutor(3) as pool:
        nodes = list(pool.map(boot, ["a", "b", "c"]))
    for secret in ("/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub", "/etc/hostname"):
        assert len({(node.root / secret.lstrip("/")).read_text() for node in nodes}) == 3, secret
    assert len({node.address.host for node in nodes}) == 3
    nodes[0].run(["touch", "/root/mine"])
    assert not nodes[1].host.file("/root/mine").exists


def test_a_reboot_is_a_reboot(node):
    node.run(["touch", "/run/volatile", "/root/durable"])
    before = node.boots
    node.reboot()
    assert node.boots == before + 1
    assert not node.host.file("/run/volatile").exists
    assert node.host.file("/root/durable").exists
    assert node.failed_units == []


@pytest.mark.long
def test_a_reboot_from_inside_is_one_too(node):
    before = node.boots
    # Not `ssh`: the node may reboot before it answers.
    subprocess.run([*node.ssh_args, "systemctl --no-block reboot"], capture_output=True, check=False, timeout=60)
    node.wait_until_ready(boots=before + 1)
    assert ssh(node, "hostname") == node.name


def test_a_power_cut_asks_nobody(node):
    node.run(["systemd-run", "--unit=witness", "sh", "-c", "trap 'echo asked > /root/asked' TERM; sleep 999 & wait"])
    node.run(["touch", "/root/written"])
    node.power_cut()
    assert node.state == "stopped"
    with pytest.raises(LabNodeDown, match="switched off"):
        address(node.name)
    node.start()
    assert address(node.name) == node.address
    assert node.host.file("/root/written").exists
    assert not node.host.file("/root/asked").exists


def test_a_shutdown_asks_everybody(node):
    asked = "trap 'echo asked > /root/asked; exit' TERM; while :; do sleep 0.05; done"
    node.run(["systemd-run", "--unit=witness", "--property=KillMode=process", "sh", "-c", asked])
    node.shutdown()
    assert node.state == "stopped"
    node.start()
    assert node.host.file("/root/asked").exists


def test_logins_have_the_sudo_they_were_given(node):
    for word, expected in (("none", "no"), ("nopasswd", "yes"), ("password", "no")):
        login = node.add_login(f"ops-{word}", sudo=word, password="swordfish", shell="/usr/bin/fish")
        assert login.user == f"ops-{word}"
        assert ssh(node, "sudo -n true 2>/dev/null; and echo yes; or echo no", login.user) == expected
    given = "echo swordfish | sudo --stdin --prompt= id -un; or echo no"
    assert ssh(node, given, "ops-password") == "root"
    assert ssh(node, f"{given} 2>/dev/null", "ops-none") == "no"


def test_a_cut_network_is_silent_and_comes_back(node):
    with socket.create_connection((node.address.host, 22), timeout=10) as before:
        before.recv(256)
        node.cut_network()
        try:
            with pytest.raises(TimeoutError):
                socket.create_connection((node.address.host, 22), timeout=0.3)
            before.sendall(b"SSH-2.0-patient\r\n")
            before.settimeout(0.3)
            with pytest.raises(TimeoutError):
                before.recv(256)
            assert node.run(["hostname"]).stdout.strip() == node.name
        finally:
            node.restore_network()
        before.settimeout(30)
        assert before.recv(256), "the connection did not survive the cut"


def test_a_failing_program_says_what_and_where(node):
    with pytest.raises(StepFailed, match=rf"cat /nowhere` on lab node {node.name} ended with 1: .*No such file"):
        node.run(["cat", "/nowhere"])
    assert node.run(["false"], check=False).status == 1


def test_the_second_up_changes_nothing(lab, node):
    before = node.record, node.boots, node.leader
    again = lab.up(node.name, node.release)
    assert (again.record, again.boots, again.leader) == before


def test_memory_of_a_unit_can_be_read_from_outside(node):
    from codesmith.lab.processes import rss_kib

    inside = node.run(["sh", "-c", "grep VmRSS /proc/$(systemctl show -P MainPID ssh)/status"]).stdout.split()[1]
    assert rss_kib(node.unit_pid("ssh.service")) == int(inside)
