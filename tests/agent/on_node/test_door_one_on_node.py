"""`ssh demo.web1.codesmith` on real nodes: all that people do with OpenSSH, and all that must not work."""

from __future__ import annotations

import concurrent.futures
import functools
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.on_node.door_one import HOSTILE, Door, alias, connected, free_port, generate_key, socks, talk
from tests.agent.on_node.openssh_tools import git, resize_interrupt_and_exit, rsync_twice, scp_there_and_back
from tests.agent.on_node.terminal import Terminal
from tests.releases import NEWEST_FIRST
from tests.ssh_agent import running_agent
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, NEWEST_FIRST]
WORKSPACE = "/srv/codesmith/workspaces/demo"


@pytest.fixture(scope="module")
def old_token(door: Door) -> tuple[str, float]:
    """A token that nobody uses, and when it was given out."""
    return str(door.dial("demo")["token"]), time.monotonic()


@pytest.fixture
def echo(door: Door) -> Iterator[int]:
    """The port of a server that listens inside the workspace, as an editor's does."""
    port = free_port()
    with door.serving("demo", port):
        yield port


def test_a_command_runs_inside_with_its_exit_code(door: Door, old_token: object) -> None:
    said = door.ssh("demo", "id -un; pwd; echo $HOME $CODESMITH_WORKSPACE $SHELL; exit 7", code=7)
    assert said.split() == ["cs-demo", WORKSPACE, "/srv/codesmith/home/cs-demo", "demo", "/bin/bash"]
    done = door.run("ssh", alias("demo"), "cat; echo wrong >&2", typed=bytes(range(256)) * 4000)
    assert (done.stdout, done.stderr) == (bytes(range(256)) * 4000, b"wrong\n")
    assert door.run("ssh", alias("demo"), "kill -TERM $$", code=None).returncode not in (0, 1)


def test_it_is_the_same_place_as_that_of_commands_of_the_api(door: Door) -> None:
    door.web1.client.workspace.exec(name="demo", argv=["sh", "-c", "echo from exec > /tmp/here"])
    assert door.ssh("demo", "cat /tmp/here") == "from exec\n"
    assert not door.web1.on("test -e /tmp/here", check=False).ok
    by_exec = door.web1.client.workspace.exec(name="demo", argv=["readlink", "/proc/self/ns/net", "/proc/self/ns/mnt"])
    assert door.ssh("demo", "readlink /proc/self/ns/net /proc/self/ns/mnt") == by_exec.stdout
    assert "codesmith-workspace@demo.service" in door.ssh("demo", "cat /proc/self/cgroup")


def test_a_terminal_has_a_size_and_ctrl_c(door: Door) -> None:
    environment = {**door.person.environment, "TERM": "xterm"}
    with Terminal(door.argv("ssh", "-tt", alias("demo")), environment, rows=31, columns=97) as terminal:
        terminal.types("PS1=; stty size; tty\r")
        terminal.wait_for("31 97\r\n")
        terminal.wait_for("/dev/pts/[0-9]+\r\n")
        sleeps = functools.partial(door.run, "ssh", alias("demo"), "pgrep -x sleep", code=None)
        assert resize_interrupt_and_exit(terminal, lambda: sleeps().stdout) == 5


def test_open_shell_enters(door: Door) -> None:
    said = door.person.runs("inv workspace.open demo --shell", typed="id -un; pwd; exit 7\n", code=7)
    assert said.out.split()[-2:] == ["cs-demo", WORKSPACE]


@pytest.mark.parametrize("protocol", ["-O", pytest.param("-s", marks=pytest.mark.long)])
def test_scp_copies_both_ways(door: Door, short: Path, protocol: str) -> None:
    sent, returned = scp_there_and_back(door, alias("demo"), short, protocol)
    assert returned == sent


def test_sftp_lists_and_copies(door: Door, short: Path) -> None:
    (short / "file").write_text("by sftp\n")
    batch = f"put {short}/file data/by-sftp\nls -l data/by-sftp\nget data/by-sftp {short}/back\n"
    done = door.run("sftp", "-q", "-b", "-", alias("demo"), typed=batch.encode())
    assert b"data/by-sftp" in done.stdout
    assert (short / "back").read_text() == "by sftp\n"


def test_rsync_copies_what_differs(door: Door, short: Path) -> None:
    first, second = rsync_twice(door, alias("demo"), short)
    assert first.count("<f") == 20 and second == ""
    assert door.ssh("demo", "cat data/synced/*/file | sort -n | tail -1") == "19\n"


