"""Where a node listens, and the files of an operator who wants to reach it."""

from __future__ import annotations

import subprocess
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesmith.nodes.registry import Node
from codesmith.ssh.connect import connect
from codesmith.ssh.script import run_script
from codesmith.ssh.target import resolve

OTHER_PORT = 2222
SEEN = "tr '\\0' '\\n' </proc/$PPID/environ | sed -n s/^SSH_CONNECTION=//p"
PIPE = """import os, select, socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
assert sys.argv[3:] == ["a b", "%"], sys.argv
while True:
    for ready in select.select([0, sock], [], [])[0]:
        data = os.read(0, 65536) if ready == 0 else sock.recv(65536)
        if not data:
            sys.exit()
        sock.sendall(data) if ready == 0 else os.write(1, data)
"""


@dataclass(frozen=True)
class Place:
    """A real node, where it listens, and the operator's files: an ssh configuration and a registry's folder."""

    folder: Path
    words: dict[str, str]
    carrier: str

    def write(self, name: str, text: str) -> Path:
        """Write one of the operator's files; {words} in it are replaced."""
        path = self.folder / name
        path.write_text(self.fill(text))
        return path

    def fill(self, text: str) -> str:
        for word, value in self.words.items():
            text = text.replace(f"<{word}>", value)
        return text

    def trust(self, *names: str) -> None:
        """Pin the node's key under these names, beside nodes.yaml."""
        self.write("known_hosts", "".join(f"{name} <key>\n" for name in names))

    def node(self, host: str, **fields: Any) -> Node:
        """Return an entry of nodes.yaml."""
        settings = {"user": "root", "identity": self.words["identity"], "ssh": self.carrier, **fields}
        return Node("web1", self.folder / "nodes.yaml", self.fill(host), **settings)

    def reach(self, node: Node) -> list[str]:
        """Connect and run something; return the address of this machine and that of the node, as the node sees them."""
        with closing(connect(resolve(node))) as connection:
            return run_script(connection, SEEN).stdout.decode().split()


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def wait_for_link_local(*cables: str) -> None:
    """Wait until the kernel has made sure that nobody else has the address."""
    deadline = time.monotonic() + 15
    while any("tentative" in ip("-6", "address", "show", "dev", cable) for cable in cables):
        assert time.monotonic() < deadline
        time.sleep(0.05)
