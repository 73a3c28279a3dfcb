"""workspace.open on a real node: the way that is shown leads in, for those whose key is authorised."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agent.on_node.web1 import BOTH_RELEASES, Web1

pytestmark = [pytest.mark.lab, BOTH_RELEASES]
WHO = 'id -un; pwd; echo "$CODESMITH_WORKSPACE"; exit 7\n'
HOSTILE = """
 ControlMaster auto
 ControlPath <folder>/cm-%h-%p
 ControlPersist yes
 RemoteCommand touch /tmp/was-run
 RequestTTY no
 SessionType none
 ForkAfterAuthentication yes
 StdinNull yes
 PermitLocalCommand yes
 LocalCommand touch <folder>/was-run
 ForwardAgent yes
 ForwardX11 yes
 LocalForward 127.0.0.1:1 127.0.0.1:1
 RemoteForward 127.0.0.1:7777 127.0.0.1:7
 ExitOnForwardFailure yes
 Tunnel yes
 StrictHostKeyChecking no
 KnownHostsCommand /usr/bin/touch <folder>/was-run
 PreferredAuthentications password
 CanonicalizeHostname yes
"""


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder whose name leaves room for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="codesmith-") as folder:
        yield Path(folder)


@pytest.fixture
def operate(web1: Web1, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Type a command as an operator with an ssh configuration: `operate(config, command)`; return the command line."""
    (tmp_path / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {tmp_path}/config "$@"\n')
    (tmp_path / "ssh").chmod(0o755)

    def give(config: str, command: str) -> str:
        (tmp_path / "config").write_text(config.replace("<folder>", str(tmp_path)))
        return f"export PATH={tmp_path}:$PATH; {command}"

    yield give
    if (tmp_path / "config").exists():
        host = web1.person.lab_entry("web1")["host"]
        web1.person.runs(give("", f"ssh -S {tmp_path}/cm-{host}-22 -O exit {host}"), check=False)


@pytest.fixture(scope="module")
def entered(web1: Web1) -> str:
    """A workspace that the operator's key enters."""
    web1.person.runs(f"inv workspace.create entered --ssh-key {web1.person.lab_entry('web1')['identity']}.pub")
    return "entered"


def test_a_root_session_that_is_open_is_never_the_shell_of_a_workspace(
    web1: Web1, operate: Callable[..., str], entered: str, tmp_path: Path
) -> None:
    person = web1.person
    entry = person.lab_entry("web1")
    key, host, known = entry["identity"], entry["host"], person.registry.parent / "known_hosts"
    shared = f"Host *\n ControlPath {tmp_path}/cm-%h-%p\n"
    person.runs(
        operate(shared, f"ssh -MNf -i {key} -o UserKnownHostsFile={known} root@{host} </dev/null >/dev/null 2>&1")
    )
    assert person.runs(operate(shared, f"ssh cs-{entered}@{host} id -un")).out == "root\n"  # so plain ssh would
    said = person.runs(operate(f"Host *{HOSTILE}", f"inv workspace.open {entered} --shell"), typed=WHO, code=7)
    assert said.out.split()[-3:] == [f"cs-{entered}", f"/srv/codesmith/workspaces/{entered}", entered]
    assert not (tmp_path / "was-run").exists()
    assert not web1.on("test -e /tmp/was-run", check=False).ok


def test_the_way_that_is_shown_leads_into_the_workspace(web1: Web1) -> None:
    person = web1.person
    public = f"{person.lab_entry('web1')['identity']}.pub"
    person.runs(f"inv workspace.create enter --ssh-key {public}")
    opened = person.runs("inv workspace.open enter --json").json
    assert opened["login"]["user"] == "cs-enter"
    assert opened["login"]["directory"] == opened["path"]
    assert web1.client.workspace.get(name="enter").opened_at == opened["opened_at"]
    said = person.runs(
        "inv workspace.open enter --shell", typed='id -un; pwd; echo "$CODESMITH_WORKSPACE"; exit 7\n', code=7
    )
    assert said.out.split()[-3:] == ["cs-enter", "/srv/codesmith/workspaces/enter", "enter"]


def test_without_a_key_the_door_is_closed(web1: Web1) -> None:
    web1.person.runs("inv workspace.create closed")
    said = web1.person.fails("inv workspace.open closed --shell", code=4)
    assert "no key at all" in said.err


def test_labels_and_owner_are_changed_by_task(web1: Web1) -> None:
    person = web1.person
    person.runs("inv workspace.create moved --label a=b")
    person.runs("inv user.create taker")
    assert person.runs("inv workspace.update moved --label c=d --json").json["labels"] == {"c": "d"}
    assert person.runs("inv workspace.assign moved taker --json").json["login"] == "cs-taker"
    assert person.runs("inv workspace.exec moved -- id -un").out == "cs-taker\n"
    said = person.runs("inv workspace.assign moved nobody", code=3)
    assert said.err.startswith("error: no user 'nobody'")


# Ends every endpoint, so it comes last: the client of the module keeps a connection to one.
def test_the_name_for_an_editor_leads_into_the_workspace(
    web1: Web1, operate: Callable[..., str], entered: str, tmp_path: Path
) -> None:
    """Behind a gateway whose host key only node.trust has pinned, with a port and the identity of nodes.yaml."""
    person = web1.person
    person.on("web1", "echo 'Port 22\nPort 2222' >/etc/ssh/sshd_config.d/00-ports.conf; systemctl restart ssh")
    before, entry = person.registry.read_text(), person.lab_entry("web1")
    pins = person.registry.parent / "known_hosts"
    true = pins.read_text()
    key = next(line.split()[1:] for line in true.splitlines() if "ed25519" in line)
    pins.write_text(true + f"[127.0.0.1]:2222 {' '.join(key)}\n")
    config = f"Host inside\n HostName 127.0.0.1\n Port 2222\n ProxyJump root@{entry['host']}\n"
    person.registry.write_text(json.dumps({"nodes": {"web1": {**entry, "host": "inside", "port": 2222}}}))
    hostile = f'Include "{person.home}/ssh/*.conf"\n{config}Host *.codesmith{HOSTILE}'
    try:
        person.runs(operate(config, f"inv node.disconnect --all; inv workspace.open {entered}"))
        # ExitOnForwardFailure: an editor forwards ports itself, so those of the operator stand.
        hostile = hostile.replace(" ExitOnForwardFailure yes\n", "")
        said = person.runs(operate(hostile, f"ssh {entered}.web1.codesmith 'id -un; echo $SSH_CONNECTION'"))
        assert said.out.split()[0::4] == [f"cs-{entered}", "2222"]
        shown = person.runs(operate(config, f"inv workspace.open {entered} --shell"), typed=WHO, code=7)
        assert shown.out.split()[-3] == f"cs-{entered}"
    finally:
        person.registry.write_text(before)
        pins.write_text(true)
        person.runs("inv node.disconnect --all", check=False)
        person.on("web1", "rm /etc/ssh/sshd_config.d/00-ports.conf; systemctl reset-failed ssh; systemctl restart ssh")


def test_a_login_of_a_domain_prepares_and_enters(web1: Web1, entered: str) -> None:
    person, login = web1.person, "ops@corp.example"
    before, entry = person.registry.read_text(), person.lab_entry("web1")
    folder = f"'/home/{login}/.ssh'"
    person.on(
        "web1",
        f"useradd --badname --create-home --shell /bin/bash -- {login}; install -d -m 700 -o {login} {folder}; "
        f"install -m 600 -o {login} /root/.ssh/authorized_keys {folder}; "
        f"echo '\"{login}\" ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/domain",
    )
    person.registry.write_text(json.dumps({"nodes": {"web1": {**entry, "user": login}}}))
    try:
        person.runs("inv node.prepare")
        assert login in person.on("web1", "getent group codesmith-clients").out
        said = person.runs(f"inv workspace.open {entered} --shell", typed=WHO, code=7)
        assert said.out.split()[-3] == f"cs-{entered}"
        rows = person.runs("inv node.doctor --json").json
        assert {row["status"] for row in rows if row["node"] == "web1"} == {"ok"}
    finally:
        person.registry.write_text(before)
        person.runs("inv node.disconnect --all", check=False)
