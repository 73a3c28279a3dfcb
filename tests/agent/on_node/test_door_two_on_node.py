"""`ssh cs-ann@node` on real nodes: what people do who have only a key, and what they must not be able to do."""

from __future__ import annotations

import functools
import os
import shlex
import socket
import subprocess
from pathlib import Path

import pytest

from tests.agent.on_node.door_one import ECHO, free_port, talk
from tests.agent.on_node.door_two import ASK, People, meet
from tests.agent.on_node.openssh_tools import git, resize_interrupt_and_exit, rsync_twice, scp_there_and_back
from tests.agent.on_node.terminal import Terminal
from tests.agent.on_node.test_escapes_on_node import CASES, PREPARE, filled
from tests.agent.on_node.web1 import Web1
from tests.kinds import some_names_of
from tests.releases import NEWEST_FIRST
from tests.ssh_agent import running_agent
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, NEWEST_FIRST]
ALL_BYTES = bytes(range(256)) * 4000


@pytest.fixture(scope="module")
def people(web1: Web1, tmp_path_factory: pytest.TempPathFactory) -> People:
    web1.on(PREPARE)
    return meet(web1, tmp_path_factory.mktemp("keys"))


# The others enter as `only`.
@pytest.mark.parametrize("name", ["esc", pytest.param("only", marks=pytest.mark.long)])
def test_a_command_runs_inside_with_its_exit_code(people: People, name: str) -> None:
    one, workspace = getattr(people, name), {"esc": "esc", "only": "shop"}[name]
    said = one.ssh("id -un; pwd; echo $HOME $CODESMITH_WORKSPACE $SHELL; exit 7", code=7)
    path = f"/srv/codesmith/workspaces/{workspace}"
    assert said.split() == [f"cs-{workspace}", path, f"/srv/codesmith/home/cs-{workspace}", workspace, "/bin/bash"]
    assert f"codesmith-workspace@{workspace}.service" in one.ssh("cat /proc/self/cgroup")
    done = one.run("ssh", "node", "cat; echo wrong >&2", typed=ALL_BYTES)
    assert (done.stdout, done.stderr) == (ALL_BYTES, b"wrong\n")
    assert one.ssh("kill -TERM $$", code=128 + 15) == ""
    assert one.ssh("echo \"a  b\" 'c;d' $((6*7)) caf\u00e9 | cat") == "a  b c;d 42 caf\u00e9\n"
    assert one.ssh("echo to a file >/dev/stderr; echo out >/dev/stdout") == "out\n"


def test_it_is_the_same_place_as_that_of_the_api(people: People, web1: Web1) -> None:
    web1.client.workspace.exec(name="shop", argv=["sh", "-c", "echo from exec > /tmp/here"])
    assert people.only.ssh("cat /tmp/here") == "from exec\n"
    assert not web1.on("test -e /tmp/here", check=False).ok
    by_exec = web1.client.workspace.exec(name="shop", argv=["readlink", "/proc/self/ns/net", "/proc/self/ns/mnt"])
    assert people.only.ssh("readlink /proc/self/ns/net /proc/self/ns/mnt") == by_exec.stdout


def test_without_a_command_there_is_a_login_shell(people: People) -> None:
    done = people.only.run("ssh", "-T", "node", typed=b"shopt -q login_shell && id -un; exit 5\n", code=5)
    assert done.stdout == b"cs-shop\n"


@pytest.mark.parametrize("name", ["only", pytest.param("esc", marks=pytest.mark.long)])
def test_a_terminal_has_a_size_and_ctrl_c(people: People, web1: Web1, name: str) -> None:
    one = getattr(people, name)
    environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    argv = one.argv("ssh", "-tt", "-o", "SendEnv=LC_ALL", "node")
    with Terminal(argv, environment, rows=31, columns=97) as terminal:
        terminal.types("PS1=; stty size; tty; echo $TERM $LC_ALL\r")
        terminal.wait_for("31 97\r\n")
        terminal.wait_for("/dev/pts/[0-9]+\r\n")
        terminal.wait_for("xterm-256color C.UTF-8\r\n")
        login = "cs-shop" if one is people.only else f"cs-{name}"
        assert resize_interrupt_and_exit(terminal, lambda: web1.pids(login, "sleep")) == 5