def test_git_clones_and_pushes(door: Door, short: Path) -> None:
    door.web1.client.repo.init(workspace="demo", name="site")
    run = functools.partial(git, door, door.person.environment)
    run(short, "clone", "-q", f"{alias('demo')}:code/site", "site")
    run(short / "site", "commit", "-q", "--allow-empty", "-m", "by git")
    run(short / "site", "push", "-q", "origin", "HEAD:pushed")
    assert door.ssh("demo", "git -C code/site log -1 --format=%s pushed") == "by git\n"
    run(short, "clone", "-q", "-b", "pushed", f"ssh://{alias('demo')}{WORKSPACE}/code/site", "again")


def test_ports_are_forwarded_both_ways(door: Door, echo: int) -> None:
    local = free_port()
    with door.running("-N", "-L", f"127.0.0.1:{local}:127.0.0.1:{echo}", alias("demo")):
        assert talk(local, b"by -L") == b"inside by -L"
    with socket.create_server(("127.0.0.1", 0)) as here:
        there = free_port()
        forward = f"127.0.0.1:{there}:127.0.0.1:{here.getsockname()[1]}"
        ask = f"import socket; print(socket.create_connection(('127.0.0.1', {there})).recv(9).decode())"
        with door.running("-R", forward, alias("demo"), f'python3 -c "{ask}"') as process:
            connection, _ = here.accept()
            with connection:
                connection.sendall(b"from here")
            assert process.stdout and process.stdout.read() == b"from here\n"


def test_a_socket_inside_is_forwarded(door: Door, short: Path) -> None:
    with door.serving("demo", "tmp/s"):
        with door.running("-N", "-L", f"{short}/s:{WORKSPACE}/tmp/s", alias("demo")) as forwarding:
            with eventually(lambda: connected(short / "s"), within_s=20) as connection:
                connection.sendall(b"by a socket")
                connection.shutdown(socket.SHUT_WR)
                assert b"".join(iter(lambda: connection.recv(100), b"")) == b"inside by a socket"
            assert forwarding.poll() is None
    door.ssh("demo", "rm -f tmp/s")


def test_an_editor_finds_its_server_and_has_many_channels(door: Door, echo: int) -> None:
    """VS Code's pattern: one connection with a SOCKS proxy, over which it reaches a server that it started inside."""
    proxy = free_port()
    with door.running("-D", str(proxy), alias("demo"), "echo ready; exec cat") as process:
        assert process.stdout and process.stdout.readline() == b"ready\n"
        with concurrent.futures.ThreadPoolExecutor(30) as pool:
            data = [b"%d" % number * 20_000 for number in range(60)]
            assert list(pool.map(lambda one: socks(proxy, echo, one), data)) == [b"inside " + one for one in data]


def test_the_operators_agent_is_forwarded_on_demand(door: Door, short: Path) -> None:
    key = generate_key(short, "mine")
    with running_agent() as agent:
        agent.add(key.read_text())
        by_agent = {**door.person.environment, "SSH_AUTH_SOCK": str(agent.path)}
        argv = door.argv("ssh", "-A", alias("demo"), 'echo "$SSH_AUTH_SOCK"; ssh-add -L')
        done = subprocess.run(argv, env=by_agent, capture_output=True, text=True, check=True)
    assert key.with_suffix(".pub").read_text().split()[1] in done.stdout
    assert door.ssh("demo", 'echo "${SSH_AUTH_SOCK:-none}"') == "none\n"


def test_without_a_network_neither_the_node_nor_another_workspace_is_reached(door: Door, echo: int) -> None:
    client = door.web1.client
    client.workspace.create(name="closed")
    client.sandbox.create(workspace="closed", network="none")
    assert door.run("ssh", "-W", "127.0.0.1:22", alias("other"), typed=b"").stdout.startswith(b"SSH-2.0-")
    for port in (22, echo):
        done = door.run("ssh", "-W", f"127.0.0.1:{port}", alias("closed"), code=255)
        assert b"open failed" in done.stderr and done.stdout == b""
    host = door.person.lab_entry("web1")["host"]
    assert b"open failed" in door.run("ssh", "-W", f"{host}:22", alias("closed"), code=255).stderr
    assert door.ssh("closed", "tail -n +3 /proc/net/dev | cut -d: -f1").split() == ["lo"]
    client.workspace.delete(name="closed")


@pytest.mark.parametrize(
    "path", ["/run/codesmith/agent.sock", "/run/codesmith-helper/helper.sock", "/run/codesmith/workspaces/other.sock",
             "/run/dbus/system_bus_socket", "/run/systemd/private"],
)  # fmt: skip
def test_the_sockets_of_the_node_are_not_reached(door: Door, short: Path, path: str) -> None:
    assert door.web1.on(f"test -S {path}", check=False).ok or "workspaces" in path
    with door.running("-N", "-L", f"{short}/s:{path}", alias("demo")):
        with eventually(lambda: connected(short / "s"), within_s=20) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\n\r\n")
            try:
                assert connection.recv(100) == b""
            except ConnectionResetError:
                pass


