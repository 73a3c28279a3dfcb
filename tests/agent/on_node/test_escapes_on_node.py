"""Ways out of a runtime that were tried: each is a script that runs in a workspace, and what it must print."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.on_node.web1 import Web1
from tests.releases import NEWEST_FIRST

pytestmark = [pytest.mark.lab, NEWEST_FIRST]
# As other software has them: everybody may connect.
STAND_INS = (
    "/run/snapd.socket", "/run/mysqld/mysqld.sock", "/run/postgresql/.s.PGSQL.5432", "/run/docker.sock",
    "/run/podman/podman.sock", "/run/containerd/containerd.sock", "/run/libvirt/libvirt-sock", "/run/own/any.sock",
)  # fmt: skip
TRUE_ONES = (
    "/run/codesmith/agent.sock", "/run/codesmith/workspaces/esc.sock", "/run/codesmith/workspaces/esc-b.sock",
    "/run/codesmith-helper/helper.sock", "/run/dbus/system_bus_socket", "/run/systemd/private", "/run/systemd/notify",
    "/run/systemd/userdb/io.systemd.DynamicUser", "/run/systemd/journal/socket", "/run/systemd/journal/stdout",
    "/run/systemd/journal/dev-log", "/dev/log", "/run/systemd/io.system.ManagedOOM", "/run/udev/control",
)  # fmt: skip
PREPARE = f"""
cat >/run/stand-ins.py <<'END'
import os, socket, time
held = []
for path in {(*STAND_INS, chr(0) + "codesmith-stand-in")!r}:
    if path[0] == "/":
        os.makedirs(os.path.dirname(path), exist_ok=True)
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].bind(path)
    held[-1].listen()
    if path[0] == "/":
        os.chmod(path, 0o666)
time.sleep(100000)
END
systemd-run --quiet --unit=stand-ins python3 /run/stand-ins.py
until test -S /run/own/any.sock; do sleep 0.05; done
mkdir -m 777 /srv/open; echo open >/srv/open/file
"""
CONNECT = """
import socket
def connects(path):
    with socket.socket(socket.AF_UNIX) as one:
        try:
            one.connect(path)
        except OSError:
            return False
        return True
