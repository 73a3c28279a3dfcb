"""Every route that an operator's ssh would take to a node: aliases, gateways, commands, IPv6. On a real node."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from codesmith.errors import AuthenticationFailed, CodeSmithError, HostKeyUnknown, Unreachable
from codesmith.lab import LabNode
from codesmith.nodes.registry import Node
from codesmith.ssh import target as targets
from codesmith.ssh.connect import connect, fetch_host_key
from codesmith.ssh.connection import FABRIC
from codesmith.ssh.script import run_script
from codesmith.ssh.target import resolve, split_port

pytestmark = pytest.mark.lab
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


@pytest.fixture(scope="module")
def listening(node: LabNode) -> dict[str, str]:
    """Let sshd listen on two ports, with IPv4, a private IPv6 address and a link-local one."""
    (node.root / "etc/ssh/sshd_config.d/00-ports.conf").write_text(f"Port 22\nPort {OTHER_PORT}\n")
    restart_sshd(node)
    cable, number = node.record.id, int(node.record.id.removeprefix("cslab"))
    near, far = f"fd00:c5:{number:x}::1", f"fd00:c5:{number:x}::2"
    ip("address", "add", f"{near}/64", "dev", cable, "nodad")
    ip("-n", cable, "address", "add", f"{far}/64", "dev", "eth0", "nodad")
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


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def wait_for_link_local(*cables: str) -> None:
    """Wait until the kernel has made sure that nobody else has the address."""
    deadline = time.monotonic() + 15
    while any("tentative" in ip("-6", "address", "show", "dev", cable) for cable in cables):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def place(listening: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carrier: str) -> Place:
    """An operator whose ssh reads a configuration of this test."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {tmp_path}/ssh_config "$@"\n')
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    place = Place(tmp_path, {**listening, "folder": str(tmp_path)}, carrier)
    place.write("ssh_config", "")
    place.write("pipe.py", PIPE)
    place.trust("<host>")
    return place


# IPv6


@pytest.mark.parametrize(
    ("host", "port", "pinned"),
    [
        ("<six>", None, "<six>"),
        ("<six>", OTHER_PORT, f"[<six>]:{OTHER_PORT}"),
        ("[<six>]", None, "<six>"),
        (f"[<six>]:{OTHER_PORT}", None, f"[<six>]:{OTHER_PORT}"),
        ("<link>", None, "<link>"),
        ("<link>", OTHER_PORT, f"[<link>]:{OTHER_PORT}"),
    ],
)
def test_an_ipv6_address_is_a_host(place: Place, host: str, port: int | None, pinned: str) -> None:
    place.trust(pinned)
    said = place.reach(place.node(host, port=port))
    assert said[2].partition("%")[0] == split_port(place.fill(host))[0].partition("%")[0]
    assert int(said[3]) == (OTHER_PORT if "2222" in pinned else 22)


def test_an_ipv6_address_is_known_however_it_is_written(place: Place) -> None:
    place.trust("<six>")
    place.reach(place.node(place.words["six"].upper().replace("::", ":0:0::")))


def test_an_ipv6_address_is_known_from_a_hashed_line(place: Place) -> None:
    place.trust(f"[<six>]:{OTHER_PORT}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", place.folder / "known_hosts"], check=True, capture_output=True)
    assert place.words["six"] not in (place.folder / "known_hosts").read_text()
    place.reach(place.node("<six>", port=OTHER_PORT))


def test_an_unknown_ipv6_host_is_named_as_known_hosts_names_it(place: Place) -> None:
    place.trust("elsewhere")
    with pytest.raises(HostKeyUnknown):
        place.reach(place.node("<six>", port=OTHER_PORT))
    assert resolve(place.node("<six>", port=OTHER_PORT)).key_name == place.fill(f"[<six>]:{OTHER_PORT}")
    assert fetch_host_key(resolve(place.node("<six>"))).type == "ssh-ed25519"