def test_the_accounts_inside_stay_when_those_of_the_node_change(door: Door) -> None:
    """useradd puts a new file in the place of /etc/passwd, which takes away whatever is mounted on the old one."""
    accounts = door.ssh("demo", "cat /etc/passwd /etc/group")
    door.web1.on("useradd --system passing; userdel passing")
    assert door.ssh("demo", "cat /etc/passwd /etc/group") == accounts
    door.web1.on("echo 127.0.0.9 new.name > /etc/hosts.new; mv /etc/hosts.new /etc/hosts")
    assert "new.name" in door.ssh("demo", "getent hosts 127.0.0.9")


def test_only_the_login_comes_in(door: Door) -> None:
    for login in ("root", "cs-other", "nobody", "codesmith"):
        done = door.run("ssh", "-l", login, alias("demo"), "id", code=255)
        assert b"Permission denied" in done.stderr and done.stdout == b""
    assert door.run("ssh", "-l", "cs-demo", alias("demo"), "id -un").stdout == b"cs-demo\n"


def test_what_the_login_left_in_its_home_is_not_run_by_sshd(door: Door) -> None:
    left = "mkdir -p .ssh; echo 'touch /tmp/rc' > .ssh/rc; echo MINE=1 > .ssh/environment"
    door.inside("demo", f"{left}; cd; {left}")  # sshd takes the workspace for the home
    assert door.ssh("demo", 'echo "${MINE:-none}"; ls /tmp/rc 2>/dev/null', code=None) == "none\n"


