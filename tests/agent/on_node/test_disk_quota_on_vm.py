"""Limits of the disk, on a machine whose /srv has project quotas: ext4, and xfs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent.shared.names import HOMES, WORKSPACES
from codesmith.sdk.api import Execution
from tests.agent.on_node.web1 import Web1

MAKE = {"ext4": "mkfs.ext4 -q -O quota,project -E quotatype=prjquota", "xfs": "mkfs.xfs -q"}
pytestmark = [
    pytest.mark.vm,
    pytest.mark.lab,
    pytest.mark.timeout(1800),
    pytest.mark.parametrize("kind", MAKE, scope="module"),
]
MIB = 1 << 20
LIMIT = 24 * MIB
WRITE = "dd if=/dev/zero bs=1M count={} of={} 2>&1"
# Whoever is inside tries all of it: to leave the project, to move the limit, to write what is not counted.
ESCAPES = """
import ctypes, errno, fcntl, os, struct
GET, SET, FLAGS, SET_FLAGS = 0x801C581F, 0x401C5820, 0x80086601, 0x40086602
def attributes(path):
    return list(struct.unpack("=IIIII8s", fcntl.ioctl(os.open(path, os.O_RDONLY), GET, bytes(28))))
def change(path, project=None, inherit=True):
    now = attributes(path)
    now[3] = now[3] if project is None else project
    now[0] = now[0] if inherit else now[0] & ~0x200
    fcntl.ioctl(os.open(path, os.O_RDONLY), SET, struct.pack("=IIIII8s", *now))
def flags(path):
    there = os.open(path, os.O_RDONLY)
    now, = struct.unpack("l", fcntl.ioctl(there, FLAGS, bytes(8)))
    fcntl.ioctl(there, SET_FLAGS, struct.pack("l", now & ~0x20000000))
def limit(project):
    quota = ctypes.create_string_buffer(struct.pack("=QQQQQQQQIxxxx", *[0] * 8, 5))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.quotactl(0x800008 << 8 | 2, DEVICE, project, quota):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
home = os.path.expanduser("~")
os.makedirs("mine/inner", exist_ok=True)
open("mine/file", "w").close()
project = attributes("mine")[3]
assert project == (os.stat("mine").st_uid or OUTSIDE), (project, os.stat("mine").st_uid)
tries = [
    lambda: change("mine/file", 0), lambda: change("mine", 0), lambda: change("mine", 1), lambda: change(".", 0),
    lambda: change("mine", inherit=False), lambda: change(home, inherit=False), lambda: flags("mine"),
    lambda: limit(project), lambda: limit(0),
]
for number, attempt in enumerate(tries):
    try:
        attempt()
    except OSError as error:
        assert error.errno in (errno.EINVAL, errno.EPERM, errno.ENOENT, errno.EOPNOTSUPP), (number, error)
for path in (".", "mine", "mine/inner", "mine/file", home):
    now = attributes(path)
    assert now[3] == project, (path, now)
    assert os.path.isfile(path) or now[0] & 0x200, (path, now)
print("held")
"""
UNCOUNT = """
import fcntl, os, struct, sys
def uncount(path):
    there = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    now = list(struct.unpack("=IIIII8s", fcntl.ioctl(there, 0x801C581F, bytes(28))))
    now[0], now[3] = now[0] & ~0x200, 0
    fcntl.ioctl(there, 0x401C5820, struct.pack("=IIIII8s", *now))
for top in sys.argv[1:]:
    for folder, _, files in os.walk(top):
        uncount(folder)
        for name in files:
            if not os.path.islink(f"{folder}/{name}"):
                uncount(f"{folder}/{name}")
"""
EMPTY = """
import os
os.mkdir("empty")
try:
    for number in range(1 << 20):
        open(f"empty/{number}", "w").close()
except OSError as error:
    print(number, error.errno)
