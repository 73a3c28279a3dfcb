"""A workspace as an operator enters it: OpenSSH by the alias, and the bare protocol beneath."""

from __future__ import annotations

import json
import shlex
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.agent.on_node.web1 import Web1

PATIENCE_S = 60
# Settings of the operator that lead elsewhere, or run something.
HOSTILE = """
 ControlMaster auto
 ControlPath <folder>/cm-%h-%p
 ControlPersist yes
 RemoteCommand touch /tmp/was-run
 User root
 Port 1
 ProxyJump nowhere.invalid
 SessionType none
 ForkAfterAuthentication yes
 StdinNull yes
 PermitLocalCommand yes
 LocalCommand touch <folder>/was-run
 ForwardAgent yes
 ForwardX11 yes
 Tunnel yes
 StrictHostKeyChecking no
 KnownHostsCommand /usr/bin/touch <folder>/was-run
 PreferredAuthentications password
 CanonicalizeHostname yes
"""
# A server that listens on a port or a socket, and sends back what it gets.
ECHO = """
import socket, sys, threading
kind, place = sys.argv[1:]
server = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(place if kind == "unix" else ("127.0.0.1", int(place)))
server.listen(256)
print("listens", flush=True)
def serve(connection):
    with connection:
        data = b"".join(iter(lambda: connection.recv(65536), b""))
        connection.sendall(b"inside " + data)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],)).start()
"""


class Door:
    """The way into the workspaces of one node."""

    def __init__(self, web1: Web1) -> None:
        self.web1, self.person = web1, web1.person
        self.person.runs("inv ssh.config --print")
        (self.config,) = self.person.home.glob("ssh/*/config")
        self.key = self.person.home / "ssh" / "id_ed25519"

    def argv(self, program: str, *words: str) -> list[str]:
        """Return the command line of ssh, scp or sftp with the configuration."""
        return [program, "-F", str(self.config), *words]

    def run(
        self, program: str, *words: str, typed: bytes = b"", code: int | None = 0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ssh, scp or sftp; it must end with `code`."""
        done = subprocess.run(
            self.argv(program, *words),
            input=typed,
            capture_output=True,
            timeout=PATIENCE_S,
            env=self.person.environment,
        )
        assert code is None or done.returncode == code, (words, done)
        return done

    def ssh(self, workspace: str, *words: str, typed: bytes = b"", code: int | None = 0) -> str:
        """Run a command in a workspace and return its output."""
        return self.run("ssh", alias(workspace), *words, typed=typed, code=code).stdout.decode()

    @contextmanager
    def running(self, *words: str, program: str = "ssh") -> Iterator[subprocess.Popen[bytes]]:
        """Run ssh in the background, with pipes; killed at the end."""
        with subprocess.Popen(
            self.argv(program, *words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.person.environment,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def serving(self, workspace: str, place: int | str) -> Iterator[None]:
        """Run ECHO inside a workspace, on a port or a socket."""
        kind = "unix" if isinstance(place, str) else "tcp"
        with self.running(alias(workspace), f"python3 -c {shlex.quote(ECHO)} {kind} {place}") as server:
            assert server.stdout and server.stdout.readline() == b"listens\n"
            yield

    @contextmanager
    def session(self, workspace: str) -> Iterator[subprocess.Popen[bytes]]:
        """Enter a workspace with `cat`: what is written comes back."""
        with self.running(alias(workspace), "echo up; exec cat") as process:
            assert process.stdout and process.stdout.readline() == b"up\n", process.stderr and process.stderr.read()
            yield process

    @contextmanager
    def with_entry(self, **fields: object) -> Iterator[None]:
        """Let nodes.yaml say something more about the node meanwhile."""
        registry, entry = self.person.registry, self.person.lab_entry("web1")
        before = registry.read_text()
        registry.write_text(json.dumps({"nodes": {"web1": {**entry, **fields}}}))
        try:
            yield
        finally:
            registry.write_text(before)
            self.person.runs("inv node.disconnect --all; inv ssh.config --print", check=False)

    # The protocol itself

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE_S)
        connection.connect(str(self.person.endpoint()))
        return connection

    def dial(self, workspace: str, public_key: str = "") -> dict[str, Any]:
        key = public_key or self.key.with_suffix(".pub").read_text()
        params = {"name": workspace, "public_key": key.strip()}
        request = {"jsonrpc": "2.0", "id": 1, "method": "workspace.dial", "params": params}
        body = json.dumps(request).encode()
        with self.connect() as connection:
            head = f"POST / HTTP/1.1\r\nHost: n\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        said: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return said.get("result") or {"refused": said["error"]["data"]["kind"]}

    def stream(self, token: str, *, hasty: bytes = b"") -> tuple[int, bytes]:
        """Ask for a stream; return the status, and what the server says first if there is one."""
        head = "POST /stream HTTP/1.1\r\nHost: n\r\nConnection: Upgrade\r\nUpgrade: codesmith-stream\r\n"
        with self.connect() as connection:
            connection.sendall(f"{head}CodeSmith-Token: {token}\r\n\r\n".encode() + hasty)
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(1) or b"\r\n\r\n"
            status = int(data.split()[1])
            return status, connection.recv(100) if status == 101 else b""

    def proxy_command(self, workspace: str) -> str:
        """Return the command that the configuration has for an alias."""
        shown = self.run("ssh", "-G", alias(workspace)).stdout.decode()
        (command,) = [line.partition(" ")[2] for line in shown.splitlines() if line.startswith("proxycommand ")]
        return command.replace("%n", alias(workspace))

    def inside(self, workspace: str, script: str) -> str:
        """Run a script in a workspace and return its output."""
        return self.ssh(workspace, f"sh -c {shlex.quote(script)}")


def alias(workspace: str) -> str:
    return f"{workspace}.web1.codesmith"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def talk(port: int, data: bytes) -> bytes:
    """Send bytes to a port of this machine and return all that comes back; tried again until it listens."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionError:
            assert time.monotonic() < deadline, port
            time.sleep(0.05)


def generate_key(folder: Path, name: str) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", folder / name], check=True)
    return folder / name


def connected(path: Path) -> socket.socket | None:
    """Return a connection to a Unix socket; None while nobody listens there, though the file may exist."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        return None
    return connection


def socks(proxy: int, port: int, data: bytes) -> bytes:
    """Reach a port inside through a SOCKS5 proxy."""
    with socket.create_connection(("127.0.0.1", proxy), 30) as connection:
        connection.sendall(b"\5\1\0")
        assert connection.recv(2) == b"\5\0"
        connection.sendall(b"\5\1\0\1" + socket.inet_aton("127.0.0.1") + struct.pack(">H", port))
        answer = connection.recv(10)
        assert answer[1] == 0, answer
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))
