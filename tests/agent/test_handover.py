"""A tree changes hands, against owners who want to keep a way in. Root and a real file system; no node needed."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import InUse, NotManaged
from agent.helper import anew, handover, trash, trees

OLD, NEW, OTHER = 98765, 98766, 98767
CHANGE = handover.Change(frozenset((OLD,)), NEW)
TOP_FILES = [
    trees.Entry("AGENTS.md", 0o600, b"new"),
    trees.Entry(".codesmith", 0o500),
    trees.Entry(".codesmith/workspace.json", 0o400, b"{}"),
]
ROUNDS = 300
IN_ALL_EVENTS = 0xFFF
# Beyond every recursion limit and the longest path.
DEPTH = 5000
# Holds descriptors of the tree, swaps directories, links and files, makes links to the outside, widens modes.
ATTACKER = """
import os, sys
os.setgroups([]); os.setresgid({uid}, {uid}, {uid}); os.setresuid({uid}, {uid}, {uid})
os.umask(0)
top, outside = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_RDONLY)
inner = [os.open(name, os.O_RDONLY, dir_fd=top) for name in ("a", "b")]
files = [os.open("a/file", os.O_RDWR, dir_fd=top)]
print("ready", flush=True)
number = 0
def attempt(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except OSError:
        pass
while True:
    number += 1
    for one in (top, *inner):
        attempt(os.rename, "x", "y", src_dir_fd=one, dst_dir_fd=inner[number % 2])
        attempt(os.mkdir, "x", 0o777, dir_fd=one)
        attempt(os.symlink, sys.argv[3], "link", dir_fd=one)
        attempt(os.rename, "link", "x", src_dir_fd=one, dst_dir_fd=one)
        attempt(os.rename, "file", f"file{{number}}", src_dir_fd=one, dst_dir_fd=inner[number % 2])
        attempt(os.link, "file", f"kept{{number}}", src_dir_fd=one, dst_dir_fd=outside)
        attempt(os.chmod, "file", 0o6777, dir_fd=one)
        attempt(os.fchmod, one, 0o777)
        attempt(os.rmdir, "y", dir_fd=one)
        attempt(os.close, os.open("file", os.O_CREAT | os.O_RDWR, 0o666, dir_fd=one)) if number < 50 else None
    attempt(os.pwrite, files[0], b"mine", 0)
"""


@pytest.fixture
def tree(base: Path) -> Iterator[Path]:
    """A tree of the old owner with one file, `code/a`."""
    trees.make(
        str(base / "homes"), "demo", OLD, 0o700, [trees.Entry("code", 0o755), trees.Entry("code/a", 0o644, b"t")]
    )
    (base / "outside").mkdir()
    os.chown(base / "outside", OLD, OLD)
    yield base / "homes" / "demo"


def hand_over(base: Path, change: handover.Change = CHANGE) -> None:
    handover.take(str(base / "homes"), "demo")
    handover.change_owner("demo", change, TOP_FILES)
    handover.put_back(str(base / "homes"), "demo")
    assert trash.empty(None) == []
    assert list((base / "staging").iterdir()) == list((base / "trash").iterdir()) == []


def everything(top: Path) -> Iterator[tuple[str, os.stat_result]]:
    for folder, folders, files in os.walk(top):
        for name in (".", *folders, *files):
            path = os.path.join(folder, name)
            yield path, os.lstat(path)


def assert_belongs_to_new(top: Path) -> None:
    for path, found in everything(top):
        assert (found.st_uid, found.st_gid) == (NEW, NEW), path
        if not stat.S_ISLNK(found.st_mode):
            assert found.st_mode & 0o6007 == 0, (path, oct(found.st_mode))
        if not stat.S_ISDIR(found.st_mode):
            assert found.st_nlink == 1, path
        assert not [one for one in os.listxattr(path, follow_symlinks=False) if "acl" in one or "capab" in one], path


def as_uid(uid: int, script: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    become = f"import os, sys; os.setgroups([]); os.setresgid({uid},{uid},{uid}); os.setresuid({uid},{uid},{uid})\n"
    return subprocess.run([sys.executable, "-c", become + script, *map(str, arguments)], capture_output=True)


def test_every_inode_gets_the_new_owner_and_loses_what_opened_it_to_others(base: Path, tree: Path) -> None:
    acl = struct.pack(
        "<I" + "HHI" * 5, 2, 1, 7, 2**32 - 1, 2, 7, OLD, 4, 7, 2**32 - 1, 16, 7, 2**32 - 1, 32, 0, 2**32 - 1
    )
    os.setxattr(tree / "code", "system.posix_acl_access", acl)
    os.setxattr(tree / "code", "system.posix_acl_default", acl)
    os.setxattr(tree / "code/a", "system.posix_acl_access", acl)
    (tree / "code" / "run").write_bytes(b"#!")
    os.chown(tree / "code" / "run", OLD, OLD)
    os.chmod(tree / "code" / "run", 0o6755)
    capability = struct.pack("<IIIII", 0x02000001, 1, 0, 0, 0)
    os.setxattr(tree / "code" / "run", "security.capability", capability)
    os.chmod(tree, 0o777)
    os.mkfifo(tree / "pipe")
    os.symlink("/etc/passwd", tree / "passwd")
    os.symlink(base / "outside", tree / "code" / "outside")
    os.chown(tree / "passwd", OLD, OLD, follow_symlinks=False)
    os.link(tree / "passwd", base / "outside" / "passwd", follow_symlinks=False)
    hand_over(base)
    assert_belongs_to_new(tree)
    assert stat.S_IMODE(tree.stat().st_mode) == 0o700
    assert (tree / "code" / "run").stat().st_mode & 0o777 == 0o750
    assert (base / "outside").stat().st_uid == OLD
    assert os.stat("/etc/passwd").st_uid == 0
    assert os.readlink(tree / "passwd") == "/etc/passwd"
    assert as_uid(NEW, "print(open(sys.argv[1]).read())", tree / "code" / "a").stdout == b"t\n"


def test_files_about_the_workspace_are_written_anew_whatever_stands_there(base: Path, tree: Path) -> None:
    os.symlink(base / "outside", tree / ".codesmith")
    (tree / "AGENTS.md").mkdir()
    hand_over(base)
    assert (tree / "AGENTS.md").read_bytes() == b"new"
    assert (tree / ".codesmith" / "workspace.json").read_bytes() == b"{}"
    assert stat.S_IMODE((tree / ".codesmith").lstat().st_mode) == 0o500
    (tree / ".codesmith" / "other").touch()
    hand_over(base, handover.Change(frozenset((NEW,)), OLD))
    assert (tree / ".codesmith" / "other").stat().st_uid == OLD
    assert list((base / "outside").iterdir()) == []


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
    real = os.chown

    def chown(name: str, uid: int, gid: int, *, dir_fd: int, follow_symlinks: bool) -> None:
        if name == "a":
            os.link(name, base / "outside" / "kept", src_dir_fd=dir_fd)
        real(name, uid, gid, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    with monkeypatch.context() as patch:
        patch.setattr(os, "chown", chown)
        hand_over(base)
    assert_belongs_to_new(tree)
    assert (base / "outside" / "kept").stat().st_ino != (tree / "code" / "a").stat().st_ino


def test_a_hard_link_to_a_file_of_somebody_else_gives_it_to_nobody(base: Path, tree: Path) -> None:
    secret = base / "secret"
    secret.write_bytes(b"secret")
    secret.chmod(0o600)
    os.link(secret, tree / "code" / "got")
    hand_over(base)
    assert (secret.stat().st_uid, secret.stat().st_mode & 0o777) == (0, 0o600)
    assert as_uid(NEW, "print(open(sys.argv[1]).read())", tree / "code" / "got").returncode != 0


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
    """Reading a directory asks for no right once it is open, and a watch tells of what comes later."""
    watches = ctypes.CDLL(None, use_errno=True)
    notices = watches.inotify_init1(os.O_NONBLOCK)
    held = []
    for folder in (tree, tree / "code"):
        held.append(os.open(folder, os.O_RDONLY))
        assert watches.inotify_add_watch(notices, bytes(folder), IN_ALL_EVENTS) >= 0
    hand_over(base)
    while True:  # what happened before it had its new owner
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


def test_times_attributes_flags_and_contents_of_directories_stay(base: Path, tree: Path) -> None:
    inner = tree / "code" / "inner"
    inner.mkdir(mode=0o1775)
    for number in range(3000):
        (inner / str(number)).symlink_to("x")
    for path in (inner, tree / "code", tree / "code" / "a"):
        os.setxattr(path, "user.note", b"kept")
        os.chown(path, OLD, OLD)
    os.link(tree / "code" / "a", base / "outside" / "kept")  # so that it is copied
    os.chmod(inner, 0o1775)
    subprocess.run(["chattr", "+d", inner], check=True)
    for number, path in enumerate((inner, tree / "code")):
        os.utime(path, ns=(10**18 + number, 10**18 + 7 + number))
    hand_over(base)
    for number, path in enumerate((inner, tree / "code")):
        found = path.stat()
        assert (found.st_atime_ns, found.st_mtime_ns) == (10**18 + number, 10**18 + 7 + number)
    assert_belongs_to_new(tree)
    assert stat.S_IMODE(inner.stat().st_mode) == 0o1770
    assert {os.getxattr(path, "user.note") for path in (inner, tree / "code", tree / "code" / "a")} == {b"kept"}
    assert "d" in subprocess.run(["lsattr", "-d", inner], capture_output=True, text=True).stdout.split()[0]
    assert sorted(map(int, os.listdir(inner))) == list(range(3000))


@pytest.mark.parametrize("mounted", ["code", "code/inner"])
def test_what_somebody_mounts_meanwhile_is_told_and_left_alone(base: Path, tree: Path, mounted: str) -> None:
    (tree / "code/inner").mkdir()
    handover.take(str(base / "homes"), "demo")
    place = base / "staging" / "@demo" / mounted
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    (place / "file").touch()
    try:
        with pytest.raises(InUse, match=f"'{place.name}' in it is a mounted file system"):
            handover.change_owner("demo", CHANGE, TOP_FILES)
    finally:
        # The mount has moved with what it is in.
        with open("/proc/self/mountinfo") as mounts:
            (point,) = [line.split()[4] for line in mounts if str(base) in line]
        owner = (Path(point) / "file").stat().st_uid
        subprocess.run(["umount", point], check=True)
    assert owner == 0
    hand_over(base)
    assert_belongs_to_new(tree)


def test_a_lease_holds_it_up_once(base: Path, tree: Path) -> None:
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # what the holder of a lease is told with
    (tree / "code" / "b").write_bytes(b"b")
    file = os.open(tree / "code" / "a", os.O_RDONLY)
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        with pytest.raises(InUse, match="leases on files"):
            hand_over(base)
        # All else is done, and the system has told the holder to end it.
        assert (base / "staging" / "@demo" / "code" / "b").stat().st_uid == NEW
        assert fcntl.fcntl(file, fcntl.F_GETLEASE) == fcntl.F_RDLCK
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        hand_over(base)
    finally:
        os.close(file)
        signal.signal(signal.SIGIO, before)
    assert_belongs_to_new(tree)


def test_holes_stay_holes_and_links_of_one_file_become_files(base: Path, tree: Path) -> None:
    with open(tree / "code" / "big", "wb") as file:
        file.seek(1 << 40)
        file.write(b"end")
    os.chown(tree / "code" / "big", OLD, OLD)
    os.link(tree / "code" / "big", tree / "code" / "same")
    hand_over(base)
    assert_belongs_to_new(tree)
    for name in ("big", "same"):
        found = (tree / "code" / name).stat()
        assert found.st_size == (1 << 40) + 3
        assert found.st_blocks < 100
        with open(tree / "code" / name, "rb") as file:
            file.seek(1 << 40)
            assert file.read() == b"end"


def dig(top: Path, depth: int) -> int:
    """Make a chain of directories, a file in each hundredth; return a descriptor of the last one."""
    descriptor = os.open(top, os.O_RDONLY)
    for number in range(depth):
        os.mkdir("d", 0o777, dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
        os.fchown(descriptor, OLD, OLD)
        if number % 100 == 0:
            os.close(os.open("file", os.O_CREAT, 0o666, dir_fd=descriptor))
    return descriptor


def assert_dug(top: Path, depth: int) -> None:
    descriptor = os.open(top, os.O_RDONLY)
    for number in range(depth):
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
        found = os.fstat(descriptor)
        assert (found.st_uid, found.st_mode & 0o777) == (NEW, 0o750), number
        assert sorted(os.listdir(descriptor)) == ["d", "file"][number == depth - 1 : 1 + (number % 100 == 0)], number
    os.close(descriptor)


def test_depth_is_no_defence(base: Path, tree: Path) -> None:
    os.close(dig(tree / "code", DEPTH))
    hand_over(base)
    assert_dug(tree / "code", DEPTH)
    assert trees.remove(str(base / "homes"), "demo")


def test_an_owner_who_swaps_everything_meanwhile_gains_nothing(base: Path, tree: Path) -> None:
    precious = base / "precious"
    precious.mkdir()
    (precious / "file").write_bytes(b"p")
    trees.remove(str(base / "homes"), "demo")
    entries = [trees.Entry("a", 0o777), trees.Entry("a/file", 0o666, b"t"), trees.Entry("b", 0o777)]
    entries += [trees.Entry(f"{folder}/{n}", 0o777) for folder in "ab" for n in range(5)]
    for _ in range(ROUNDS):
        trees.make(str(base / "homes"), "demo", OLD, 0o700, entries)
        attack = [sys.executable, "-I", "-S", "-c", ATTACKER.format(uid=OLD), tree, base / "outside", precious]
        with subprocess.Popen(attack, stdout=subprocess.PIPE) as attacker:
            assert attacker.stdout
            assert attacker.stdout.readline() == b"ready\n"
            try:
                hand_over(base)
                assert_belongs_to_new(tree)
                inside = {found.st_ino for _, found in everything(tree)}
            finally:
                attacker.kill()
        assert not inside & {found.st_ino for _, found in everything(base / "outside")}
        for path in (base / "outside").iterdir():
            path.unlink()
        trees.remove(str(base / "homes"), "demo")
    assert (precious.stat().st_uid, (precious / "file").stat().st_uid) == (0, 0)


def test_what_was_cut_off_at_any_moment_is_completed_by_the_next_run(
    base: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(tree / "code" / "a", tree / "code" / "b")
    for folder in ("one", "one/two", "one/three", "four"):
        (tree / "code" / folder).mkdir()
        (tree / "code" / folder / "file").write_text(folder)
    subprocess.run(["chown", "-R", f"{OLD}:{OLD}", tree], check=True)
    os.chmod(tree / "code", 0o750)
    calls = ("chmod", "chown", "fchmod", "fchown", "fsync", "mkdir", "rename", "pwrite", "rmdir", "setxattr", "utime")

    class Cut(BaseException):
        pass

    def contents() -> dict[str, bytes]:
        return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}

    hand_over(base, handover.Change(frozenset((OLD,)), OLD))
    expected = contents()
    assert len(expected) == 8
    for moment in range(1000):
        left = [moment]

        def cutting(name: str, left: list[int] = left) -> object:
            real = getattr(os, name)

            def call(*args: object, **kwargs: object) -> object:
                if left[0] == 0:
                    raise Cut
                left[0] -= 1
                return real(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in calls:
                patch.setattr(os, name, cutting(name))
            try:
                # To somebody else: the next run may name another heir.
                hand_over(base, handover.Change(frozenset((OLD,)), OTHER))
                was_cut = False
            except Cut:
                was_cut = True
        trees.sweep()
        hand_over(base, handover.Change(frozenset((OLD, OTHER)), NEW))
        assert_belongs_to_new(tree)
        assert stat.S_IMODE((tree / "code").stat().st_mode) == 0o750
        assert contents() == expected
        if not was_cut:
            break
        hand_over(base, handover.Change(frozenset((NEW,)), OLD))
    assert moment > 100


def test_a_directory_that_is_gone_or_in_the_way_is_told(base: Path, tree: Path) -> None:
    handover.take(str(base / "homes"), "demo")
    handover.take(str(base / "homes"), "demo")
    (base / "homes" / "demo").mkdir()
    with pytest.raises(NotManaged):
        handover.put_back(str(base / "homes"), "demo")
    with pytest.raises(NotManaged, match="is gone"):
        handover.take(str(base / "homes"), "nobody")
    trees.sweep()
    assert [path.name for path in (base / "staging").iterdir()] == ["@demo"]


def test_links_to_one_file_become_links_to_one_copy(base: Path, tree: Path) -> None:
    (tree / "first").write_bytes(b"x" * 5000)
    os.chown(tree / "first", OLD, OLD)
    for number in range(20):
        os.link(tree / "first", tree / f"link{number}")
    os.link(tree / "first", base / "outside" / "kept")
    hand_over(base)
    found = {(tree / name).stat().st_ino for name in ("first", "link0", "link19")}
    assert len(found) == 1
    assert (tree / "first").stat().st_nlink == 21
    assert (tree / "link7").stat().st_uid == NEW
    assert (base / "outside" / "kept").stat().st_ino not in found
    assert (base / "outside" / "kept").stat().st_uid == OLD


def test_a_sweep_meanwhile_takes_nothing_away(base: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "big").write_bytes(b"x")
    os.link(tree / "big", tree / "big2")
    os.chown(tree / "big", OLD, OLD)
    copy_bytes = anew._copy_bytes

    def sweeping(*args: int) -> None:
        trees.sweep()
        copy_bytes(*args)

    monkeypatch.setattr(anew, "_copy_bytes", sweeping)
    hand_over(base)
    assert (tree / "big2").stat().st_uid == NEW