"""


@pytest.fixture(scope="module")
def release() -> str:
    return "trixie-vm"


@pytest.fixture(scope="module")
def prepare_first(kind: str) -> str:
    mount = "echo /srv.img /srv auto loop,prjquota 0 0 >>/etc/fstab; systemctl daemon-reload; mount /srv"
    return f"truncate -s 1G /srv.img; {MAKE[kind]} /srv.img; {mount}"


@pytest.fixture
def run(web1: Web1) -> Iterator[Callable[..., Execution]]:
    """Run a shell command in a workspace."""

    def one(name: str, script: str, **more: Any) -> Execution:
        return web1.client.workspace.exec(name=name, argv=["sh", "-c", script], timeout_s=120.0, **more)

    yield one
    web1.client.close()


def boxed(web1: Web1, name: str, limit: int = LIMIT) -> None:
    web1.client.workspace.create(name=name)
    made = web1.client.sandbox.create(workspace=name, limits={"disk_bytes": limit})
    assert made.enforced["disk_bytes"]


def quotas(web1: Web1) -> dict[str, int]:
    """Return the limits in KiB that the file system has, by project."""
    report = web1.on("xfs_quota -f -x -c 'report -p -n -N -b' /srv").out
    rows = [line.split() for line in report.splitlines() if line.startswith("#")]
    return {row[0][1:]: int(row[3]) for row in rows if int(row[3])}


def uid_of(web1: Web1, name: str) -> str:
    return str(web1.client.workspace.get(name=name).uid)


def test_a_full_workspace_hurts_nobody_else_and_is_cleaned_from_outside(
    web1: Web1, run: Callable[..., Execution]
) -> None:
    client = web1.client
    boxed(web1, "full")
    client.workspace.create(name="other")
    assert run("full", WRITE.format(8, "data/first")).exit_code == 0
    job = client.job.start(workspace="full", argv=["sh", "-c", "echo told; exec sleep 1000"])
    web1.person.wait_until(lambda: "told" in client.job.logs(workspace="full", id=job.id).data, within_s=60)
    done = run("full", f"{WRITE.format(100, 'data/second')}; {WRITE.format(1, '~/third')}")
    assert done.exit_code != 0
    assert "quota" in done.stdout or "No space" in done.stdout
    usage = client.workspace.usage(name="full")
    assert usage.disk_limit_bytes == LIMIT
    assert LIMIT - MIB < (usage.disk_bytes or 0) <= LIMIT
    # Nobody else notices.
    assert run("other", WRITE.format(60, "data/much")).exit_code == 0
    assert client.workspace.usage(name="other").disk_limit_bytes is None
    assert client.node.health().status == "ok"
    # The room that all see inside is that of the limit.
    assert int(run("full", "df -k --output=size . | tail -1").stdout) <= LIMIT // 1024
    # What is inside is read, ended and removed from outside, also when its runtime has ended.
    assert client.job.logs(workspace="full", id=job.id).data == "told\n"
    refusal = web1.refuses(client.file.write, "limit", workspace="full", path="data/more", data="x" * 100_000)
    assert "quota" in refusal.problem or "No space" in refusal.problem
    client.workspace.stop(name="full")
    assert client.file.read(workspace="full", path="data/first", limit=10).size_bytes == 8 * MIB
    web1.refuses(client.job.start, "limit", workspace="full", argv=["true"])
    client.file.remove(workspace="full", path="data/second")
    assert run("full", WRITE.format(2, "data/fourth")).exit_code == 0
    assert client.file.write(workspace="full", path="data/more", data="x").size_bytes == 1
    run("full", WRITE.format(100, "data/second"))
    assert client.workspace.delete(name="full").deleted
    client.workspace.delete(name="other")


def test_nothing_inside_leads_out_of_the_limit(web1: Web1, run: Callable[..., Execution]) -> None:
    boxed(web1, "tries")
    device = web1.on("stat -c /dev/block/%Hd:%Ld /srv").out.strip()
    uid = uid_of(web1, "tries")
    script = f"DEVICE, OUTSIDE = {device.encode()!r}, {uid}\n{ESCAPES}"
    for way in (["python3", "-c"], ["unshare", "-Ur", "python3", "-c"]):
        done = web1.client.workspace.exec(name="tries", argv=[*way, script])
        assert done.stdout == "held\n", done.stderr
    assert quotas(web1)[uid] == LIMIT // 1024
    # Neither files without a name, nor room that is only taken, nor another name, are past it.
    unnamed = "import os; one = os.open('.', os.O_TMPFILE | os.O_RDWR); os.posix_fallocate(one, 0, 200 << 20)"
    for attempt in (f'python3 -c "{unnamed}"', "fallocate -l 200M large", "truncate -s 200M s; cp --sparse=never s t"):
        assert run("tries", attempt).exit_code != 0
    usage = int(web1.on(f"du -sB1 {WORKSPACES}/tries {HOMES}/cs-tries | awk '{{ all += $1 }} END {{ print all }}'").out)
    assert usage <= LIMIT
    run("tries", "rm -f s t large")
    # Empty files take no block: their number has a limit too.
    files, number = map(int, run("tries", f"python3 -c '{EMPTY}'").stdout.split())
    assert number in (28, 122)
    assert files < LIMIT // 4096
    web1.client.workspace.delete(name="tries")


def test_a_limit_changes_while_something_runs_and_below_what_is_used_only_by_force(
    web1: Web1, run: Callable[..., Execution]
) -> None:
    client = web1.client
    boxed(web1, "grow")
    job = client.job.start(workspace="grow", argv=["sleep", "1000"])
    assert run("grow", WRITE.format(16, "data/first")).exit_code == 0
    assert run("grow", WRITE.format(30, "data/second")).exit_code != 0
    changed = client.sandbox.update(workspace="grow", limits={"disk_bytes": 80 * MIB})
    assert (changed.limits, changed.enforced["disk_bytes"]) == ({"disk_bytes": 80 * MIB}, True)
    assert run("grow", WRITE.format(30, "data/second")).exit_code == 0
    refusal = web1.refuses(client.sandbox.update, "in_use", workspace="grow", limits={"disk_bytes": 20 * MIB})
    assert "bytes of disk" in refusal.problem
    assert "--force" in str(refusal.hint)
    assert client.sandbox.get(workspace="grow").limits == {"disk_bytes": 80 * MIB}
    assert quotas(web1)[uid_of(web1, "grow")] == 80 * 1024
    client.sandbox.update(workspace="grow", limits={"disk_bytes": 20 * MIB}, force=True)
    assert run("grow", "echo text >data/third").exit_code != 0
    assert run("grow", "cat data/first | wc -c").stdout == f"{16 * MIB}\n"
    # One that is refused with another limit leaves the disk's as it was.
    web1.refuses(client.sandbox.update, "in_use", workspace="grow", limits={"disk_bytes": 90 * MIB, "tasks": 1})
    assert quotas(web1)[uid_of(web1, "grow")] == 20 * 1024
    client.sandbox.update(workspace="grow", limits={"disk_bytes": None})
    assert uid_of(web1, "grow") not in quotas(web1)
    assert run("grow", WRITE.format(60, "data/third")).exit_code == 0
    assert client.job.get(workspace="grow", id=job.id).state == "running"
    client.workspace.delete(name="grow")


def test_files_that_were_there_before_are_counted(web1: Web1, run: Callable[..., Execution]) -> None:
    """A workspace that an older agent has made, or one that was copied to such a disk."""
    client = web1.client
    client.workspace.create(name="old")
    client.workspace.create(name="beside")
    deep = "import os\nfor _ in range(1500): os.mkdir('deep'); os.chdir('deep')\nopen('file', 'w').write('x' * 99999)"
    assert run("beside", "echo text >data/file").exit_code == 0
    assert run("old", f'{WRITE.format(10, "data/file")}; python3 -c "{deep}"').exit_code == 0
    web1.on(
        f"python3 -c '{UNCOUNT}' {WORKSPACES}/old {HOMES}/cs-old; ln -s {WORKSPACES}/beside/data {WORKSPACES}/old/to"
    )
    job = client.job.start(workspace="old", argv=["sleep", "1000"])
    create = {"workspace": "old", "limits": {"tasks": 500}}
    client.sandbox.create(**create)  # ends the job
    assert client.job.get(workspace="old", id=job.id).state == "killed"
    job = client.job.start(workspace="old", argv=["sleep", "1000"])
    refusal = web1.refuses(client.sandbox.update, "in_use", workspace="old", limits={"disk_bytes": LIMIT})
    assert "--restart" in str(refusal.hint)
    assert client.job.get(workspace="old", id=job.id).state == "running"
    small = {"workspace": "old", "limits": {"disk_bytes": 4 * MIB}, "restart": True}
    web1.refuses(client.sandbox.update, "in_use", **small)
    assert client.sandbox.get(workspace="old").limits == {"tasks": 500}
    changed = client.sandbox.update(workspace="old", limits={"disk_bytes": LIMIT}, restart=True)
    assert changed.enforced["disk_bytes"]
    assert client.job.get(workspace="old", id=job.id).state == "killed"
    reach = "import os\nfor _ in range(1500): os.chdir('deep')\nopen('more', 'w').write('x' * 30000000)"
    assert run("old", f'python3 -c "{reach}"').exit_code != 0
    report = web1.on("xfs_quota -f -x -c 'report -p -n -N -b' /srv").out
    used = {row[0][1:]: int(row[1]) for row in map(str.split, report.splitlines()) if row}
    assert used[uid_of(web1, "old")] > 10 * 1024
    assert used[uid_of(web1, "beside")] < 1024
    for name in ("old", "beside"):
        client.workspace.delete(name=name)


def test_a_limit_outlives_reboots_and_power_cuts_and_goes_with_its_sandbox_or_workspace(
    web1: Web1, run: Callable[..., Execution]
) -> None:
    client, node = web1.client, web1.person.lab_node("web1")
    for name in ("keep", "gone"):
        boxed(web1, name)
    uids = {uid_of(web1, name) for name in ("keep", "gone")}
    assert uids == set(quotas(web1))

    def cut() -> None:
        node.power_cut()
        node.start()

    for end in (node.reboot, cut):
        end()
        client.close()
        web1.person.runs("inv node.connect")
        assert run("keep", WRITE.format(100, "data/much")).exit_code != 0
        assert set(quotas(web1)) == uids
    assert client.node.health().status == "ok"
    client.sandbox.delete(workspace="keep")
    assert run("keep", WRITE.format(60, "data/much")).exit_code == 0
    client.workspace.delete(name="gone")
    assert quotas(web1) == {}
    client.workspace.delete(name="keep")


def test_health_tells_a_limit_that_the_file_system_does_not_have(web1: Web1, run: Callable[..., Execution]) -> None:
    client = web1.client
    boxed(web1, "drift")
    web1.on(f"xfs_quota -f -x -c 'limit -p bhard=0 {uid_of(web1, 'drift')}' /srv")
    (records,) = [one for one in client.node.health().checks if one.name == "records"]
    assert records.status != "ok"
    assert f"inv sandbox.update drift --disk {LIMIT}" in records.detail
    client.sandbox.update(workspace="drift", limits={"disk_bytes": LIMIT})
    assert client.node.health().status == "ok"
    assert run("drift", WRITE.format(100, "data/much")).exit_code != 0
    client.workspace.delete(name="drift")


def test_without_the_mount_option_a_limit_is_refused_and_named(web1: Web1, kind: str) -> None:
    client = web1.client
    boxed(web1, "late")
    client.workspace.create(name="new")
    stop = "set -e; systemctl stop codesmith-agent.service codesmith-helper.service codesmith.slice; umount /srv"
    client.workspace.stop(name="late")
    web1.on(f"{stop}; sed -i 's/loop,prjquota/loop,noquota/' /etc/fstab; systemctl daemon-reload; mount /srv")
    client.close()
    refusal = web1.refuses(client.sandbox.create, "unsupported", workspace="new", limits={"disk_bytes": LIMIT})
    assert f"/srv/codesmith is on {kind}, mounted without prjquota" in refusal.problem
    assert "prjquota" in str(refusal.hint)
    (records,) = [one for one in client.node.health().checks if one.name == "records"]
    assert "workspace late is not limited" in records.detail
    # The limit is taken away, and so is the workspace.
    assert client.sandbox.update(workspace="late", limits={"disk_bytes": None}).limits == {}
    client.workspace.delete(name="late")
    assert client.node.health().status == "ok"
    client.close()
