"""A node's disk: an overlay of the node's own changes on a shared image."""

from __future__ import annotations

import uuid
from pathlib import Path

from codesmith.errors import Unsupported
from codesmith.lab.home import ensure_dir, lock, write_atomically
from codesmith.lab.programs import ProgramFailed, run
from codesmith.lab.record import Record

# A node has no network, so apt need not try again; it is thrown away, so dpkg need not wait for the disk.
PACKAGE_SETTINGS = {"apt/apt.conf.d/99-lab": "Acquire::Retries 0;\n", "dpkg/dpkg.cfg.d/lab": "force-unsafe-io\n"}


def is_mounted(place: Path) -> bool:
    """Tell whether something is mounted at `place`."""
    wanted = str(place)
    return any(line.split(" ")[1] == wanted for line in Path("/proc/self/mounts").read_text().splitlines())


def ensure_mounted(folder: Path, image: Path) -> Path:
    """Mount the node's disk and return its root; Unsupported if the file system cannot hold an overlay."""
    root = ensure_dir(folder / "root")
    if is_mounted(root):
        return root
    upper, work = ensure_dir(folder / "upper"), ensure_dir(folder / "work")
    # The upper folder becomes the node's "/", which all its users must be able to enter.
    upper.chmod(0o755)
    layers = f"lowerdir={image},upperdir={upper},workdir={work}"
    try:
        run("mount", "-t", "overlay", "codesmith-lab", "-o", layers, str(root))
    except ProgramFailed as error:
        raise Unsupported(
            f"an overlay cannot be mounted on the file system of {folder}: {error.stderr}",
            hint="export CODESMITH_LAB_HOME=DIR  # a folder on ext4, xfs or tmpfs",
        ) from error
    return root


def remove(folder: Path) -> None:
    """Unmount the node's disk and delete the node's folder."""
    root = folder / "root"
    while is_mounted(root):
        try:
            run("umount", str(root))
        except ProgramFailed:
            # A process uses it: the mount goes when that process ends.
            run("umount", "--lazy", str(root))
    # Not shutil.rmtree: it fails on trees of a few thousand levels, which tests make.
    run("rm", "--recursive", "--force", "--one-file-system", "--", str(folder), timeout_s=600)


def ensure_key(home: Path) -> Path:
    """Return the private key that opens every node of this lab home; it is made the first time."""
    key = home / "id_ed25519"
    with lock(home / "key.lock"):
        if not key.with_suffix(".pub").exists():
            key.unlink(missing_ok=True)
            make_key(key, "codesmith-lab")
    return key


def make_key(path: Path, comment: str) -> str:
    """Make a key pair at `path` and return the public key."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path))
    return path.with_suffix(".pub").read_text().strip()


def ensure_identity(folder: Path, record: Record, authorized_key: str) -> None:
    """Give the node its name, machine id, keys and package settings, once, before its first boot."""
    if (folder / "known_hosts").exists():
        return
    root = folder / "root"
    (root / "etc/hostname").write_text(f"{record.name}\n")
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {record.name}\n")
    (root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
    for name, text in PACKAGE_SETTINGS.items():
        (root / "etc" / name).write_text(text)
    for old in (root / "etc/ssh").glob("ssh_host_*"):
        old.unlink()
    public = make_key(root / "etc/ssh/ssh_host_ed25519_key", f"root@{record.name}")
    known = f"{record.host} {' '.join(public.split()[:2])}\n"
    ensure_dir(root / "root/.ssh")
    (root / "root/.ssh/authorized_keys").write_text(authorized_key)
    (root / "root/.ssh/authorized_keys").chmod(0o600)
    # Written last and atomically: its existence says that all of the above is done.
    write_atomically(folder / "known_hosts", known)


def ssh_config(folder: Path, record: Record) -> str:
    """Return the text of the ssh_config for a node."""
    return f"""\
Host {record.name}
    HostName {record.host}
    User root
    IdentityFile {folder.parent.parent / "id_ed25519"}
    IdentitiesOnly yes
    UserKnownHostsFile {folder / "known_hosts"}
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
"""
