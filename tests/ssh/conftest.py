"""Nodes as prepare sees them, and one agent for the whole run, even while somebody edits agent/."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codesmith import paths
from codesmith.bootstrap import pack as packing
from codesmith.lab import Lab, LabNode
from codesmith.nodes.registry import Node
from codesmith.ssh.connect import connect
from codesmith.ssh.connection import CARRIERS, Connection
from codesmith.ssh.openssh import command, master
from codesmith.ssh.target import Target, resolve
from tests.ssh.carrier_desk import Desk


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """State of this test alone; no forwarder is started here."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("CODESMITH_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def agent_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """agent/ as it was when the tests began."""
    top = paths.checkout()
    assert top is not None
    return Path(shutil.copytree(top / "agent", tmp_path_factory.mktemp("source") / "agent"))


@pytest.fixture
def same_agent(agent_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every prepare of the test ships the same agent."""
    pack = packing.pack
    monkeypatch.setattr(packing, "pack", lambda: pack(agent_copy))


@pytest.fixture
def as_node(tmp_path: Path) -> Callable[..., Node]:
    """Give a lab node's entry in a registry: `as_node(lab_node, user="ops")`."""

    def give(lab_node: LabNode, **fields: Any) -> Node:
        return Node(lab_node.name, tmp_path / "nodes.yaml", lab=lab_node.release, **fields)

    return give


@pytest.fixture
def target(node: LabNode, as_node: Callable[..., Node]) -> Target:
    """The target of the module's lab node."""
    return resolve(as_node(node))


@pytest.fixture(params=CARRIERS)
def carrier(request: pytest.FixtureRequest) -> str:
    """Each carrier in turn: what holds for one holds for the other."""
    return str(request.param)


@pytest.fixture
def open_to(target: Target, carrier: str) -> Iterator[Callable[..., Connection]]:
    """Open connections that are closed after the test: `open_to(user="ops")`."""
    there: list[Connection] = []

    def give(**fields: Any) -> Connection:
        there.append(connect(replace(target, carrier=carrier, **fields)))
        return there[-1]

    yield give
    for connection in there:
        connection.close()


@pytest.fixture
def quick_alive(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let OpenSSH give a silent node up after about two seconds, and return what it then says."""
    alive = (command.CONNECTION_OPTIONS["ServerAliveInterval"], command.CONNECTION_OPTIONS["ServerAliveCountMax"])
    assert alive == ("4", "2"), "no answer within 8 s"
    monkeypatch.setitem(command.CONNECTION_OPTIONS, "ServerAliveInterval", "1")
    monkeypatch.setattr(master, "ALIVE_S", 1)
    return "no answer within 2 s"


@pytest.fixture
def fresh(lab: Lab, new_name: Callable[[str], str]) -> Iterator[Callable[..., LabNode]]:
    """Boot fresh nodes that are thrown away after the test: `web = fresh("web", release="trixie")`."""
    booted: list[str] = []

    def boot_one(word: str = "node", release: str = "bookworm") -> LabNode:
        booted.append(new_name(word))
        return lab.up(booted[-1], release)

    yield boot_one
    for name in booted:
        lab.down(name)


@pytest.fixture
def desk(node: LabNode, ssh_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """An operator whose ssh reads a configuration of this test."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with ExitStack() as undo:
        desk = Desk(tmp_path, node, undo)
        key = " ".join(node.address.known_hosts.read_text().split()[1:3])
        (tmp_path / "known_hosts").write_text(f"{desk.host} {key}\n")
        desk.configure(f"Host web\n HostName {desk.host}\n IdentityFile {desk.identity}\n")
        yield desk


@pytest.fixture
def new_key(tmp_path: Path) -> Callable[..., str]:
    """Make private keys that open nothing yet: `new_key("-t", "rsa")`; returns the path."""

    def make(*options: str) -> str:
        path = tmp_path / f"id_{len(list(tmp_path.iterdir()))}"
        options = options or ("-t", "ed25519")
        options = options if "-N" in options else (*options, "-N", "")
        subprocess.run(["ssh-keygen", "-q", *options, "-f", str(path)], check=True)
        return str(path)

    return make
