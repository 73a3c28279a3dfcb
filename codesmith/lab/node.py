"""One lab node: what tests, the demo and benchmarks can do with it."""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import codesmith
from codesmith.errors import LabNodeDown, StepFailed
from codesmith.lab import bridge, cgroups, disk, network, teardown
from codesmith.lab.address import LabAddress, address_of
from codesmith.lab.home import write_atomically
from codesmith.lab.processes import children, inner_pid
from codesmith.lab.programs import environment
from codesmith.lab.record import Record, Run
from codesmith.lab.relay import Relay

SUDO_RULES = {"none": "", "nopasswd": "ALL=(ALL:ALL) NOPASSWD: ALL", "password": "ALL=(ALL:ALL) ALL"}
AUTHORIZE = 'umask 077; cd "/home/$1"; mkdir .ssh; cat > .ssh/authorized_keys; chown -R "$1:" .ssh'


@dataclass(frozen=True)
class Completed:
    """How a program on a node ended."""

    status: int
    stdout: str
    stderr: str


class LabNode:
    """A real Debian on this machine. Its disk survives a power cut; `Lab.down` removes it."""

    boot_timeout_s = 60.0

    def __init__(self, folder: Path, record: Record) -> None:
        self.folder, self.record = folder, record

    def __repr__(self) -> str:
        return f"<LabNode {self.name} ({self.release}) at {self.record.host}, {self.state}>"

    @property
    def name(self) -> str:
        """Its name in the lab, which is also its host name."""
        return self.record.name

    @property
    def release(self) -> str:
        """The Debian release it runs: bookworm, trixie, bullseye, or bookworm-vm, trixie-vm."""
        return self.record.release

    @property
    def root(self) -> Path:
        """The path of its root directory on this machine."""
        return self.folder / "root"

    @property
    def console(self) -> Path:
        """The log of its console."""
        return self.folder / "console.log"

    @property
    def state(self) -> str:
        """`running`, or `stopped` when it is switched off."""
        run = Run.read(self.folder)
        return "running" if run is not None and run.is_alive else "stopped"

    @property
    def address(self) -> LabAddress:
        """The address for a login as root; known also while it is switched off."""
        return address_of(self.folder, self.record)

    @property
    def ssh_config(self) -> Path:
        """An ssh_config with one Host, named like the node: `ssh -F CONFIG NAME`. It exists while the node is on."""
        return self.folder / "ssh_config"

    @property
    def ssh_args(self) -> list[str]:
        """The beginning of an ssh command line; append the command."""
        return ["ssh", "-F", str(self.ssh_config), "-o", "BatchMode=yes", self.name]

    @property
    def boots(self) -> int:
        """The number of reboots since it was switched on."""
        return self._running().boots

    @property
    def failed_units(self) -> list[str]:
        """The systemd units that failed; empty if all is well."""
        listed = self.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend"]).stdout
        return [line.split()[0] for line in listed.splitlines()]

    # Power

    def ensure_disk(self, authorized_key: str) -> None:
        """Mount its disk, and give it its own name and keys before its first boot."""
        disk.ensure_mounted(self.folder, Path(self.record.image))
        disk.ensure_identity(self.folder, self.record, authorized_key)

    def connect(self) -> None:
        """Mount its disk, and make its network namespace and its links to this machine and to its bridge."""
        disk.ensure_mounted(self.folder, Path(self.record.image))
        (network.ensure_veth if self.record.uids else network.ensure)(self.record.id)
        if self.record.bridge:
            bridge.ensure(self.folder, self.record)

    def start(self, timeout_s: float | None = None) -> None:
        """Switch it on and wait until it is ready; nothing happens if it is on. StepFailed after `timeout_s`."""
        if self.state == "running":
            return
        (self.folder / "run.json").unlink(missing_ok=True)
        self.connect()
        top = str(Path(codesmith.__file__).resolve().parent.parent)
        with open(self.console, "ab") as console:
            # --fork: the supervisor must not be our child, so that it can outlive this process.
            subprocess.run(
                ["setsid", "--fork", sys.executable, "-m", "codesmith.lab.supervisor", str(self.folder)],
                env={**environment(), "PYTHONPATH": top}, cwd="/", check=True,
                stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            )  # fmt: skip
        write_atomically(self.ssh_config, disk.ssh_config(self.folder, self.record))
        self.wait_until_ready(boots=0, timeout_s=timeout_s)

    def shutdown(self, timeout_s: float | None = None) -> None:
        """Halt it cleanly with its own `poweroff`; its disk stays. StepFailed after `timeout_s`."""
        run = self._running()
        self.run(["systemctl", "--no-block", "poweroff"], check=False)  # it may end the connection of a machine first
        if not run.supervisor.wait(timeout_s or self.boot_timeout_s):
            raise StepFailed(f"lab node {self.name} does not halt", hint=f"tail {self.console}")

    def power_cut(self) -> None:
        """Kill all its processes at once.

        What its programs had written is still there afterwards, synced or not: the page cache belongs to this machine
        and outlives the node. Only what they still had in their own memory is lost.
        """
        teardown.switch_off(self.folder, self.record)

    def reboot(self, timeout_s: float | None = None) -> None:
        """Reboot it cleanly from inside and wait until it is ready again."""
        boots = self._running().boots
        self.run(["systemctl", "--no-block", "reboot"])
        self.wait_until_ready(boots=boots + 1, timeout_s=timeout_s)

    # Network

    def cut_network(self) -> None:
        """Make it unreachable from this machine, silently: connections stay open and get no packets."""
        network.cut(self.record.id)

    def restore_network(self) -> None:
        """Make it reachable again."""
        network.restore(self.record.id)

    @property
    def bridge_host(self) -> str:
        """Its IPv4 address on its bridge; "" if it is on none."""
        return self.record.bridge_host

    @property
    def bridge_ipv6(self) -> str:
        """Its IPv6 address on its bridge; "" if it is on none."""
        return bridge.ipv6_of(self.record.bridge_host) if self.record.bridge else ""

    @property
    def bridge_names(self) -> tuple[str, str]:
        """Its names on its bridge, for its IPv4 and for its IPv6 address: NAME.lab and NAME.v6.lab."""
        return bridge.names_of(self.record)

    def relay(self, rtt_ms: float) -> Relay:
        """Return a context manager: a relay to its sshd on a port of 127.0.0.1, with an added round-trip time."""
        return Relay(self.record.host, 22, rtt_ms)

    # Inside

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str = "",  # noqa: A002  subprocess's word
        check: bool = True,
        timeout_s: float = 120,
    ) -> Completed:
        """Run a program on it as root, without network and sshd; with `check` StepFailed unless it ends with 0."""
        what = f"`{shlex.join(argv)}` on lab node {self.name}"
        try:
            done = subprocess.run(
                self.enter_args(argv), input=input, capture_output=True, timeout=timeout_s, check=False,
                env=environment(), encoding="utf-8", errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise StepFailed(f"{what} did not end within {timeout_s:.0f} s") from None
        if check and done.returncode:
            raise StepFailed(f"{what} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return Completed(done.returncode, done.stdout, done.stderr)

    def enter_args(self, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs `argv` on it as root, with the environment of a fresh root login."""
        clean = ["env", "-i", "HOME=/root", "USER=root", "LANG=C.UTF-8", "TERM=dumb",
                 "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]  # fmt: skip
        return ["nsenter", "--target", str(self.leader), "--all", "--", *clean, *argv]

    @property
    def leader(self) -> int:
        """The pid of its first process, as this machine numbers it; LabNodeDown if it is off."""
        found = children(self._running().nspawn.pid)
        if not found:
            raise LabNodeDown(f"lab node {self.name!r} is switching off", hint=f"inv lab.up --node {self.name}")
        return found[0]

    def add_login(self, name: str, sudo: str = "none", password: str = "", shell: str = "/bin/bash") -> LabAddress:
        """Make a login that the lab's key opens and return its address; `sudo` is none, nopasswd or password."""
        rule = SUDO_RULES[sudo]
        self.run(["useradd", "--create-home", "--shell", shell, "--", name])
        if password:
            self.run(["chpasswd"], input=f"{name}:{password}\n")
        keys = (self.root / "root/.ssh/authorized_keys").read_text()
        self.run(["/bin/sh", "-euc", AUTHORIZE, "sh", name], input=keys)
        if rule:
            file = self.root / "etc/sudoers.d" / name
            file.write_text(f"{name} {rule}\n")
            file.chmod(0o440)
        return address_of(self.folder, self.record, user=name)

    @property
    def host(self) -> Any:
        """A pytest-testinfra host for it, which needs no network."""
        from codesmith.lab.inspection import inspect

        return inspect(self)

    def pids(self) -> set[int]:
        """Return the pids of all its processes, as this machine numbers them."""
        return cgroups.pids(self.record.id)

    def unit_pid(self, unit: str) -> int:
        """Return the main pid of a systemd unit, as this machine numbers it; 0 if it does not run."""
        inside = int(self.run(["systemctl", "show", "--property=MainPID", "--value", unit]).stdout)
        return next((pid for pid in self.pids() if inner_pid(pid) == inside), 0)

    # Waiting

    def wait_until_ready(self, boots: int = 0, timeout_s: float | None = None) -> None:
        """Wait until sshd greets and systemd has settled after reboot number `boots`; StepFailed after `timeout_s`."""
        deadline = time.monotonic() + (timeout_s or self.boot_timeout_s)
        while not self._is_ready(boots):
            run = Run.read(self.folder)
            if time.monotonic() > deadline or (run is not None and not run.supervisor.is_alive):
                tail = " / ".join(self.console.read_text(errors="replace").splitlines()[-5:])
                raise StepFailed(f"lab node {self.name} did not get ready: {tail}", hint=f"tail -n 50 {self.console}")
            time.sleep(0.02)

    def _is_ready(self, boots: int) -> bool:
        run = Run.read(self.folder)
        if run is None or run.boots < boots or not run.is_alive or not _greets(self.record.host):
            return False
        with contextlib.suppress(LabNodeDown):
            state = self.run(["systemctl", "is-system-running", "--wait"], check=False).stdout.strip()
            return state in ("running", "degraded")
        return False

    def _running(self) -> Run:
        run = Run.read(self.folder)
        if run is None or not run.is_alive:
            raise LabNodeDown(f"lab node {self.name!r} is switched off", hint=f"inv lab.up --node {self.name}")
        return run


def _greets(host: str) -> bool:
    """Tell whether an SSH server greets at `host`."""
    try:
        with socket.create_connection((host, 22), timeout=2) as connection:
            return connection.recv(64).startswith(b"SSH-")
    except OSError:
        return False
