"""What anybody keeps of a tree gives no access after an assignment: links, descriptors, watches, mounts, leases."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent.helper.trees import anew, handover
from agent.shared.errors import InUse
from tests.agent.helper.handed import CHANGE, NEW, OLD, OTHER, TOP_FILES, assert_belongs_to_new, hand_over

IN_ALL_EVENTS = 0xFFF


def test_a_hard_link_outside_stays_the_old_owners_and_shares_nothing(base: Path, tree: Path) -> None:
    os.link(tree / "code" / "a", base / "outside" / "kept")
    os.mkfifo(tree / "pipe")
    os.chown(tree / "pipe", OLD, OLD)
    os.link(tree / "pipe", base / "outside" / "pipe")
    before = (tree / "code" / "a").stat()
    hand_over(base)
    assert_belongs_to_new(tree)
    assert (base / "outside" / "kept").stat().st_uid == OLD
    (base / "outside" / "kept").write_bytes(b"poison")
    assert (tree / "code" / "a").read_bytes() == b"t"
    assert (tree / "code" / "a").stat().st_mtime_ns == before.st_mtime_ns
    assert (tree / "pipe").is_fifo()
    assert (tree / "pipe").stat().st_ino != (base / "outside" / "pipe").stat().st_ino


def test_a_link_that_is_made_in_the_last_moment_shares_nothing(
    base: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = anew.Workshop.replace_file

    def replace_file(self: anew.Workshop, name: str, directory: int, found: os.stat_result, half: str) -> None:
        real(self, name, directory, found, half)
        if name == "a":
            os.link(name, base / "outside" / "kept", src_dir_fd=directory)

    monkeypatch.setattr(anew.Workshop, "replace_file", replace_file)
    hand_over(base)
    assert_belongs_to_new(tree)
    assert (base / "outside" / "kept").stat().st_ino != (tree / "code" / "a").stat().st_ino


def test_what_somebody_else_has_linked_into_it_shares_nothing(base: Path, tree: Path) -> None:
    """A file of a third login, in a directory that was open to all; that login keeps the other name."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(base / "outside" / "sock"))
        os.mkfifo(base / "outside" / "pipe")
        (base / "outside" / "open").write_bytes(b"all: attack")
        (base / "outside" / "secret").write_bytes(b"secret")
        for name, mode in (("sock", 0o777), ("pipe", 0o777), ("open", 0o755), ("secret", 0o600)):
            os.chown(base / "outside" / name, OTHER, OTHER)
            os.chmod(base / "outside" / name, mode)
            os.link(base / "outside" / name, tree / "code" / name)
        hand_over(base)
    assert_belongs_to_new(tree)
    # A file that the old owner could not read is not copied.
    assert sorted(os.listdir(tree / "code")) == ["a", "open", "pipe"]
    for name, mode in (("sock", 0o777), ("pipe", 0o777), ("open", 0o755), ("secret", 0o600)):
        found = (base / "outside" / name).stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode), found.st_nlink) == (OTHER, mode, 1)


def test_who_has_pinned_a_file_without_having_it_open_reaches_nothing(base: Path, tree: Path) -> None:
    """An O_PATH descriptor, a mount of the file, and its page in a pipe: in none of these cases is the file open."""
    file = tree / "code" / "a"
    mounted = base / "outside" / "mounted"
    mounted.touch()
    subprocess.run(["mount", "--bind", file, mounted], check=True)
    try:
        path = os.open(file, os.O_PATH)
        reading, writing = os.pipe()
        opened = os.open(file, os.O_RDONLY)
        assert os.splice(opened, writing, 1, offset_src=0) == 1
        os.close(opened)
        hand_over(base)
        descriptor = os.open(file, os.O_WRONLY)
        os.write(descriptor, b"secret")
        os.close(descriptor)
        file.chmod(0o755)
        (tree / "code").rename(tree / "takeover")
        with open(f"/proc/self/fd/{path}", "rb") as held:
            assert held.read() == b"t"
        assert mounted.read_bytes() == b"t"
        assert os.read(reading, 9) == b"t"
        assert "takeover" not in os.readlink(f"/proc/self/fd/{path}")
        assert (os.fstat(path).st_nlink, os.fstat(path).st_size) == (0, 1)
        for one in (path, reading, writing):
            os.close(one)
    finally:
        subprocess.run(["umount", mounted], check=True)


def test_a_held_directory_does_not_tell_the_names_that_come_later(base: Path, tree: Path) -> None:
    (tree / "code" / "inner").mkdir()
    held = [os.open(tree / "code" / "inner", os.O_PATH), os.open(tree / "code", os.O_RDONLY)]
    hand_over(base)
    (tree / "code").rename(tree / "takeover")
    for one in held:
        assert "takeover" not in os.readlink(f"/proc/self/fd/{one}")
        assert os.fstat(one).st_nlink == 0
        os.close(one)


