"""What people do with OpenSSH and what goes over it: copy with scp and rsync, git, work at a terminal."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from tests.agent.on_node.terminal import Terminal
from tests.waiting import eventually


class Client(Protocol):
    """Somebody with an ssh configuration of their own."""

    def argv(self, program: str, *words: str) -> list[str]: ...

    def run(self, program: str, *words: str) -> subprocess.CompletedProcess[bytes]: ...


def scp_there_and_back(client: Client, host: str, folder: Path, protocol: str) -> tuple[bytes, bytes]:
    """Copy a tree into a workspace and back; return what was in its file, and what is in that which came back."""
    (folder / "tree" / "a b").mkdir(parents=True)
    data = os.urandom(3_000_000)
    (folder / "tree" / "a b" / "file").write_bytes(data)
    client.run("scp", protocol, "-q", "-r", str(folder / "tree"), f"{host}:data/{protocol[1]}")
    client.run("scp", protocol, "-q", "-r", f"{host}:data/{protocol[1]}", str(folder / "back"))
    return data, (folder / "back" / "a b" / "file").read_bytes()


def rsync_twice(client: Client, host: str, folder: Path) -> tuple[str, str]:
    """Copy twenty files into data/synced, twice; return what rsync says of the files that it sent."""
    for number in range(20):
        (folder / "tree" / str(number)).mkdir(parents=True)
        (folder / "tree" / str(number) / "file").write_text(f"{number}\n")
    argv = ["rsync", "-ai", "-e", shlex.join(client.argv("ssh")), f"{folder}/tree/", f"{host}:data/synced/"]
    first, second = (subprocess.run(argv, capture_output=True, check=True, text=True).stdout for _ in range(2))
    return first, second


def git(client: Client, environment: Mapping[str, str], folder: Path, *words: str) -> None:
    """Run git in a folder, over the client's ssh."""
    argv = ["git", "-c", "user.name=a", "-c", "user.email=a@b.invalid", *words]
    settings = {**environment, "GIT_SSH_COMMAND": shlex.join(client.argv("ssh"))}
    done = subprocess.run(argv, cwd=folder, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def resize_interrupt_and_exit(terminal: Terminal, sleeps: Callable[[], object]) -> int:
    """Resize a terminal, press Ctrl-C in `sleep`, and leave its shell; return the exit code."""
    terminal.resize(41, 101)
    terminal.types("stty size\r")
    terminal.wait_for("41 101\r\n")
    terminal.types("sleep 1000; echo code=$?\r")
    eventually(sleeps, within_s=20)
    terminal.types("\x03")
    terminal.wait_for(r"\^C")
    terminal.types("echo still here: $((6 * 7))\r")
    terminal.wait_for("still here: 42\r\n")
    terminal.types("exit 5\r")
    return terminal.wait_for_end()