"""
REFUSED = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def refused(action, *arguments):
    try:
        return action(*arguments) == -1
    except OSError:
        return True
"""
PIDS = "pids = [int(one) for one in os.listdir('/proc') if one.isdigit()]\n"
RUN = "import subprocess\nrun = lambda *words: subprocess.run(words, capture_output=True, text=True).stdout\n"
NESTED = RUN + "print(run('unshare', '--user', '--map-root-user', '--mount', 'sh', '-c', {!r}), end='')\n"
CASES = {
    "what the node has written down of CodeSmith": (
        REFUSED + "print(os.path.lexists('/etc/codesmith'), [refused(os.listdir, '/boot/codesmith'), "
        "refused(open, '/boot/codesmith/node.json'), refused(open, '/boot/codesmith/environment')])",
        f"False {[True] * 3}\n",
    ),
    "other homes and workspaces": (
        "import os\nprint(os.listdir('/srv/codesmith/home'), "
        "os.listdir('/srv/codesmith/workspaces'), os.path.exists('/srv/codesmith/.trash'))",
        "['cs-esc'] ['esc'] False\n",
    ),
    "homes of people": (
        "import os\nprint([os.access(one, os.R_OK | os.X_OK) for one in ('/home', '/root')])",
        "[False, False]\n",
    ),
    "other logins": (
        "import pwd, grp\nprint([one.pw_name for one in pwd.getpwall()], [one.gr_name for one in grp.getgrall()])",
        "['root', 'cs-esc', 'workspace', 'nobody'] ['root', 'cs-esc', 'nogroup']\n",
    ),
    "sockets of software": (CONNECT + f"print([one for one in {STAND_INS!r} if connects(one)])", "[]\n"),
    "sockets of the system": (CONNECT + f"print([one for one in {TRUE_ONES!r} if connects(one)])", "[]\n"),
    "any socket in /run": (
        "import os, stat\nprint([name for top, _, names in os.walk('/run') for name in names "
        "if stat.S_ISSOCK(os.lstat(os.path.join(top, name)).st_mode)])",
        "[]\n",
    ),
    "processes of others": (
        "import os\n" + PIDS + "print({os.stat(f'/proc/{pid}').st_uid for pid in pids} == {os.getuid()}, 1 in pids)",
        "True False\n",
    ),
    "ptrace": (
        REFUSED + "print([refused(libc.ptrace, 16, pid, 0, 0) for pid in (1, INIT, OTHER)])",
        "[True, True, True]\n",
    ),
    "files of processes": (
        "import os\nprint([os.path.exists(f'/proc/{pid}/{what}') for pid in (1, OTHER) "
        "for what in ('root', 'ns/mnt', 'fd', 'environ')])",
        f"{[False] * 8}\n",
    ),
    "signals": (REFUSED + "print([refused(os.kill, pid, 9) for pid in (1, INIT, OTHER)])", "[True, True, True]\n"),
    "pidfd": (
        REFUSED
        + """
def take(pid):
    descriptor = libc.syscall(434, pid, 0)
    if descriptor < 0:
        return -1
    return max(libc.syscall(424, descriptor, 9, None, 0), libc.syscall(438, descriptor, 0, 0),
               libc.setns(descriptor, 0x20000))
print([refused(take, pid) for pid in (1, OTHER)])
""",
        "[True, True]\n",
    ),
    "kernel's settings": (
        REFUSED + "print([refused(open, path, 'w') for path in ('/proc/sys/kernel/core_pattern', "
        "'/proc/sys/kernel/modprobe', '/proc/sysrq-trigger', '/sys/kernel/uevent_helper')])",
        f"{[True] * 4}\n",
    ),
    "control groups": (
        REFUSED
        + """
groups = [line.split(":", 2) for line in open("/proc/self/cgroup").read().splitlines()]
tops = [top for top, names, _ in os.walk("/sys/fs/cgroup") if "cgroup.procs" in os.listdir(top)][:200]
print(bool(tops), [top for top in tops if not refused(open, f"{top}/cgroup.procs", "w")],
      [top for top in tops if not refused(os.mkdir, f"{top}/own")])
""",
        "True [] []\n",
    ),
    "device nodes": (
        REFUSED + "print([refused(os.mknod, place + '/node', 0o20666, os.makedev(1, 1)) "
        "for place in ('/tmp', '/dev/shm', '.')], [one for one in ('mem', 'kmsg', 'sda', 'loop0', 'fuse', "
        "'kvm', 'net') if os.path.exists('/dev/' + one)])",
        "[True, True, True] []\n",
    ),
    "keys of others": (
        "print(open('/proc/keys').read().count('codesmith-secret') if __import__('os').path.exists("
        "'/proc/keys') else 0)",
        "0\n",
    ),
    "privileges": (
        REFUSED + "print([line.split()[1] for line in open('/proc/self/status') if line[:6] in "
        "('NoNewP', 'CapEff', 'CapBnd', 'CapAmb')], refused(os.setuid, 0), refused(os.setgroups, [0]))",
        "['0000000000000000', '0000000000000000', '0000000000000000', '1'] True True\n",
    ),
    "files of the system": (
        REFUSED + "print([refused(open, place + '/own', 'w') for place in ('/etc', '/usr', '/var', "
        "'/srv', '/srv/open', '/run', '/srv/codesmith', '/srv/codesmith/home', '/')])",
        f"{[True] * 9}\n",
    ),
    "mounts of a namespace of its own": (
        NESTED.format(
            "umount /run /home /srv/codesmith /proc/sys 2>/dev/null; "
            "umount -l /run 2>/dev/null; mount -o remount,rw /etc 2>/dev/null; "
            "mount --move /tmp /mnt 2>/dev/null; "
            "ls -d /run/systemd/private /srv/codesmith/home/* /home/* 2>/dev/null; "
            "echo x 2>/dev/null >/proc/sys/kernel/core_pattern || echo kept"
        ),
        "/srv/codesmith/home/cs-esc\nkept\n",
    ),
    "control groups of a namespace of its own": (
        NESTED.format(
            "mount -o remount,rw,bind /sys/fs/cgroup/unified "
            "2>/dev/null || mount -o remount,rw,bind /sys/fs/cgroup "
            "2>/dev/null; "
            "find /sys/fs/cgroup -name cgroup.procs -writable | head -1"
        ),
        "",
    ),
    "sandboxes of its own": (
        RUN + "print(run('unshare', '--user', '--map-root-user', '--mount', '--pid', '--fork', '--net', 'sh', '-c', "
        "'mount -t tmpfs none /mnt && id -u'))",
        "0\n\n",
    ),
    "memory of others": ("import os\nprint(os.listdir('/dev/shm'))", "[]\n"),
}


@pytest.fixture(scope="module")
def esc(web1: Web1) -> Iterator[Web1]:
    """A node with workspace esc, another one, and what other software has."""
    web1.on(PREPARE)
    web1.on("keyctl add user codesmith-secret x @u", check=False)
    for name in ("esc", "esc-b"):
        web1.client.workspace.create(name=name)
        web1.client.workspace.start(name=name)
    yield web1


