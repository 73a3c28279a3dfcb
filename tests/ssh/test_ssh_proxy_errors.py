"""Routes that lead nowhere: each is told, and the hint takes the way of the node."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from codesmith.errors import AuthenticationFailed, CodeSmithError, Unreachable
from codesmith.lab import LabNode
from codesmith.ssh import target as targets
from codesmith.ssh.connect import connect
from codesmith.ssh.connection import FABRIC
from codesmith.ssh.target import resolve
from tests.ssh.carrier_desk import restart_sshd
from tests.ssh.ssh_place import Place
from tests.waiting import is_running

pytestmark = pytest.mark.lab


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


@pytest.mark.parametrize("carrier", [FABRIC])
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


@pytest.mark.parametrize("carrier", [FABRIC])
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


@pytest.mark.parametrize("carrier", [FABRIC])
def test_a_match_that_hangs_is_told_and_ended(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "SSH_G_TIMEOUT_S", 0.5)
    place.write("ssh_config", 'Match exec "echo $$ $PPID > <folder>/pids; sleep 1000"\n Port 1\n')
    with pytest.raises(CodeSmithError, match="Match exec"):
        resolve(place.node("web"))
    deadline = time.monotonic() + 15
    while any(is_running(pid) for pid in (place.folder / "pids").read_text().split()):
        assert time.monotonic() < deadline


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


@pytest.mark.parametrize("line", ["AllowTcpForwarding no", "DisableForwarding yes", "PermitOpen 127.0.0.1:9"])
def test_a_gateway_that_forbids_forwarding_is_told(place: Place, sshd: Callable[..., None], line: str) -> None:
    sshd(line)
    place.write("ssh_config", "Host web\n HostName 127.0.0.1\n HostKeyAlias <host>\n ProxyJump root@<host>\n")
    with pytest.raises(Unreachable, match=rf"gateway {place.words['host']} forbids .*{line.split()[0]}") as caught:
        connect(resolve(place.node("web")))
    assert "sshd -T" in caught.value.hint