def test_the_end_of_the_input_ends_nothing_else(people: People) -> None:
    done = people.only.run("ssh", "node", "wc -c; echo more; cat", typed=b"x" * 3_000_000)
    assert done.stdout == b"3000000\nmore\n"
    assert people.only.run("ssh", "-n", "node", "cat; echo end").stdout == b"end\n"


@pytest.mark.parametrize("protocol", ["-s", pytest.param("-O", marks=pytest.mark.long)])
def test_scp_copies_both_ways(people: People, short: Path, protocol: str) -> None:
    sent, returned = scp_there_and_back(people.only, "node", short, protocol)
    assert returned == sent


def test_sftp_lists_and_copies_inside(people: People, short: Path) -> None:
    (short / "file").write_text("by sftp\n")
    batch = f"put {short}/file data/by-sftp\nls -l data/by-sftp\nget data/by-sftp {short}/back\nls /srv/codesmith/home"
    done = people.only.run("sftp", "-q", "-b", "-", "node", typed=batch.encode())
    assert b"data/by-sftp" in done.stdout
    assert done.stdout.decode().split()[-1] == "/srv/codesmith/home/cs-shop"
    assert (short / "back").read_text() == "by sftp\n"


@pytest.mark.parametrize(
    "subsystem", ["/usr/lib/openssh/sftp-server -l INFO", pytest.param("internal-sftp", marks=pytest.mark.long)]
)
def test_sftp_is_that_of_the_workspace_whatever_sshd_has(people: People, web1: Web1, subsystem: str) -> None:
    web1.on(f"sed -i 's|^Subsystem.*|Subsystem sftp {subsystem}|' /etc/ssh/sshd_config && systemctl reload ssh")

    def listed() -> str:
        """Return what sftp shows; "" while sshd begins anew and takes no connection."""
        return people.only.run(
            "sftp", "-q", "-b", "-", "node", typed=b"ls /srv/codesmith/home\n", code=None
        ).stdout.decode()

    web1.on(f"sshd -T | grep -q 'subsystem sftp {subsystem}'")
    assert eventually(lambda: listed().split()[-1:]) == ["/srv/codesmith/home/cs-shop"]


def test_rsync_copies_what_differs(people: People, short: Path) -> None:
    first, second = rsync_twice(people.only, "node", short)
    assert first.count("<f") == 20 and second == ""
    assert people.only.ssh("cat data/synced/*/file | sort -n | tail -1") == "19\n"


def test_git_clones_and_pushes(people: People, web1: Web1, short: Path) -> None:
    web1.client.repo.init(workspace="shop", name="goods")
    run = functools.partial(git, people.only, os.environ)
    run(short, "clone", "-q", "node:code/goods", "goods")
    run(short / "goods", "commit", "-q", "--allow-empty", "-m", "by git")
    run(short / "goods", "push", "-q", "origin", "HEAD:pushed")
    assert people.only.ssh("git -C code/goods log -1 --format=%s pushed") == "by git\n"


