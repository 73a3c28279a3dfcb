"""A workspace as an operator enters it: OpenSSH by the alias, and the bare protocol beneath."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.agent.on_node.web1 import Web1

PATIENCE_S = 60


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
    def session(self, workspace: str) -> Iterator[subprocess.Popen[bytes]]:
        """Enter a workspace with `cat`: what is written comes back."""
        with self.running(alias(workspace), "echo up; exec cat") as process:
            assert process.stdout and process.stdout.readline() == b"up\n", process.stderr and process.stderr.read()
            yield process

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
