"""Every route that an operator's ssh would take to a node: aliases, gateways, commands, IPv6. On a real node."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from codesmith.errors import HostKeyUnknown
from codesmith.ssh.connect import connect, fetch_host_key
from codesmith.ssh.connection import FABRIC
from codesmith.ssh.target import resolve, split_port
from tests.kinds import FABRIC_FIRST
from tests.ssh.ssh_place import OTHER_PORT, Place
from tests.waiting import accepts

pytestmark = pytest.mark.lab


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


@FABRIC_FIRST
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
            while not accepts(agent_socket):
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