def test_with_several_workspaces_the_first_word_names_one(people: People) -> None:
    ann = people.ann
    assert ann.ssh("site id -un; pwd") == "cs-site\n/srv/codesmith/workspaces/site\n"
    assert ann.ssh("web", typed=b"id -un\n") == "cs-web\n"
    with Terminal(ann.argv("ssh", "-t", "-t", "node", "web"), dict(os.environ), rows=24, columns=80) as terminal:
        terminal.types("id -un; exit 3\r")
        terminal.wait_for("cs-web")
        assert terminal.wait_for_end() == 3
    for words in ((), ("make",), ("shop id",), ("../site id",)):
        done = ann.run("ssh", "node", *words, code=255)
        assert b"There are: site, web" in done.stderr and done.stdout == b"", done
    assert b"site, web" in ann.run("scp", "-O", "-q", "node:x", "/tmp/never", code=None).stderr
    assert b"may open no workspace" in people.nobody.run("ssh", "node", "id", code=255).stderr
    # The dedicated workspace needs no name, so scp and sftp still lead there.
    people.esc.web1.client.workspace.share(name="web", user="esc")
    try:
        assert people.esc.ssh("id -un") == "cs-esc\n"
        assert people.esc.ssh("web id -un") == "cs-web\n"
    finally:
        people.esc.web1.client.workspace.unshare(name="web", user="esc")


@pytest.fixture
def site(people: People, short: Path) -> list[str]:
    """The options of ssh for a colleague's own configuration."""
    return ["-F", str(people.ann.own_configuration(short))]


def test_a_configuration_of_ones_own_reaches_the_sshd_inside(
    people: People, web1: Web1, short: Path, site: list[str]
) -> None:
    def run(*words: str, code: int = 0) -> str:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        assert done.returncode == code, done
        return done.stdout

    said = run("ssh", *site, "site", "id -un; pwd; exit 7", code=7)
    assert said == "cs-site\n/srv/codesmith/workspaces/site\n"
    (short / "file").write_text("by scp\n")
    run("scp", *site, "-q", str(short / "file"), "site:file")
    assert run("ssh", *site, "site", "cat file") == "by scp\n"
    port, local = free_port(), free_port()
    argv = ["ssh", *site, "-L", f"127.0.0.1:{local}:127.0.0.1:{port}", "site"]
    argv.append(f"python3 -c {shlex.quote(ECHO)} tcp {port}")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout and server.stdout.readline() == b"listens\n"
        assert talk(local, b"by -L") == b"inside by -L"
        server.kill()
    # Another one's key opens it no more than another one's workspace.
    other = ["-o", f"IdentityFile={people.only.key}", "-o", "IdentitiesOnly=yes"]
    config = short / "other"
    config.write_text(Path(site[1]).read_text().replace(f"  IdentityFile {people.ann.key}\n", ""))
    refused = subprocess.run(["ssh", "-F", config, *other, "site", "id"], capture_output=True, stdin=subprocess.DEVNULL)
    assert refused.returncode == 255 and b"Permission denied" in refused.stderr, refused
    assert b"There are" in people.ann.run("ssh", "node", "codesmith-dial shop", code=255).stderr


def test_nobody_inside_reaches_the_terminal_outside(people: People, web1: Web1) -> None:
    """A guest in a dedicated workspace would read what its user types for another workspace, where no guest may be."""
    opens = "for one in /dev/pts/[0-9]*; do (exec 3<>$one) 2>/dev/null && echo $one; done; echo done"
    with Terminal(people.esc.argv("ssh", "-tt", "node"), dict(os.environ), rows=24, columns=80) as terminal:
        terminal.types("tty\r")
        terminal.wait_for("/dev/pts/[0-9]+\r\n")
        outside = "find /dev/pts -user cs-esc | wc -l; find /run/codesmith/pts -user cs-esc | wc -l"
        assert web1.on(outside).out.split() == ["1", "1"]
        assert web1.on("grep -c ' /run/codesmith/pts ' /proc/mounts").out == "1\n", "of many starts one has mounted it"
        assert len(people.esc.ssh(opens).split()) == 2, "its own terminal inside, and no other"
        terminal.types("exit\r")
        assert terminal.wait_for_end() == 0


