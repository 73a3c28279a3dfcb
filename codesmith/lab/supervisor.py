"""The process behind a node: starts nspawn, restarts it when the node reboots, removes the node when its owner dies.

Started as `python -m codesmith.lab.supervisor FOLDER`; it ends when the node is switched off.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from codesmith.lab import cgroups, network, qemu
from codesmith.lab.processes import Process, children
from codesmith.lab.programs import environment, run
from codesmith.lab.record import Record, Run

REBOOT = 133  # Exit status of `nspawn --keep-unit` when the node asked for a reboot.
PR_SET_PDEATHSIG = 1
# nspawn mounts the controllers of v1 read-only; unless they are writable before systemd starts, the limits of some
# units do not hold.
INIT = 'for place; do mount -o remount,rw,bind "$place"; done; exec /lib/systemd/systemd'


def main() -> int:
    """Run one node until it is switched off or its owner has ended."""
    folder = Path(sys.argv[1])
    record = Record.read(folder)
    if record is None:
        return 1
    owner = record.owner.open() if record.owner else None
    if record.owner is None or owner is not None:
        boots = 0
        while (ended := run_once(folder, record, owner, boots)) == REBOOT:
            boots += 1
        if ended is not None:
            (folder / "ssh_config").unlink(missing_ok=True)
            return 0
    # Imported only now: it would cost every supervisor 10 MB.
    from codesmith.lab import teardown

    teardown.remove(folder)
    return 0


def run_once(folder: Path, record: Record, owner: int | None, boots: int) -> int | None:
    """Run the node until it halts or reboots; return nspawn's exit status, or None if the owner has died."""
    nspawn = start(folder, record)
    process = Process.of(nspawn.pid)
    if process is not None:
        Run(Process.me(), process, boots).write(folder)
        if record.uids:
            _move_veth(record, nspawn.pid)
    descriptor = os.pidfd_open(nspawn.pid)
    watched = [descriptor] if owner is None else [descriptor, owner]
    select.select(watched, [], [])
    os.close(descriptor)
    if owner is not None and select.select([owner], [], [], 0)[0]:
        nspawn.kill()
        nspawn.wait()
        return None
    # nspawn may end before the node's last process.
    cgroups.kill(record.id)
    return nspawn.wait()


def start(folder: Path, record: Record) -> subprocess.Popen[bytes]:
    """Start nspawn, or qemu, in the node's own control groups; it is killed when this process ends."""
    joins = [str(path) for path in cgroups.make(record.id)]
    libc = ctypes.CDLL(None)

    def enter() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for path in joins:
            with open(path, "w") as file:
                file.write("0")

    argv = qemu.command(folder, record) if qemu.is_vm(record.release) else command(folder, record)
    with open(folder / "console.log", "ab") as console:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            env=environment(), preexec_fn=enter,
        )  # fmt: skip


def command(folder: Path, record: Record) -> list[str]:
    """Return nspawn's command line for a node."""
    return [
        "systemd-nspawn", f"--directory={folder / 'root'}", "--register=no", "--keep-unit", "--quiet",
        f"--machine={record.id}", *_namespaces(record),
        f"--hostname={record.name}", "--resolv-conf=off", "--timezone=off", "--link-journal=no",
        # Without it systemd 257 cannot set up loopback, and runs units with PrivateNetwork= in the node's network.
        "--capability=CAP_NET_ADMIN",
        # As --boot does, with INIT before it.
        "--kill-signal=SIGRTMIN+3", "--", "/bin/sh", "-c", _network_setup(record) + INIT, "init",
        *map(str, cgroups.legacy_controllers()),
    ]  # fmt: skip


def _namespaces(record: Record) -> list[str]:
    """Return the options for the network; a node in a user namespace can only use a network namespace of its own."""
    if not record.uids:
        return [f"--network-namespace-path={network.namespace(record.id)}"]
    return [f"--private-users=0:{record.uids}", "--private-network"]


def _network_setup(record: Record) -> str:
    """Return the shell commands that configure the network from inside a node in a user namespace; else ""."""
    end = network.node_end(record.id)
    wait = f"until ip link show {end} >/dev/null 2>&1; do sleep 0.05; done"
    return f"{wait}; ip address add {record.host}/30 dev {end}; ip link set {end} up; " if record.uids else ""


def _move_veth(record: Record, nspawn: int) -> None:
    """Move the node's end of the veth pair into the network namespace that nspawn makes."""
    ours = Path("/proc/self/ns/net").readlink()
    while Path(f"/proc/{nspawn}/ns").exists():
        for pid in children(nspawn):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/ns/net").readlink() != ours:
                    run("ip", "link", "set", network.node_end(record.id), "netns", str(pid))
                    return
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
