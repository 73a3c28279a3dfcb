"""Virtual machines: lab nodes with a kernel of their own, for what containers cannot show (control groups v2, quotas).

qemu runs them, with KVM where it works and in software elsewhere, where a boot takes about a minute.
"""

from __future__ import annotations

import shlex
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from codesmith.errors import StepFailed, Unsupported
from codesmith.lab import disk, images, network, qemu
from codesmith.lab.home import write_atomically
from codesmith.lab.node import LabNode
from codesmith.lab.programs import run
from codesmith.lab.requirements import missing

# xfsprogs: file systems of both kinds that have project quotas can be made.
PACKAGES = ("linux-image-cloud-amd64", "udev", "xfsprogs")
DISK_BYTES = 4 << 30
# The programs that virtual machines need beyond those of the lab, and their Debian packages.
TOOLS = {qemu.PROGRAM: "qemu-system-x86", "mkfs.ext4": "e2fsprogs", "debugfs": "e2fsprogs"}
# Without the quota features: the module for them is not in the initramfs.
MKFS = ("mkfs.ext4", "-q", "-F", "-O", "^quota,^project", "-E", "lazy_itable_init=1,lazy_journal_init=1")
NETWORK = "[Match]\nName=en* eth*\n\n[Network]\nAddress={host}/30\nGateway={gateway}\n"
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def ensure_image(release: str) -> Path:
    """Return the folder with disk, kernel and initrd of a release; built once, in about two minutes."""
    lacking = missing(TOOLS)
    if lacking:
        packages = " ".join(sorted({TOOLS[name] for name in lacking}))
        hint = f"sudo apt-get update && sudo apt-get install {packages}"
        raise Unsupported(f"virtual machines need programs that are not installed: {', '.join(lacking)}", hint=hint)
    return images.ensure_built(release, images.recipe(release.removesuffix(qemu.SUFFIX), PACKAGES), _finish)


def _finish(root: Path) -> None:
    """Replace the built tree by disk.img, vmlinuz and initrd.img."""
    images.finish(root)
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    wants = root / "etc/systemd/system/multi-user.target.wants"
    (wants / "systemd-networkd.service").symlink_to("/lib/systemd/system/systemd-networkd.service")
    made = root.with_name(f"{root.name}.made")
    run("rm", "--recursive", "--force", "--", str(made))
    made.mkdir()
    for kind in ("vmlinuz", "initrd.img"):
        (found,) = (root / "boot").glob(f"{kind}-*")
        (made / kind).write_bytes(found.read_bytes())
    with open(made / "disk.img", "wb") as file:
        file.truncate(DISK_BYTES)
    run(*MKFS, "-d", str(root), str(made / "disk.img"), timeout_s=600)
    run("rm", "--recursive", "--force", "--one-file-system", "--", str(root), timeout_s=600)
    made.rename(root)


class VmNode(LabNode):
    """A virtual machine of the lab. Programs on it run over SSH, as root."""

    boot_timeout_s = 300.0

    def ensure_disk(self, authorized_key: str) -> None:
        """Give it a copy of the image's disk with its own name, address and keys, once, before the first boot."""
        if (self.folder / "known_hosts").exists():
            return
        run("cp", "--sparse=always", f"{self.record.image}/disk.img", str(self.folder / "disk.img"))
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            public = self._write_identity(Path(name), authorized_key)
        # Last and atomically: its existence says that all of the above is done.
        write_atomically(self.folder / "known_hosts", f"{self.record.host} {' '.join(public.split()[:2])}\n")

    def _write_identity(self, staging: Path, authorized_key: str) -> str:
        """Write the files that are its own into its disk, which nothing mounts; return its public host key."""
        record = self.record
        key = staging / "key"
        public = disk.make_key(key, f"root@{record.name}")
        files = {
            "/etc/hostname": (f"{record.name}\n", 0o644),
            "/etc/hosts": (f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {record.name}\n", 0o644),
            "/etc/machine-id": (f"{uuid.uuid4().hex}\n", 0o444),
            "/etc/systemd/network/10-lab.network": (NETWORK.format(host=record.host, gateway=record.gateway), 0o644),
            "/etc/ssh/ssh_host_ed25519_key": (key.read_text(), 0o600),
            "/root/.ssh/authorized_keys": (authorized_key, 0o600),
        }
        lines = ["mkdir /root/.ssh", "set_inode_field /root/.ssh mode 040700"]
        for number, (path, (text, mode)) in enumerate(files.items()):
            (staging / str(number)).write_text(text)
            lines += [f"rm {path}", f"write {staging / str(number)} {path}"]
            lines += [f"set_inode_field {path} {field}" for field in (f"mode 0100{mode:o}", "uid 0", "gid 0")]
        commands = staging / "commands"
        commands.write_text("\n".join(lines) + "\n")
        run("debugfs", "-w", "-f", str(commands), str(self.folder / "disk.img"))
        return public

    def connect(self) -> None:
        """Make the network device that qemu will use."""
        network.ensure_tap(self.record.id)

    def reboot(self, timeout_s: float | None = None) -> None:
        """Reboot it cleanly from inside and wait until it is ready again. qemu stays, so `boots` does not count it."""
        before = self._boot_id()
        self.run(["systemctl", "--no-block", "reboot"], check=False)  # it may end the connection first
        deadline = time.monotonic() + (timeout_s or self.boot_timeout_s)
        while self._boot_id() in ("", before):
            if time.monotonic() > deadline:
                raise StepFailed(f"lab node {self.name} did not reboot", hint=f"tail -n 50 {self.console}")
            time.sleep(0.5)
        self.wait_until_ready(timeout_s=timeout_s)

    def _boot_id(self) -> str:
        return self.run(["cat", BOOT_ID], check=False).stdout.strip()

    def enter_args(self, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs `argv` on it as root."""
        *options, name = self.ssh_args
        return [*options, "-o", "ConnectTimeout=10", name, "--", shlex.join(argv)]

    def cut_network(self) -> None:
        """Make it unreachable silently: connections stay open and get no packets."""
        run("ip", "link", "set", self.record.id, "down")

    def restore_network(self) -> None:
        """Make it reachable again."""
        run("ip", "link", "set", self.record.id, "up")
