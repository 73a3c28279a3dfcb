"""The process behind a node: starts nspawn, again when the node reboots, and removes the node when its owner dies.

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

from codesmith.lab import cgroups, network
from codesmith.lab.processes import Process, children
from codesmith.lab.programs import environment, run
from codesmith.lab.record import Record, Run

REBOOT = 133  # What nspawn with --keep-unit ends with when the node asked for a reboot.
PR_SET_PDEATHSIG = 1
# nspawn mounts the controllers of v1 read-only; systemd must find them writable from its first moment, or the limits of
# some units do not hold.
INIT = 'for place; do mount -o remount,rw,bind "$place"; done; exec /lib/systemd/systemd'


def main() -> int:
    """Run one node until it is switched off or its owner is gone."""
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
    # Only now: what it brings along would cost every node 10 MB.
    from codesmith.lab import teardown

    teardown.remove(folder)
    return 0


def run_once(folder: Path, record: Record, owner: int | None, boots: int) -> int | None:
    """Run the node until it halts or reboots and return nspawn's exit status; None if the owner died meanwhile."""
    nspawn = start(folder, record)
    process = Process.of(nspawn.pid)
    if process is not None:
        Run(Process.me(), process, boots).write(folder)
        if record.uids:
            _plug_in(record, nspawn.pid)
    descriptor = os.pidfd_open(nspawn.pid)
    watched = [descriptor] if owner is None else [descriptor, owner]
    select.select(watched, [], [])
    os.close(descriptor)
    if owner is not None and select.select([owner], [], [], 0)[0]:
        nspawn.kill()
        nspawn.wait()
        return None
    # nspawn may end before the last process of the node does.
    cgroups.kill(record.id)
    return nspawn.wait()


def start(folder: Path, record: Record) -> subprocess.Popen[bytes]:
    """Start nspawn in the node's own control groups, tied to the life of this process."""
    joins = [str(path) for path in cgroups.make(record.id)]
    libc = ctypes.CDLL(None)

    def enter() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for path in joins:
            with open(path, "w") as file:
                file.write("0")

    with open(folder / "console.log", "ab") as console:
        return subprocess.Popen(
            command(folder, record), stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            env=environment(), preexec_fn=enter,
        )  # fmt: skip


def command(folder: Path, record: Record) -> list[str]:
    """Return nspawn's command line for a node."""
    return [
        "systemd-nspawn", f"--directory={folder / 'root'}", "--register=no", "--keep-unit", "--quiet",
        f"--machine={record.id}", *_namespaces(record),
        f"--hostname={record.name}", "--resolv-conf=off", "--timezone=off", "--link-journal=no",
        # Else systemd 257 runs a unit with PrivateNetwork= in the node's network: it could not set up loopback.
        "--capability=CAP_NET_ADMIN",
        # What --boot would do, with one step before it.
        "--kill-signal=SIGRTMIN+3", "--", "/bin/sh", "-c", _connect(record) + INIT, "init",
        *map(str, cgroups.legacy_controllers()),
    ]  # fmt: skip


def _namespaces(record: Record) -> list[str]:
    """Return the options for the network; a user namespace may only enter one that it has made itself."""
    if not record.uids:
        return [f"--network-namespace-path={network.namespace(record.id)}"]
    return [f"--private-users=0:{record.uids}", "--private-network"]


def _connect(record: Record) -> str:
    """Return what connects a node from inside, where that cannot be done from here."""
    end = network.far_end(record.id)
    wait = f"until ip link show {end} >/dev/null 2>&1; do sleep 0.05; done"
    return f"{wait}; ip address add {record.host}/30 dev {end}; ip link set {end} up; " if record.uids else ""


def _plug_in(record: Record, nspawn: int) -> None:
    """Put the node's end of the cable into the namespace that nspawn makes."""
    ours = Path("/proc/self/ns/net").readlink()
    while Path(f"/proc/{nspawn}/ns").exists():
        for pid in children(nspawn):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/ns/net").readlink() != ours:
                    run("ip", "link", "set", network.far_end(record.id), "netns", str(pid))
                    return
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
