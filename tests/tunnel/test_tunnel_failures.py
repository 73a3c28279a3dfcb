"""Every failure as a person sees it: one error, one hint and the exit code, in time and without a traceback."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import tests.tunnel.tunnel_lab_agent as lab_agent
from codesmith.nodes.registry import Registry
from codesmith.tunnel import control, identity
from codesmith.tunnel.local_endpoint import endpoint_path
from tests.waiting import eventually

pytestmark = pytest.mark.lab
TOP = Path(control.__file__).parents[2]
INV = str(Path(sys.executable).with_name("inv"))
WITHIN_S = 15


class Desk:
    """An operator's files and commands."""

    def __init__(self, far, folder: Path, ssh_config: Path) -> None:
        self.far, self.folder, self.ssh_config = far, folder, ssh_config
        self.key = far.address.known_hosts.read_text().split()[1:3]

    def write(self, **changes: object) -> None:
        """Write nodes.yaml with one node, `web1`, that is right except for `changes`."""
        address = self.far.address
        entry = {"host": address.host, "user": "root", "identity": str(address.identity), **changes}
        (self.folder / "nodes.yaml").write_text(json.dumps({"nodes": {"web1": entry}}))
        self.pin(address.host, *self.key)

    def pin(self, *words: str) -> None:
        (self.folder / "known_hosts").write_text(" ".join(words) + "\n")

    @property
    def node(self):
        return Registry.load(self.folder / "nodes.yaml").get("web1")

    def start(self, command: str = "node.version") -> subprocess.Popen[str]:
        environment = {**os.environ, "CODESMITH_NODES": str(self.folder / "nodes.yaml")}
        return subprocess.Popen(
            [INV, command], cwd=TOP, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def fails(self, code: int, words: str, running: subprocess.Popen[str] | None = None) -> None:
        """Check what every failure promises."""
        with running or self.start() as process:
            try:
                _, said = process.communicate(timeout=WITHIN_S)
            finally:
                process.kill()
        assert "Traceback" not in said
        lines = said.splitlines()
        assert [line.split(":")[0] for line in lines if line.startswith(("error:", "hint:"))] == ["error", "hint"], said
        assert lines[0].startswith("error: ")
        assert words in lines[0]
        assert (process.returncode, len(lines[-1]) > len("hint: ")) == (code, True), said


@pytest.fixture
def desk(far, node_id, home, tmp_path, ssh_config, sshd):
    desk = Desk(far, tmp_path, ssh_config)
    desk.write()
    return desk


@pytest.fixture
def small_disk(home):
    """A disk of 64 kB, for as long as the test runs."""
    folder = home / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def speaking(words: bytes):
    """A port where something other than sshd answers; without `words` it stays silent."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as accepted:

        def serve() -> None:
            try:
                while True:
                    peer = accepted.enter_context(server.accept()[0])
                    if words:
                        peer.sendall(words)
                        peer.close()
            except OSError:
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def behind(desk: Desk, gateway: str) -> None:
    desk.ssh_config.write_text(f"Host web\n HostName 127.0.0.1\n HostKeyAlias web\n {gateway}\n")
    desk.write(host="web")


def other_key(desk: Desk) -> list[str]:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", desk.folder / "other"], check=True)
    return (desk.folder / "other.pub").read_text().split()[:2]


def wrong_identity(desk: Desk) -> None:
    other_key(desk)
    desk.write(identity=str(desk.folder / "other"))


def foreign_file(desk: Desk) -> None:
    endpoint_path(desk.node).write_text("mine")


def stranger(desk: Desk) -> None:
    desk.far.run(["userdel", "--remove", "stranger"], check=False)
    desk.far.add_login("stranger")
    desk.write(user="stranger")


# What is wrong, the exit code, and a word of the error.
FAILURES: dict[str, tuple[Callable[[Desk], object], int, str]] = {
    "no sshd": (lambda desk: desk.write(port=9), 5, "refuses connections on port 9"),
    "no address": (lambda desk: desk.write(host="nowhere.invalid"), 5, "no address is known"),
    "no route": (lambda desk: desk.write(host="2001:db8::1"), 5, "no route"),
    "unknown host key": (lambda desk: desk.pin("elsewhere", *desk.key), 4, "nobody has trusted its host key"),
    "changed host key": (lambda desk: desk.pin(desk.far.record.host, *other_key(desk)), 4, "HOST KEY CHANGED"),
    "revoked host key": (lambda desk: desk.pin("@revoked", "*", *desk.key), 4, "revoked"),
    "wrong key": (wrong_identity, 4, "sshd refused root"),
    "wrong node id": (lambda desk: identity.remember(desk.node, "another"), 4, "another node than before"),
    "login not in the group": (stranger, 5, "codesmith-clients"),
    "gateways in a circle": (lambda desk: behind(desk, "ProxyJump web"), 1, "ProxyJump hosts in a row"),
    "no gateway": (lambda desk: behind(desk, "ProxyJump nowhere.invalid"), 5, "no address is known"),
    "proxy command that fails": (lambda desk: behind(desk, "ProxyCommand false"), 5, "ProxyCommand ended"),
    "bad ssh_config": (lambda desk: desk.ssh_config.write_text("Nonsense yes\n"), 1, "ssh refuses its configuration"),
    "foreign file": (foreign_file, 1, "not a socket of CodeSmith"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_is_one_error_and_one_hint(desk: Desk, case: str) -> None:
    prepare, code, words = FAILURES[case]
    prepare(desk)
    desk.fails(code, words)
    if case == "foreign file":
        assert endpoint_path(desk.node).read_text() == "mine"


@pytest.mark.parametrize(
    ("line", "words"), [("ForceCommand echo no entry", "ForceCommand"), ("MaxSessions 0", "MaxSessions")]
)
def test_what_sshd_forbids_is_one_error_and_one_hint(desk: Desk, sshd, line: str, words: str) -> None:
    sshd(line)
    desk.fails(5, words)


def test_a_stopped_agent_is_one_error_and_one_hint(desk: Desk) -> None:
    desk.far.run(["systemctl", "stop", "codesmith-agent"])
    try:
        desk.fails(5, "is stopped")
    finally:
        desk.far.run(["systemctl", "start", "codesmith-agent"])
        lab_agent.wait_for_socket(desk.far)


def test_something_else_than_sshd_is_one_error_and_one_hint(desk: Desk) -> None:
    with speaking(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        desk.write(host="127.0.0.1", port=port)
        desk.fails(5, "does not speak SSH")


@pytest.mark.parametrize("command", ["node.version", "node.prepare"])
def test_a_full_and_a_read_only_disk_are_one_error_and_one_hint(desk: Desk, small_disk, monkeypatch, command) -> None:
    monkeypatch.setenv("CODESMITH_HOME", str(small_disk))
    fill = small_disk / "fill"
    with contextlib.suppress(OSError), fill.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    desk.fails(1, "No space left on device", desk.start(command))
    fill.unlink()
    # The forwarder that could not start may still be ending.
    eventually(lambda: subprocess.run(["mount", "-o", "remount,ro", small_disk], capture_output=True).returncode == 0)
    desk.fails(1, "Read-only file system", desk.start(command))


@pytest.mark.long
def test_silence_is_one_error_and_one_hint_in_time(desk: Desk, far, tmp_path) -> None:
    """A dead network under a ready endpoint, and an sshd that hangs: each takes its time limit, so both run at once."""
    with desk.start("node.connect") as connecting:
        assert connecting.wait() == 0
    (tmp_path / "silent").mkdir()
    silent = Desk(far, tmp_path / "silent", desk.ssh_config)
    with speaking(b"") as port:
        silent.write(host="127.0.0.1", port=port)
        far.cut_network()
        try:
            commands = [(desk, desk.start()), (silent, silent.start())]
            desk.fails(5, "web1", commands[0][1])
            silent.fails(5, "no answer within 10 s", commands[1][1])
        finally:
            far.restore_network()