@pytest.mark.parametrize("jump", [f"root@[<six>]:{OTHER_PORT}", "root@[<six>]", "root@[<link>]"])
def test_a_gateway_may_have_an_ipv6_address(place: Place, jump: str) -> None:
    place.trust("behind", "<six>", f"[<six>]:{OTHER_PORT}", "<link>")
    place.write("ssh_config", f"Host behind\n HostName ::1\n HostKeyAlias behind\n ProxyJump {jump}\n")
    assert place.reach(place.node("behind"))[2] == "::1"


def test_a_dead_address_of_a_name_does_not_hide_the_others(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    true = socket.getaddrinfo

    def both(host: str, port: int, **options: Any) -> list[Any]:
        return [*true("::1", 9, **options), *true(host, port, **options)]

    target = resolve(place.node("<host>"))
    monkeypatch.setattr(socket, "getaddrinfo", both)
    connect(target).close()


# Aliases: what stands in ssh_config, and what must be seen on the node or in the target

WEB = "Host web\n HostName <host>\n Port <port>\n"
BEHIND = "Host web\n HostName 127.0.0.1\n Port <port>\n HostKeyAlias pinned-name\n"
ALIASES = {
    "Include": "Include <folder>/more\n",
    "Match host": 'Match host web* exec "test -e <folder>/more"\n HostName <host>\n Port <port>\n',
    "Match exec that says no": f"Match exec false\n Port 1\n{WEB}",
    "HostKeyAlias": f"{WEB} HostKeyAlias pinned-name\n",
    "ProxyJump": f"{BEHIND} ProxyJump root@<host>\n",
    "ProxyJump by alias": (
        f"{BEHIND} ProxyJump gate\nHost gate\n HostName <host>\n User root\n Port <port>\n IdentityFile <identity>\n"
    ),
    "ProxyJump over two": (
        f"{BEHIND} ProxyJump root@<host>,root@inner\nHost inner\n HostName 127.0.0.2\n HostKeyAlias pinned-name\n"
    ),
    "ProxyJump none": f"{WEB} ProxyJump none\nHost *\n ProxyJump nowhere.invalid\n",
    "ProxyCommand": f'{WEB} ProxyCommand <python> "<folder>/pipe.py" %h %p "a b" \'%%\'\n',
    "ProxyCommand by a shell": f'{WEB} ProxyCommand sh -c \'exec <python> <folder>/pipe.py "$0" %p "a b" %%\' %h\n',
}


@pytest.mark.parametrize("config", ALIASES.values(), ids=ALIASES)
def test_an_alias_leads_where_ssh_would_go(place: Place, config: str) -> None:
    place.write("more", WEB)
    place.trust("<host>", f"[<host>]:{OTHER_PORT}", "pinned-name")
    place.write("ssh_config", config)
    assert place.reach(place.node("web"))[3] == str(OTHER_PORT)


@pytest.mark.parametrize("carrier", [FABRIC])
def test_a_canonical_name_is_followed(place: Place) -> None:
    """`ssh` looks the name up; here in a hosts file of this test."""
    place.write("hosts", "127.0.0.1 web.lab.test.\n")
    bound = f'mount --bind {place.folder}/hosts /etc/hosts && exec /usr/bin/ssh -F {place.folder}/ssh_config "$@"'
    (place.folder / "bin/ssh").write_text(f"#!/bin/sh\nexec unshare -m sh -c '{bound}' ssh \"$@\"\n")
    place.write(
        "ssh_config",
        "CanonicalizeHostname yes\nCanonicalDomains lab.test\n"
        f"Match canonical host web.lab.test\n Port {OTHER_PORT}\n HostKeyAlias <host>\n ProxyJump root@<host>\n",
    )
    found = resolve(place.node("web"))
    assert (found.host, found.port, found.proxy_jump) == ("web.lab.test", OTHER_PORT, place.fill("root@[<host>]"))
    # The node itself knows no such name.
    with closing(connect(replace(found, host="127.0.0.1"))):
        pass


def test_words_of_another_encoding_are_no_obstacle(place: Place) -> None:
    """A line before the greeting, and a path in ssh_config, in Latin-1."""
    pipe = "printf 'caf\\351\\n'; exec <python> <folder>/pipe.py <host> 22 'a b' %%"
    config = f'Host web\n HostKeyAlias <host>\n IdentityFile /caf\xe9\n ProxyCommand sh -c "{pipe}"\n'
    (place.folder / "ssh_config").write_bytes(place.fill(config).encode("latin-1"))
    assert place.reach(place.node("web"))


def test_the_agent_that_the_configuration_names_is_asked(place: Place) -> None:
    agent_socket = place.folder / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", agent_socket], stdout=subprocess.DEVNULL) as agent:
        try:
            while not agent_socket.exists():
                assert agent.poll() is None
            environment = {**os.environ, "SSH_AUTH_SOCK": str(agent_socket)}
            subprocess.run(["ssh-add", "-q", place.words["identity"]], env=environment, check=True, capture_output=True)
            place.write("ssh_config", "Host web\n HostName <host>\n IdentityAgent <folder>/agent\n")
            place.reach(place.node("web", identity=None))
        finally:
            agent.terminate()


def test_what_would_change_the_operators_files_is_ignored(place: Place) -> None:
    own = place.write("own_known_hosts", "<host> <key>\n")
    place.write(
        "ssh_config",
        "Host *\n ControlMaster auto\n ControlPath <folder>/control\n ControlPersist yes\n AddKeysToAgent yes\n"
        " UpdateHostKeys yes\n UserKnownHostsFile <folder>/own_known_hosts\n StrictHostKeyChecking no\n"
        " KnownHostsCommand /usr/bin/touch <folder>/was-run\n LocalForward 127.0.0.1:1 127.0.0.1:1\n"
        " RemoteCommand false\n",
    )
    place.trust("elsewhere")
    before = own.read_text()
    place.reach(place.node("<host>"))
    with pytest.raises(HostKeyUnknown):
        place.reach(place.node("<six>"))
    assert own.read_text() == before
    assert not (place.folder / "control").exists()
    assert not (place.folder / "was-run").exists()


# What goes wrong on the way


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("Host *\n ProxyJump gate\nHost gate\n HostName <host>\n", "ProxyJump hosts in a row"),
        ("Host web\n ProxyJump gate\nHost gate\n ProxyJump web\n", "ProxyJump hosts in a row"),
        (
            "Host web\n HostName 127.0.0.1\n Port 9\n ProxyJump root@<host>\n",
            r"gateway <host> cannot connect to 127.0.0.1:9",
        ),
        ("Host web\n ProxyCommand echo nothing here\n", "its ProxyCommand ended.*: echo nothing here"),
        ("Host web\n ProxyCommand /nonexistent %h\n", "its ProxyCommand ended.*: /nonexistent web"),
        ("Host web\n ProxyJump nowhere.invalid\n", "no address is known for 'nowhere.invalid'"),
    ],
)
def test_a_way_that_leads_nowhere_is_told(place: Place, config: str, words: str) -> None:
    place.write("ssh_config", config)
    begun = time.monotonic()
    with pytest.raises(CodeSmithError, match=place.fill(words)) as caught:
        connect(resolve(place.node("web")))
    assert caught.value.hint
    assert time.monotonic() - begun < 15


