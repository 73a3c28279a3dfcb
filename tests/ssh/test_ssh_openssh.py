"""The second carrier: no configuration changes who logs in or what runs, no secret leaks, no process is left."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codesmith.errors import (
    AuthenticationFailed,
    HostKeyChanged,
    HostKeyUnknown,
    Unreachable,
)
from codesmith.paths import runtime_dir
from codesmith.secrets import ANSWER, PASSPHRASE, PASSWORD, Secrets
from codesmith.ssh.connect import connect
from codesmith.ssh.connection import OPENSSH
from codesmith.ssh.openssh import askpass, command, master, master_folder
from codesmith.ssh.openssh.mux import Control
from codesmith.ssh.script import run_script
from codesmith.ssh.target import Target, resolve
from tests.ssh.carrier_desk import SECRET, Desk, changed, run, unknown, wrong_password
from tests.ssh.remote_logins import add_login
from tests.ssh_agent import running_agent
from tests.waiting import eventually, is_running

pytestmark = pytest.mark.lab
# The longest name of a private folder for which a socket has room.
LONGEST = 66


# What the operator's configuration may not change

EVIL = """\
Host *
 ControlMaster auto
 ControlPath {folder}/cm-%h
 ControlPersist yes
 RemoteCommand touch /run/remote-command
 PermitLocalCommand yes
 LocalCommand touch {folder}/local-command
 RequestTTY force
 EscapeChar ~
 ForwardAgent yes
 ForwardX11 yes
 LocalForward 127.0.0.1:1 127.0.0.1:22
 RemoteForward 127.0.0.1:7777 127.0.0.1:22
 DynamicForward 127.0.0.1:1
 ExitOnForwardFailure yes
 StdinNull yes
 ForkAfterAuthentication yes
 SessionType subsystem
 SetEnv LC_ALL=C LC_EVIL=1
 StrictHostKeyChecking no
 UserKnownHostsFile {folder}/own_known_hosts
 GlobalKnownHostsFile {folder}/own_known_hosts
 KnownHostsCommand /bin/echo %H {key}
 NoHostAuthenticationForLocalhost yes
 UpdateHostKeys yes
 AddKeysToAgent yes
 LogLevel QUIET
 IdentityFile {identity}
"""
LOOK = 'id -un; tr "\\0" "\\n" </proc/$PPID/environ | grep -c -e ^SSH_AUTH_SOCK= -e ^DISPLAY= -e ^LC_EVIL=; tty; cat'


@pytest.mark.parametrize("jump", ["", "ProxyJump ops@{host}\n"], ids=["straight", "gateway"])
def test_the_configuration_changes_neither_who_we_are_nor_what_runs(desk: Desk, carrier: str, jump: str) -> None:
    ops = add_login(desk.node, "ops", password=SECRET)
    key = " ".join((desk.folder / "known_hosts").read_text().split()[1:3])
    agent = desk.undo.enter_context(running_agent())
    where = f"Host web\n HostName {'127.0.0.1' if jump else desk.host}\n HostKeyAlias {desk.host}\n"
    evil = EVIL.format(folder=desk.folder, identity=desk.identity, key=key)
    desk.configure(where + jump.format(host=desk.host) + f" IdentityAgent {agent.path}\n" + evil)
    with root_session(desk, "127.0.0.1"), root_session(desk, desk.host):
        with connect(resolve(desk.entry(user=ops, ssh=carrier))) as connection:
            done = run_script(connection, LOOK, b"input")
            assert done.stdout.decode().split("\n") == ["ops", "0", "not a tty", "input"]
        assert not (desk.node.root / "run/remote-command").exists()
        assert not (desk.folder / "local-command").exists()
        assert "7777" not in desk.node.run(["ss", "-ltn"]).stdout
        assert not (desk.folder / "own_known_hosts").exists()


def test_a_gateway_is_not_entered_by_a_connection_of_somebody_else(desk: Desk, carrier: str) -> None:
    key = " ".join((desk.folder / "known_hosts").read_text().split()[1:3])
    evil = EVIL.format(folder=desk.folder, identity=desk.identity, key=key)
    behind = f"Host web\n HostName 127.0.0.1\n HostKeyAlias {desk.host}\n ProxyJump nobody-there@{desk.host}\n"
    desk.configure(behind + evil)
    with root_session(desk, desk.host), pytest.raises(AuthenticationFailed, match="nobody-there"):
        run(resolve(desk.entry(ssh=carrier)))


class root_session:
    """The operator's own shared connection, as root."""

    def __init__(self, desk: Desk, host: str) -> None:
        self._path = desk.folder / f"cm-{host}"
        options = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        shared = ["-i", desk.identity, "-M", "-N", "-S", str(self._path)]
        self._master = ["/usr/bin/ssh", *options, *shared, f"root@{desk.host}"]

    def __enter__(self) -> None:
        self._process = subprocess.Popen(self._master, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self._path.exists)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def test_a_key_that_nobody_pinned_is_refused_whatever_the_configuration_says(desk: Desk, carrier: str) -> None:
    key = " ".join((desk.folder / "known_hosts").read_text().split()[1:3])
    evil = EVIL.format(folder=desk.folder, identity=desk.identity, key=key)
    desk.configure(f"Host web\n HostName {desk.host}\n VerifyHostKeyDNS yes\n{evil}")
    target = unknown(desk)
    with pytest.raises(HostKeyUnknown):
        run(replace(target, carrier=carrier))