def test_forwards_are_refused(people: People, web1: Web1, short: Path) -> None:
    local = free_port()
    with people.only.running("-L", f"127.0.0.1:{local}:127.0.0.1:22", "node", "echo up; exec cat") as process:
        assert process.stdout and process.stdout.readline() == b"up\n"
        assert talk(local, b"") == b""
    done = people.only.run("ssh", "-W", "127.0.0.1:22", "node", code=255)
    assert b"SSH-" not in done.stdout and b"forwarding failed" in done.stderr
    remote = ["-o", "ExitOnForwardFailure=yes", "-R"]
    assert people.only.run("ssh", *remote, f"{free_port()}:127.0.0.1:22", "node", "id", code=255).stdout == b""
    assert people.only.run("ssh", *remote, f"/tmp/s:{short}/s", "node", "id", code=255).stdout == b""
    with people.only.running("-D", str(local), "node", "echo up; exec cat") as process:
        assert process.stdout and process.stdout.readline() == b"up\n"
        with socket.create_connection(("127.0.0.1", local), 30) as connection:
            connection.sendall(b"\5\1\0")
            assert connection.recv(2) == b"\5\0"
            connection.sendall(b"\5\1\0\1" + socket.inet_aton("127.0.0.1") + b"\0\x16")
            # A refused channel is closed without an answer, or with a failure.
            assert connection.recv(10)[1:2] != b"\0"


def test_neither_agent_nor_x11_nor_environment_come_along(people: People, short: Path) -> None:
    show = 'echo "${SSH_AUTH_SOCK:-none} ${DISPLAY:-none} ${LD_PRELOAD:-none} ${PYTHONPATH:-none} ${LC_NAME:-none}"'
    with running_agent() as agent:
        environment = {
            **os.environ, "SSH_AUTH_SOCK": str(agent.path), "DISPLAY": ":1", "LD_PRELOAD": "", "PYTHONPATH": "/tmp",
            "LC_NAME": "de_DE",
        }  # fmt: skip
        options = ["-A", "-X", "-o", "IdentityAgent=SSH_AUTH_SOCK", "-o", "SendEnv=* LC_*", "-o", "SetEnv=BASH_ENV=/x"]
        argv = people.only.argv("ssh", *options, "node", show)
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "none none none none de_DE\n"


# All of them from inside a command: test_escapes_on_node.py. These lean on what begins it.
@pytest.mark.parametrize(
    "case",
    some_names_of(
        CASES,
        "other homes and workspaces",
        "sockets of the system",
        "signals",
        "privileges",
    ),
)
def test_no_way_leads_out(people: People, web1: Web1, case: str) -> None:
    script, wanted = CASES[case]
    done = people.esc.run("ssh", "node", "python3 -", typed=filled(web1, script).encode())
    assert done.stdout.decode() == wanted, done.stderr


def test_neither_the_door_nor_what_is_outside_is_reached_from_inside(people: People, web1: Web1) -> None:
    """What sshd has outside for the login of a dedicated workspace has the same uid: neither seen nor traced."""
    with people.esc.session():
        outside = web1.on("pgrep -u cs-esc -f 'sshd|/usr/lib/codesmith/enter'").out.split()
        inside = people.esc.ssh("pgrep -u cs-esc -x cat").split()
        own = web1.on("cat /sys/fs/cgroup/codesmith.slice/codesmith-workspace@esc.service/cgroup.procs", check=False)
        outside = [pid for pid in outside if pid not in own.out.split()]
        assert outside and inside
        script = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print([os.path.exists("/run/codesmith/door.sock"), [os.path.exists("/proc/%s" % pid) for pid in {outside}]])