def test_a_hint_takes_the_way_of_the_node(place: Place) -> None:
    """The pasted command uses the alias: perhaps only the gateway knows the name behind it."""
    place.write("ssh_config", 'Host web\n HostName inside.invalid\n ProxyCommand sh -c "echo was here >&2; false"\n')
    with pytest.raises(Unreachable) as caught:
        connect(resolve(place.node("web", port=2022)))
    assert caught.value.hint == "ssh -v -p 2022 root@web true"
    pasted = subprocess.run(caught.value.hint, shell=True, capture_output=True, text=True, check=False)
    assert "was here" in pasted.stderr


def test_a_hint_runs_what_it_says(place: Place) -> None:
    """Whatever the ssh configuration says about sessions and commands: the pasted command is the one that runs."""
    place.write(
        "ssh_config",
        "Host web\n HostName <host>\n ControlMaster auto\n ControlPath <folder>/cm-%h\n RemoteCommand touch /was-run\n"
        " SessionType none\n ForkAfterAuthentication yes\n IdentityFile <identity>\n"
        " UserKnownHostsFile <folder>/known_hosts\n",
    )
    place.trust("<host>")
    with open_master(place):
        target = resolve(place.node("web", identity=None, user="nobody-known"))
        pasted = target.ssh_line("ssh -v -o BatchMode=yes", "true")
        said = subprocess.run(pasted, shell=True, capture_output=True, text=True, check=False)
        assert said.returncode == 255 and "nobody-known@" in said.stderr and "Permission denied" in said.stderr
        target = resolve(place.node("web", identity=None))
        said = subprocess.run(
            target.ssh_line("ssh", "echo works"), shell=True, capture_output=True, text=True, check=True
        )
        assert said.stdout == "works\n"


