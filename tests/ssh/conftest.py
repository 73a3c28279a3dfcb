"""Nodes as prepare sees them, and one agent for the whole run, even while somebody edits agent/."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
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
from tests.ssh.carrier_desk import Desk, restart_sshd
from tests.ssh.ssh_operator import RESTART, Operator
from tests.ssh.ssh_place import OTHER_PORT, PIPE, Place, ip, wait_for_link_local
from tests.waiting import eventually


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder of this test, with room for the name of a control socket: pytest's own names grow with every run."""
    with tempfile.TemporaryDirectory(prefix="cs-") as folder:
        yield Path(folder)


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
        options = (*options, "-b", "2048") if "rsa" in options else options  # a longer one takes a second
        subprocess.run(["ssh-keygen", "-q", *options, "-f", str(path)], check=True)
        return str(path)

    return make


@pytest.fixture(scope="module")
def far(any_node: LabNode, tmp_path_factory: pytest.TempPathFactory) -> LabNode:
    """A node that trusts an authority, and does not punish failed logins."""
    authority = tmp_path_factory.mktemp("authority") / "ca"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", authority], check=True)
    (any_node.root / "etc/ssh/ca.pub").write_text(authority.with_suffix(".pub").read_text())
    (any_node.root / "root/ca").write_text(authority.read_text())
    lines = ["TrustedUserCAKeys /etc/ssh/ca.pub", *(["PerSourcePenalties no"] if any_node.release == "trixie" else [])]
    (any_node.root / "etc/ssh/sshd_config.d/00-keys.conf").write_text("\n".join(lines) + "\n")
    any_node.run(["/bin/sh", "-c", RESTART])
    return any_node


@pytest.fixture
def authority(far: LabNode, tmp_path: Path) -> str:
    """The authority that the node trusts."""
    path = tmp_path / "ca"
    path.write_text((far.root / "root/ca").read_text())
    path.chmod(0o600)
    path.with_suffix(".pub").write_text((far.root / "etc/ssh/ca.pub").read_text())
    return str(path)


@pytest.fixture
def operator(far: LabNode, ssh_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """An operator whose ssh reads a configuration of this test."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / "known_hosts").write_text(far.address.known_hosts.read_text())
    return Operator(tmp_path, far)


@pytest.fixture(scope="module")
def listening(node: LabNode) -> dict[str, str]:
    """Let sshd listen on two ports, with IPv4, a private IPv6 address and a link-local one."""
    (node.root / "etc/ssh/sshd_config.d/00-ports.conf").write_text(f"Port 22\nPort {OTHER_PORT}\n")
    restart_sshd(node)
    cable, number = node.record.id, int(node.record.id.removeprefix("cslab"))
    near, far = f"fd00:c5:{number:x}::1", f"fd00:c5:{number:x}::2"

    def answers() -> bool:
        """Tell whether sshd answers there; what still boots on the node may have taken the address away again."""
        ip("address", "replace", f"{near}/64", "dev", cable, "nodad")
        ip("-n", cable, "address", "replace", f"{far}/64", "dev", "eth0", "nodad")
        try:
            socket.create_connection((far, OTHER_PORT), timeout=1).close()
        except OSError:
            return False
        return True

    eventually(answers)
    (shown,) = json.loads(ip("-n", cable, "-json", "-6", "address", "show", "dev", "eth0", "scope", "link"))
    link = next(one["local"] for one in shown["addr_info"] if "local" in one)
    wait_for_link_local(cable)
    return {
        "host": node.record.host,
        "six": far,
        "link": f"{link}%{cable}",
        "identity": str(node.address.identity),
        "key": " ".join((node.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]),
        "python": sys.executable,
        "port": str(OTHER_PORT),
    }


@pytest.fixture
def place(listening: dict[str, str], ssh_config: Path, monkeypatch: pytest.MonkeyPatch, carrier: str) -> Place:
    """An operator whose ssh reads a configuration of this test."""
    folder = ssh_config.parent
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    place = Place(folder, {**listening, "folder": str(folder)}, carrier)
    place.write("pipe.py", PIPE)
    place.trust("<host>")
    return place
