"""The place of a measurement: lab nodes, a registry and a state directory of its own, removed afterwards."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.clock import Command, words
from codesmith.errors import CodeSmithError
from codesmith.lab import Lab, LabNode

TOP = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).with_name("peers")
ON_NODE = Path(__file__).with_name("on_node")
# Variables that would change what is measured.
KEPT_OUT = ("CODESMITH_", "ANSIBLE_", "PYINFRA_", "PYTHON", "SSH_")
BOOTS_AT_ONCE = 4
THERE = "/run/codesmith-bench"
FLEET = tuple(f"idle{number}" for number in range(1, 31))


class Site:
    """One place of measurement. Its nodes have short names; in the lab they have a unique prefix."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        self.folder, self._lab, self._prefix = folder, lab, f"bench-{secrets.token_hex(2)}"
        self.home, self.registry = folder / "home", folder / "nodes.yaml"
        self._entries: dict[str, dict[str, Any]] = {}
        self._with_programs: set[str] = set()
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(KEPT_OUT)},
            "CODESMITH_HOME": str(self.home),
            "CODESMITH_NODES": str(self.registry),
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def boot(self, *names: str) -> list[LabNode]:
        """Boot nodes and add them to nodes.yaml as plain servers; pin their host keys beside it."""
        with ThreadPoolExecutor(BOOTS_AT_ONCE) as pool:
            nodes = list(pool.map(lambda name: self._lab.up(f"{self._prefix}-{name}"), names))
        for name, node in zip(names, nodes, strict=True):
            self.enter(name, node, node.address.host, 22)
        return nodes

    def enter(self, name: str, node: LabNode, host: str, port: int) -> None:
        """Add `node` to nodes.yaml as `name` with this host and port, and pin its key for them."""
        self._entries[name] = {"host": host, "port": port, "user": "root", "identity": str(node.address.identity)}
        self.registry.write_text(json.dumps({"nodes": self._entries}, indent=1))
        key = " ".join(node.address.known_hosts.read_text().split()[1:3])
        with self.known_hosts.open("a") as file:
            file.write(f"{host if port == 22 else f'[{host}]:{port}'} {key}\n")

    @property
    def known_hosts(self) -> Path:
        """The pinned host keys."""
        return self.registry.parent / "known_hosts"

    def inv(self, *argv: str, proof: str = "") -> Command:
        """Return the command line `inv ...`, run in the checkout."""
        return Command(words(Path(sys.executable).parent / "inv", *argv), self.environment, TOP, proof)

    def command(self, *argv: object, proof: str = "", **environment: str) -> Command:
        """Return any other command line, in the same environment."""
        return Command(words(*argv), {**self.environment, **environment}, self.folder, proof)

    def peer(self, program: str) -> Path:
        """Return the path of a peer's program: beside our Python, in .venv-bench, or in PATH."""
        folders = [Path(sys.executable).parent, TOP / ".venv-bench" / "bin", *map(Path, os.get_exec_path())]
        for folder in folders:
            if os.access(folder / program, os.X_OK):
                return folder / program
        raise CodeSmithError(f"{program} is not installed", hint="make bench  # installs the peers first")

    def on(self, node: LabNode, program: str, *arguments: object) -> Any:
        """Run a program of on_node/ on a node as root; return the JSON that it printed."""
        if node.name not in self._with_programs:
            for file in ON_NODE.glob("*.py"):
                write = f"mkdir -p {THERE} && cat >{THERE}/{file.name}"
                node.run(["sh", "-c", write], input=file.read_text(encoding="utf-8"))
            self._with_programs.add(node.name)
        argv = words("python3", "-sE", f"{THERE}/{program}", *arguments)
        return json.loads(node.run(argv, input="", timeout_s=300).stdout)

    def fleet(self) -> list[str]:
        """Return the names of thirty prepared nodes, `idle1` among them; they are booted only once."""
        missing = [name for name in FLEET if name not in self._entries]
        if missing:
            self.boot(*missing)
            self.inv("node.prepare", *each(missing), proof="prepared").run()
        return list(FLEET)

    @property
    def agent_file(self) -> Path:
        """The agent as it was packed for this site's nodes."""
        (packed,) = (self.home / "pack").glob("*.pyz")
        return packed

    @property
    def forwarder_pid(self) -> int:
        """The pid of this site's forwarder."""
        return int((self.home / "run" / "forwarder.lock").read_text())

    def address(self, name: str) -> dict[str, str]:
        """Return host, port, user and identity of a node."""
        return {key: str(self._entries[name][key]) for key in ("host", "port", "user", "identity")}

    def endpoint(self, name: str) -> Path:
        """Connect a node and return its local socket."""
        done = subprocess.run(self.inv("node.connect", "--node", name, "--json").argv, cwd=TOP, env=self.environment,
                              capture_output=True, check=True)  # fmt: skip
        return Path(json.loads(done.stdout)[0]["endpoint"].removeprefix("unix:"))

    def has(self, name: str) -> bool:
        """Tell whether a node of this name was booted."""
        return name in self._entries

    def node(self, name: str) -> LabNode:
        """Return a node that was booted."""
        return self._lab.get(f"{self._prefix}-{name}")

    def leave(self) -> None:
        """End the forwarder; the lab removes the nodes."""
        subprocess.run(self.inv("node.disconnect", "--all").argv, cwd=TOP, env=self.environment,
                       capture_output=True, check=False)  # fmt: skip


def each(names: Sequence[str]) -> list[str]:
    """Return the options that name these nodes."""
    return [word for name in names for word in ("--node", name)]


@contextmanager
def site() -> Iterator[Site]:
    """Give a place to measure, and remove all of it afterwards."""
    with tempfile.TemporaryDirectory(prefix="cs-bench-") as folder, Lab() as lab:
        place = Site(Path(folder), lab)
        try:
            yield place
        finally:
            place.leave()