def test_the_first_file_that_knows_the_host_decides(desk: Desk, carrier: str) -> None:
    right = (desk.folder / "known_hosts").read_text()
    target = changed(desk)
    (desk.folder / "own_known_hosts").write_text(right)
    desk.configure(f"Host web\n HostName {desk.host}\n UserKnownHostsFile {desk.folder}/own_known_hosts\n")
    with pytest.raises(HostKeyChanged):
        run(replace(resolve(desk.entry()), carrier=carrier))
    assert target.known_hosts


def test_a_revoked_key_is_refused_wherever_it_is_revoked(desk: Desk, carrier: str) -> None:
    (desk.folder / "own_known_hosts").write_text(f"@revoked {(desk.folder / 'known_hosts').read_text()}")
    desk.configure(
        f"Host web\n HostName {desk.host}\n IdentityFile {desk.identity}\n"
        f" UserKnownHostsFile {desk.folder}/own_known_hosts\n"
    )
    with pytest.raises(HostKeyChanged, match="is revoked"):
        run(replace(resolve(desk.entry()), carrier=carrier))


# Secrets


def test_a_secret_is_in_no_argument_environment_or_file(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    start = master.run

    def look(command: Any, log: Any, asked: askpass.AskPass, deadline: Any) -> int:
        status = start(command, log, asked, deadline)
        files = [path for path in log.path.parent.iterdir() if path.is_file()]
        seen.extend([*command, *asked.environment.values(), *(path.read_text() for path in files)])
        return status

    monkeypatch.setattr(master, "run", look)
    target = replace(wrong_password(desk), carrier=OPENSSH)
    assert run(target, secrets=Secrets(lambda _: SECRET)) == (OPENSSH, "ops")
    assert seen
    assert not [word for word in seen if SECRET in word]


QUESTIONS = {
    "Enter passphrase for key '/home/ada/.ssh/id': ": (PASSPHRASE, "/home/ada/.ssh/id"),
    "ops@web.example.org's password: ": (PASSWORD, "ops@10.0.0.1:22"),
    "ops@10.0.0.1's password: ": (PASSWORD, "ops@10.0.0.1:22"),
    "(ops@web.example.org) Password: ": (PASSWORD, "ops@10.0.0.1:22"),
    "(ops@web.example.org) Token: ": (ANSWER, "ops@10.0.0.1:22 Token: "),
    "ops@bastion's password: ": (ANSWER, "ops@10.0.0.1:22 ops@bastion's password: "),
    "root@web.example.org's password: ": (ANSWER, "ops@10.0.0.1:22 root@web.example.org's password: "),
    "(ops@bastion) Password: ": (ANSWER, "ops@10.0.0.1:22 (ops@bastion) Password: "),
    "Enter PIN for ED25519-SK key /home/ada/.ssh/id_sk: ": (
        ANSWER,
        "ops@10.0.0.1:22 Enter PIN for ED25519-SK key /home/ada/.ssh/id_sk: ",
    ),
}


@pytest.mark.parametrize(("question", "wanted"), QUESTIONS.items(), ids=QUESTIONS)
def test_a_question_of_another_host_never_gets_the_nodes_password(question: str, wanted: tuple[str, str]) -> None:
    hop = Target("web1", "10.0.0.1", user="ops", alias="web", host_key_alias="web.example.org")
    found = askpass.secret_request(question, hop)
    assert (found.kind, found.of) == wanted


# Processes


CONNECT = """
import sys, time
from pathlib import Path
from codesmith.nodes.registry import Node
from codesmith.ssh.connect import connect
from codesmith.ssh.openssh.command import MASTER
from codesmith.ssh.target import resolve
MASTER["ControlPersist"] = sys.argv[2]
connection = connect(resolve(Node("web1", Path(sys.argv[1]), "web", user="root", ssh="openssh")))
print("connected", flush=True)
time.sleep(600)
"""


@contextmanager
def killed_owner(desk: Desk, orphan_s: int) -> Iterator[tuple[int, Path]]:
    """Let a process connect, and kill it afterwards; give the pid and the folder of its master, which ends by itself
    after `orphan_s` without an owner."""
    words = [sys.executable, "-c", CONNECT, str(desk.folder / "nodes.yaml"), str(orphan_s)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout and owner.stdout.readline() == "connected\n"
        (private,) = runtime_dir().glob("ssh-*")
        with Control(str(private / "c"), 5) as control:
            pid = control.pid()
        yield pid, private
        owner.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("jump", [False, True], ids=["straight", "gateway"])
def test_nothing_outlives_a_process_that_is_killed(desk: Desk, jump: bool) -> None:
    if jump:
        behind = f"Host web\n HostName 127.0.0.1\n HostKeyAlias {desk.host}\n ProxyJump root@{desk.host}\n"
        desk.configure(f"{behind}Host *\n IdentityFile {desk.identity}\n")
    assert command.MASTER["ControlPersist"] == "5"
    # ssh counts whole seconds: one may be over at once.
    with killed_owner(desk, orphan_s=3) as (pid, private):
        assert ssh_processes(private)
    eventually(lambda: not is_running(pid), within_s=30)
    eventually(lambda: not ssh_processes(private), within_s=30)
    assert private.exists()
    master_folder.MasterFolder().remove()
    assert not private.exists()


def test_a_master_that_was_left_is_ended_by_the_next_connection(desk: Desk) -> None:
    with killed_owner(desk, orphan_s=600) as (pid, private):
        pass
    assert is_running(pid)
    assert run(resolve(desk.entry(ssh=OPENSSH))) == (OPENSSH, "root")
    eventually(lambda: not is_running(pid))
    assert not private.exists()


def ssh_processes(private: Path) -> list[str]:
    """Return the command lines of the processes that know a private folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(private) in words:
            found.append(words)
    return found


def test_a_network_that_dies_ends_the_connection_with_the_reason(desk: Desk, quick_alive: str) -> None:
    lost, told = threading.Event(), list[str]()
    with connect(resolve(desk.entry(ssh=OPENSSH))) as connection:
        connection.on_lost(lambda why: (told.append(why), lost.set()))
        desk.node.cut_network()
        try:
            assert lost.wait(30)
        finally:
            desk.node.restore_network()
        assert told == [connection.why_lost] == [quick_alive]
        with pytest.raises(Unreachable, match=quick_alive):
            run_script(connection, "true")


def test_what_sshd_says_when_it_ends_a_login_is_told(desk: Desk) -> None:
    key = (desk.node.root / "root/.ssh/authorized_keys").read_text()
    ops = add_login(desk.node, "ops", password=SECRET)
    (desk.node.root / "home/ops/.ssh/authorized_keys").write_text(key)
    note = desk.node.root / "etc/nologin"
    note.write_text("maintenance until noon\n")
    try:
        with pytest.raises(AuthenticationFailed, match=r"ended the login; it said: maintenance until noon") as caught:
            run(resolve(desk.entry(user=ops, ssh=OPENSSH)))
    finally:
        note.unlink()
    assert caught.value.hint.endswith("journalctl -u ssh -u sshd -n 20")


def test_an_sshd_that_ends_the_connection_is_told(desk: Desk) -> None:
    lost = threading.Event()
    with connect(resolve(desk.entry(ssh=OPENSSH))) as connection:
        connection.on_lost(lambda _: lost.set())
        desk.node.run(["sh", "-c", "kill $(pgrep -f 'sshd: roo[t]')"])
        assert lost.wait(15)
        assert connection.why_lost == "closed by the node"


def test_the_control_socket_fits_into_the_longest_state_directory(
    desk: Desk, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path_factory.mktemp("h")
    home = base / ("x" * (LONGEST - len(os.fsencode(base)) - len("//run")))
    home.mkdir()
    monkeypatch.setenv("CODESMITH_HOME", str(home))
    assert len(os.fsencode(runtime_dir())) == LONGEST
    assert run(resolve(desk.entry(ssh=OPENSSH))) == (OPENSSH, "root")


def test_a_path_may_have_any_character(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    home = desk.folder / "a b%h'"
    home.mkdir()
    monkeypatch.setenv("CODESMITH_HOME", str(home))
    identity = home / "id % key"
    identity.write_bytes(Path(desk.identity).read_bytes())
    identity.chmod(0o600)
    desk.configure(f"Host web\n HostName {desk.host}\n")
    assert run(resolve(desk.entry(ssh=OPENSSH, identity=str(identity)))) == (OPENSSH, "root")
    add_login(desk.node, "ops", password=SECRET)
    target = replace(wrong_password(desk), carrier=OPENSSH)
    assert run(target, secrets=Secrets(lambda _: SECRET)) == (OPENSSH, "ops")
    assert shlex.quote(str(home)) != str(home)
