"""How qemu runs a virtual machine of the lab. This module stays light: the supervisor of each lab node imports it."""

from __future__ import annotations

import contextlib
import functools
import subprocess
from pathlib import Path

from codesmith.lab.programs import environment
from codesmith.lab.record import Record

SUFFIX = "-vm"
RELEASES = tuple(f"{release}{SUFFIX}" for release in ("bookworm", "trixie"))
PROGRAM = "qemu-system-x86_64"
MEMORY_MIB, CPUS = 1536, 2


def is_vm(release: str) -> bool:
    """Tell whether a release names a virtual machine: bookworm-vm, trixie-vm."""
    return release in RELEASES


def command(folder: Path, record: Record) -> list[str]:
    """Return qemu's command line for a node."""
    image = Path(record.image)
    return [
        PROGRAM, "-machine", "q35", "-cpu", "max", *accelerator(), "-smp", str(CPUS), "-m", str(MEMORY_MIB),
        "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-user-config",
        "-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd.img"),
        "-append", "root=/dev/vda rw console=ttyS0 quiet net.ifnames=0",
        # unsafe: what the node had written outlives a power cut of the node, because this machine goes on.
        "-drive", f"file={folder / 'disk.img'},if=virtio,format=raw,cache=unsafe",
        "-netdev", f"tap,id=net0,ifname={record.id},script=no,downscript=no", "-device", "virtio-net-pci,netdev=net0",
        "-device", "virtio-rng-pci",
    ]  # fmt: skip


@functools.cache
def accelerator() -> tuple[str, ...]:
    """Return the options for KVM if a machine starts with it here, else for software emulation."""
    probe = [PROGRAM, "-machine", "q35,accel=kvm", "-cpu", "max", "-m", "16", "-display", "none", "-S"]
    probe += ["-monitor", "stdio", "-serial", "none"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(probe, input=b"quit\n", capture_output=True, timeout=20, check=False, env=environment())
        if done.returncode == 0:
            return ("-accel", "kvm")
    return ("-accel", "tcg,thread=multi")