def test_another_key_than_the_dialled_one_is_refused(door: Door, short: Path) -> None:
    other = generate_key(short, "other")

    def enter(key: Path) -> subprocess.CompletedProcess[str]:
        options = {
            "ProxyCommand": door.proxy_command("demo").replace("%", "%%"),
            "UserKnownHostsFile": next(door.config.parent.glob("known_hosts")),
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "User": "workspace",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        argv = ["ssh", "-F", "none", *words, "-i", str(key), alias("demo"), "id -un"]
        given = {"env": door.person.environment, "stdin": subprocess.DEVNULL}
        return subprocess.run(argv, capture_output=True, text=True, check=False, **given)  # type: ignore[call-overload]

    def refused() -> bool:
        done = enter(other)
        return (done.returncode, done.stdout) == (255, "") and "Permission denied (publickey)" in done.stderr

    assert refused()
    # Nor does the key of the user who may enter by the API.
    door.web1.client.user.set_keys(name="demo", ssh_keys=[other.with_suffix(".pub").read_text().strip()])
    assert refused()
    assert enter(door.key).stdout == "cs-demo\n"


def test_another_host_key_than_the_dialled_one_is_refused(door: Door, short: Path) -> None:
    door.ssh("demo", "true")
    other = generate_key(short, "host").with_suffix(".pub").read_text().split()[1]
    pins = short / "pins"
    pins.write_text(f"{alias('demo')} ssh-ed25519 {other}\n")
    done = door.run("ssh", "-o", f"UserKnownHostsFile={pins}", alias("demo"), "id", code=255)
    assert b"HOST IDENTIFICATION HAS CHANGED" in done.stderr and done.stdout == b""


def test_a_token_works_once_and_only_as_it_is(door: Door) -> None:
    token = str(door.dial("demo")["token"])
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    assert door.stream(wrong)[0] == 401
    status, banner = door.stream(token)
    assert (status, banner[:8]) == (101, b"SSH-2.0-")
    assert door.stream(token)[0] == 401


def test_bytes_before_the_answer_are_refused(door: Door) -> None:
    token = str(door.dial("demo")["token"])
    assert door.stream(token, hasty=b"SSH-2.0-Hasty\r\n")[0] == 400


def test_the_token_of_a_workspace_leads_into_no_other_one(door: Door) -> None:
    """The client decides nothing but its own alias: the host key of the other workspace is another one."""
    keys = {name: door.dial(name)["host_keys"] for name in ("demo", "other")}
    assert keys["demo"] != keys["other"]
    assert door.ssh("demo", "echo $CODESMITH_WORKSPACE; ls /srv/codesmith/workspaces") == "demo\ndemo\n"
    assert door.ssh("other", "echo $CODESMITH_WORKSPACE; ls /srv/codesmith/workspaces") == "other\nother\n"


@pytest.mark.long  # tests/agent/frontend has it with a limit of its own
def test_a_token_expires(door: Door, old_token: tuple[str, float]) -> None:
    """Before the agent is restarted, which would end it too."""
    token, given_at = old_token
    time.sleep(max(given_at + 61 - time.monotonic(), 0))
    assert door.stream(token)[0] == 401


def test_the_operators_own_configuration_decides_neither_who_nor_what(door: Door, short: Path) -> None:
    own = f'Include "{door.person.home}/ssh/*/config"\nHost *{HOSTILE.replace("<folder>", str(short))}'
    (short / "config").write_text(own)
    argv = ["ssh", "-F", str(short / "config"), alias("demo"), "id -un; exit 7"]
    done = subprocess.run(argv, env=door.person.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (7, "cs-demo\n"), done.stderr
    assert [path.name for path in short.iterdir()] == ["config"]
    assert door.ssh("demo", "ls /tmp/was-run 2>/dev/null", code=None) == ""


@pytest.mark.long  # tests/ssh/test_ssh_keys.py has such a login
def test_a_login_of_a_domain_prepares_and_enters(door: Door) -> None:
    person, login = door.person, "ops@corp.example"
    folder = f"'/home/{login}/.ssh'"
    person.on(
        "web1",
        f"useradd --badname --create-home --shell /bin/bash -- {login}; install -d -m 700 -o {login} {folder}; "
        f"install -m 600 -o {login} /root/.ssh/authorized_keys {folder}; "
        f"echo '\"{login}\" ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/domain",
    )
    with door.with_entry(user=login):
        person.runs("inv node.prepare")
        assert login in person.on("web1", "getent group codesmith-clients").out
        said = person.runs("inv workspace.open demo --shell", typed="id -un; exit 7\n", code=7)
        assert said.out.split()[-1] == "cs-demo"
        rows = person.runs("inv node.doctor --json").json
        assert {row["status"] for row in rows if row["node"] == "web1"} == {"ok"}


def test_an_endpoint_that_is_not_open_is_opened_by_ssh(door: Door) -> None:
    door.person.runs("inv node.disconnect")
    assert door.ssh("demo", "id -un", typed=b"not for the forwarder") == "cs-demo\n"


@pytest.mark.parametrize(
    ("entry", "policy"),
    [({"ssh": "openssh"}, ""), pytest.param({}, "AllowStreamLocalForwarding no", marks=pytest.mark.long)],
)
def test_it_goes_through_whatever_carries_the_tunnel(door: Door, entry: dict[str, str], policy: str) -> None:
    person = door.person
    drop_in = "/etc/ssh/sshd_config.d/00-policy.conf"
    door.web1.on(f"echo '{policy}' > {drop_in}; systemctl reload ssh")
    person.runs("inv node.disconnect --all")
    try:
        with door.with_entry(**entry):
            person.runs("inv ssh.config --print")
            assert [row["carrier"] for row in person.runs("inv node.connect --json").json] == [
                entry.get("ssh", "fabric")
            ]
            data = os.urandom(5_000_000)
            assert door.run("ssh", alias("demo"), "cat", typed=data).stdout == data
            assert door.ssh("demo", "exit 7", code=7) == ""
            with door.session("demo") as process, door.session("other"):
                assert process.stdin and process.stdout
                process.stdin.close()
                assert process.wait(30) == 0
    finally:
        door.web1.on(f"rm {drop_in}; systemctl reload ssh")


def test_it_goes_through_a_port(door: Door) -> None:
    person, number = door.person, free_port()
    with door.with_entry(endpoint=f"tcp:{number}"):
        (ready,) = person.runs("inv node.connect --json").json
        words = shlex.split(door.proxy_command("demo"))
        words[3] = f"127.0.0.1:{number}"
        command = shlex.join([*words, ready["token_file"]])
        data = os.urandom(5_000_000)
        assert door.run("ssh", "-o", f"ProxyCommand={command}", alias("demo"), "cat", typed=data).stdout == data
        Path(ready["token_file"]).write_text("another-token-of-somebody\n")
        done = door.run("ssh", "-o", f"ProxyCommand={command}", alias("demo"), "id", code=255)
        assert b"error: no valid token" in done.stderr


def test_an_old_client_reads_the_configuration(door: Door, release: str, short: Path) -> None:
    """OpenSSH 8.4 refuses a file with a keyword that it does not know, also for other hosts."""
    if release == "bullseye":
        (short / "ssh").write_text("#!/bin/sh\necho OpenSSH_8.4p1 >&2\n")
        (short / "ssh").chmod(0o755)
        text = door.person.runs(f"PATH={short}:$PATH inv ssh.config --print").out
        reads = "ssh -G -F /tmp/c other.host && ssh -G -F /tmp/c"
        said = door.web1.on(f"cat > /tmp/c <<'E'\n{text}E\n{reads} {alias('demo')}").out
        assert "\nuser workspace\n" in said
        door.person.runs("inv ssh.config --print")