@contextmanager
def open_master(place: Place) -> Iterator[None]:
    """Keep a session of root open for others to share."""
    control = f"{place.folder}/cm-{place.words['host']}"
    begun = ["ssh", "-MNf", "-o", "RemoteCommand=none", "-o", "SessionType=none", "root@web"]
    subprocess.run(begun, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run(["ssh", "-S", control, "-O", "exit", "web"], check=True, capture_output=True)


@pytest.mark.parametrize("user", ["ops@corp.example", "CORP\\ops"])
def test_a_login_of_a_domain_can_be_pasted(place: Place, user: str) -> None:
    target = resolve(place.node("web", user=user, port=2022))
    for program in ("ssh -G", "ssh-copy-id"):
        words = shlex.split(target.ssh_line(program, ""))
        words = ["ssh", "-G", *words[1:]] if program == "ssh-copy-id" else words
        shown = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
        assert {f"user {user}", "host web", "port 2022"} <= set(shown)


def test_an_identity_of_nodes_yaml_that_is_missing_is_told(place: Place) -> None:
    """Another key would log in, and nobody would notice that the named one is missing."""
    place.write("ssh_config", "Host *\n IdentityFile <identity>\n")
    with pytest.raises(AuthenticationFailed, match=r"the identity .*/gone cannot be read: No such file") as caught:
        connect(resolve(place.node("<host>", identity=f"{place.folder}/gone")))
    assert caught.value.hint.startswith(f"ls -l {place.folder}/gone")
    (place.folder / "folder").mkdir()
    with pytest.raises(AuthenticationFailed, match=r"the identity .*/folder cannot be read: Is a directory"):
        connect(resolve(place.node("<host>", identity=f"{place.folder}/folder")))


def test_a_match_that_hangs_is_told_and_ended(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "SSH_G_TIMEOUT_S", 0.5)
    place.write("ssh_config", 'Match exec "echo $$ $PPID > <folder>/pids; sleep 1000"\n Port 1\n')
    with pytest.raises(CodeSmithError, match="Match exec"):
        resolve(place.node("web"))
    deadline = time.monotonic() + 15
    while any(is_running(pid) for pid in (place.folder / "pids").read_text().split()):
        assert time.monotonic() < deadline


def is_running(pid: str) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.fixture
def sshd(node: LabNode) -> Iterator[Callable[..., None]]:
    """Give sshd other settings until the test ends."""
    file = node.root / "etc/ssh/sshd_config.d/00-test.conf"

    def give(*lines: str) -> None:
        file.write_text("".join(f"{line}\n" for line in lines))
        restart_sshd(node)

    yield give
    file.unlink()
    restart_sshd(node)


def restart_sshd(node: LabNode) -> None:
    """Restart it and wait until it listens; a reload does not wait."""
    node.run(["systemctl", "reset-failed", "ssh"])
    node.run(["systemctl", "restart", "ssh"])


@pytest.mark.parametrize("line", ["AllowTcpForwarding no", "DisableForwarding yes", "PermitOpen 127.0.0.1:9"])
def test_a_gateway_that_forbids_forwarding_is_told(place: Place, sshd: Callable[..., None], line: str) -> None:
    sshd(line)
    place.write("ssh_config", "Host web\n HostName 127.0.0.1\n HostKeyAlias <host>\n ProxyJump root@<host>\n")
    with pytest.raises(Unreachable, match=rf"gateway {place.words['host']} forbids .*{line.split()[0]}") as caught:
        connect(resolve(place.node("web")))
    assert "sshd -T" in caught.value.hint