def filled(web1: Web1, script: str) -> str:
    """Return a script with the pids that it tries."""
    show = "systemctl show --property=MainPID --value"
    other = web1.on(f"{show} codesmith-workspace@esc-b.service").out.strip()
    front_end = web1.on(f"{show} codesmith-agent.service").out.strip()
    return script.replace("OTHER", other).replace("INIT", front_end)


@pytest.mark.parametrize("case", CASES)
def test_no_way_leads_out(esc: Web1, case: str) -> None:
    script, wanted = CASES[case]
    done = esc.client.workspace.exec(name="esc", argv=["python3", "-c", filled(esc, script)])
    assert (done.stdout, done.exit_code) == (wanted, 0), done.stderr


def test_kill_reaches_nobody_else(esc: Web1) -> None:
    since = esc.client.workspace.get(name="esc-b").runtime.since
    # Itself, and its own supervisor: the next call starts it anew.
    esc.refuses(
        esc.client.workspace.exec, "command_failed", name="esc",
        argv=["python3", "-c", "import os, signal; os.kill(-1, 9)"],
    )  # fmt: skip
    assert esc.client.workspace.exec(name="esc", argv=["echo", "well"]).stdout == "well\n"
    assert esc.client.workspace.get(name="esc-b").runtime.since == since


def test_a_descriptor_from_outside_opens_nothing_of_others(esc: Web1) -> None:
    """With a descriptor of /, which somebody outside has passed in."""
    give = "import os, socket; s = socket.socket(socket.AF_UNIX); s.bind(chr(0) + 'give'); s.listen(); "
    give += "c, _ = s.accept(); socket.send_fds(c, [b'x'], [os.open('/', os.O_RDONLY)]); c.recv(1)"
    esc.on(f'systemd-run --quiet --unit=give python3 -c "{give}"; sleep 0.5')
    take = (
        CONNECT
        + REFUSED
        + """
s = socket.socket(socket.AF_UNIX)
s.connect(chr(0) + "give")
top = socket.recv_fds(s, 1, 1)[1][0]
paths = ("srv/codesmith/workspaces/esc-b/code", "srv/codesmith/home/cs-esc-b/x", "var/lib/codesmith", "etc/shadow")
print([refused(os.open, path, os.O_RDONLY, 0o600) and refused(lambda: os.open(path, os.O_RDONLY, dir_fd=top))
       for path in paths])
print([connects(f"/proc/self/fd/{top}/run/{path}") for path in ("codesmith/workspaces/esc-b.sock",
       "codesmith/agent.sock", "codesmith-helper/helper.sock")])
"""
    )
    done = esc.client.workspace.exec(name="esc", argv=["python3", "-c", take])
    assert done.stdout == f"{[True] * 4}\n{[False] * 3}\n", done.stderr


def test_the_runtimes_own_accounts_stay_when_those_of_the_node_change(esc: Web1) -> None:
    run = esc.client.workspace.exec
    script = "getent passwd cs-esc; getent passwd later; cat /etc/hostname /etc/fresh; ls -d /etc/ssl/ ~; echo ~"
    esc.on("useradd later; echo fresh >/etc/fresh")
    shown = run(name="esc", argv=["bash", "-c", script]).stdout
    uid, home = esc.client.workspace.get(name="esc").uid, "/srv/codesmith/home/cs-esc"
    account = f"cs-esc:x:{uid}:{uid}:CodeSmith:{home}:/bin/bash"
    host = esc.on("cat /etc/hostname").out.strip()
    assert shown.splitlines() == [account, host, "/etc/ssl/", home, home]
    esc.client.workspace.create(name="later")
    esc.client.workspace.start(name="later")
    assert run(name="esc", argv=["cat", "/etc/fresh"]).stdout == "fresh\n"
    assert run(name="esc", argv=["getent", "passwd", "cs-esc"]).stdout == f"{account}\n"


def test_only_network_none_closes_abstract_sockets(esc: Web1) -> None:
    script = CONNECT + "print(connects(chr(0) + 'codesmith-stand-in'))"
    run = esc.client.workspace.exec
    assert run(name="esc", argv=["python3", "-c", script]).stdout == "True\n"
    esc.client.sandbox.create(workspace="esc", network="none")
    assert run(name="esc", argv=["python3", "-c", script]).stdout == "False\n"
    esc.client.sandbox.delete(workspace="esc")