print([libc.ptrace(16, int(pid), 0, 0) for pid in {outside}])
"""
        said = people.esc.run("ssh", "node", "python3 -", typed=script.encode()).stdout.decode()
        assert said.splitlines() == [f"[False, {[False] * len(outside)}]", f"{[-1] * len(outside)}"]
        # From inside they can be ended, by any signal: none of them leaves a core file, whatever the node does with
        # those. Of what the kernel does not dump the files in /proc are root's.
        assert set(web1.on(f"stat -c %U $(printf '/proc/%s/environ ' {' '.join(outside)})").out.split()) == {"root"}


def test_the_end_of_a_job_ends_no_session_of_the_dedicated_login(people: People, web1: Web1) -> None:
    """What the only job leaves behind is all killed, and the session's processes outside have the same uid."""
    leave = "setsid sleep 1000 >/dev/null 2>&1 & exit 3"
    assert people.esc.ssh(leave, code=3) == ""
    eventually(lambda: not web1.pids("cs-esc", "sleep"))
    with people.esc.running("-N", "-v", "node") as process:
        assert process.stderr
        while b"Entering interactive session" not in (line := process.stderr.readline()):
            assert line
        assert web1.client.workspace.exec(name="esc", argv=["sh", "-c", leave]).exit_code == 3
        eventually(lambda: not web1.pids("cs-esc", "sleep"))
        assert people.esc.ssh("echo well") == "well\n"
        assert process.poll() is None


def test_what_the_login_leaves_in_its_home_does_nothing_outside(people: People, web1: Web1) -> None:
    left = "mkdir -p .ssh; for one in .ssh/rc .bashrc .profile .bash_profile; do echo 'id >>/tmp/rc' >$one; done; "
    left += "echo MINE=1 >.ssh/environment; echo 'LD_PRELOAD DEFAULT=/x' >.pam_environment"
    people.esc.ssh(f"cd; {left}")
    assert people.esc.ssh('echo "${MINE:-none}"') == "none\n"
    assert not web1.on("test -e /tmp/rc", check=False).ok
    people.esc.ssh("cd; rm -rf .ssh .bashrc .profile .bash_profile .pam_environment")


@pytest.mark.parametrize(
    "change",
    [
        "unshare",
        "disable",
        pytest.param("assign", marks=pytest.mark.long),
        pytest.param("delete", marks=pytest.mark.long),
    ],
)
def test_who_may_not_enter_any_more_is_put_out(people: People, web1: Web1, change: str) -> None:
    client, nobody = web1.client, people.nobody
    client.workspace.create(name="guests", user="nobody" if change != "unshare" else "only")
    if change == "unshare":
        client.workspace.share(name="guests", user="nobody")
    with nobody.session() as process:
        if change == "unshare":
            client.workspace.unshare(name="guests", user="nobody")
        elif change == "assign":
            client.workspace.assign(name="guests", user="ann")
        elif change == "disable":
            client.user.disable(name="nobody")
        else:
            client.workspace.delete(name="guests")
        assert process.wait(20) == 255
    nobody.ssh("id", code=255)
    if change == "disable":
        client.user.enable(name="nobody")
        nobody.let_in()
    if change != "delete":
        client.workspace.delete(name="guests")


def test_who_enters_is_recorded(people: People, web1: Web1) -> None:
    people.only.ssh("true")
    people.only.run("ssh", "node", "codesmith-dial", typed=b"SSH-2.0-x\r\n", code=None)
    for _ in range(5):
        people.ann.run("ssh", "node", "nothing", code=255)
    records = [one for one in web1.client.audit.list(limit=1000) if one.method == "door.enter"]
    assert {one.peer_login for one in records} >= {"cs-only", "cs-ann"}
    entered = [one.target for one in records if one.outcome == "ok" and one.peer_login == "cs-only"]
    assert {(one["workspace"], one["user"]) for one in entered} == {("shop", "only")}
    assert [one["how"] for one in entered][:2] == ["dial", "command"]
    # Once a minute.
    assert 0 < sum(one.outcome == "not_found" and one.peer_login == "cs-ann" for one in records) <= 5


def test_a_login_that_is_no_user_gets_nothing(people: People, web1: Web1) -> None:
    for login in ("nobody", "cs-site"):
        said = web1.on(f"setpriv --reuid={login} --regid=nogroup --clear-groups python3 -c {shlex.quote(ASK)}").out
        assert said == '{"error":"this login may enter no workspace"}\n', said