def test_an_open_descriptor_reaches_nothing_any_more(base: Path, tree: Path) -> None:
    (tree / "code" / "mapped").write_bytes(b"0" * 4096)
    os.chown(tree / "code" / "mapped", OLD, OLD)
    script = f"""
import mmap, os, sys
os.setgroups([]); os.setresgid({OLD}, {OLD}, {OLD}); os.setresuid({OLD}, {OLD}, {OLD})
os.chdir(sys.argv[1] + "/code")
file = os.open("a", os.O_RDWR)
mapped = os.open("mapped", os.O_RDWR); memory = mmap.mmap(mapped, 4096); os.close(mapped)
here = os.open(".", os.O_RDONLY)
print("ready", flush=True)
sys.stdin.readline()
os.write(file, b"poison"); memory[:6] = b"poison"; memory.flush()
for attempt in (lambda: os.open("a", os.O_RDONLY), lambda: os.open("new", os.O_CREAT, dir_fd=here),
                lambda: os.listdir("."), lambda: os.fchmod(here, 0o777), lambda: os.open("..", os.O_RDONLY)):
    try:
        attempt(); print("in")
    except OSError as error:
        print("out")
"""
    command = [sys.executable, "-c", script, tree]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"ready\n"
        hand_over(base)
        out, _ = holder.communicate(b"\n")
    assert out.split() == [b"out"] * 5
    assert (tree / "code" / "a").read_bytes() == b"t"
    assert (tree / "code" / "mapped").read_bytes() == b"0" * 4096


def test_a_descriptor_that_waits_in_a_queue_reaches_nothing_any_more(base: Path, tree: Path) -> None:
    """It is in no list of open files: a third login keeps it in a socket for the old owner."""
    os.mkfifo(tree / "code" / "pipe")
    here, there = socket.socketpair()
    with here, there:
        for name, mode in (("a", os.O_RDONLY), ("a", os.O_RDWR), ("pipe", os.O_RDWR)):
            file = os.open(tree / "code" / name, mode)
            socket.send_fds(here, [b"x"], [file])
            os.close(file)
        hand_over(base)
        reading, writing, pipe = (socket.recv_fds(there, 1, 1)[1][0] for _ in range(3))
    assert_belongs_to_new(tree)
    os.write(writing, b"poison")
    assert (tree / "code" / "a").read_bytes() == b"t"
    (tree / "code" / "a").write_bytes(b"secret")
    assert os.read(reading, 9) == b"poison"
    assert os.fstat(pipe).st_ino != (tree / "code" / "pipe").stat().st_ino
    for file in (reading, writing, pipe):
        os.close(file)


def test_a_third_login_that_holds_or_watches_a_directory_sees_nothing_any_more(base: Path, tree: Path) -> None:
    """Reading an open directory needs no right, and a watch reports later events."""
    watches = ctypes.CDLL(None, use_errno=True)
    notices = watches.inotify_init1(os.O_NONBLOCK)
    held = []
    for folder in (tree, tree / "code"):
        held.append(os.open(folder, os.O_RDONLY))
        assert watches.inotify_add_watch(notices, bytes(folder), IN_ALL_EVENTS) >= 0
    hand_over(base)
    while True:  # events from before it had its new owner
        try:
            os.read(notices, 1 << 16)
        except BlockingIOError:
            break
    (tree / "secret").touch()
    (tree / "code" / "secret").touch()
    (tree / "code" / "a").write_bytes(b"secret")
    assert list(map(os.listdir, held)) == [[], []]
    with pytest.raises(BlockingIOError):
        os.read(notices, 1 << 16)
    for one in held:
        with pytest.raises(FileNotFoundError):
            os.open("secret", os.O_RDONLY, dir_fd=one)
        with pytest.raises(FileNotFoundError):
            os.mkdir("mine", dir_fd=one)
    for one in (*held, notices):
        os.close(one)


@pytest.mark.parametrize("mounted", ["code", "code/inner"])
def test_what_somebody_mounts_meanwhile_is_told_and_left_alone(base: Path, tree: Path, mounted: str) -> None:
    (tree / "code/inner").mkdir()
    handover.move_to_staging(str(base / "homes"), "demo")
    place = base / "staging" / "@demo" / mounted
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    (place / "file").touch()
    try:
        with pytest.raises(InUse, match=f"'{place.name}' in it is a mounted file system"):
            handover.change_owner("demo", CHANGE, TOP_FILES)
    finally:
        # The mount has moved with its directory.
        with open("/proc/self/mountinfo") as mounts:
            (point,) = [line.split()[4] for line in mounts if str(base) in line]
        owner = (Path(point) / "file").stat().st_uid
        subprocess.run(["umount", point], check=True)
    assert owner == 0
    hand_over(base)
    assert_belongs_to_new(tree)


def test_a_lease_holds_it_up_once(base: Path, tree: Path) -> None:
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # the kernel sends it to the holder of a lease
    (tree / "code" / "b").write_bytes(b"b")
    file = os.open(tree / "code" / "a", os.O_RDONLY)
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        with pytest.raises(InUse, match="have leases"):
            hand_over(base)
        # Everything else is done, and the kernel is breaking the lease.
        assert (base / "staging" / "@demo" / "code" / "b").stat().st_uid == NEW
        assert fcntl.fcntl(file, fcntl.F_GETLEASE) == fcntl.F_RDLCK
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        hand_over(base)
    finally:
        os.close(file)
        signal.signal(signal.SIGIO, before)
    assert_belongs_to_new(tree)
