"""workspace.open shows how to log in and does it. Programs are stand-ins here, real ones in tests/agent/on_node."""

from __future__ import annotations

import json
import os
import shlex
import subprocess

import pytest

from tests.sdk.sdk_doubles import error, result, scripted

WORKSPACE = {
    "id": "6a7d9c1e-0b0f-4a51-8a0e-5a4a1f1f0001", "name": "demo", "path": "/srv/codesmith/workspaces/demo",
    "home": "/srv/codesmith/home/cs-demo", "user": "demo", "shared_with": [], "uid": 70000, "gid": 70000,
    "mode": "0700", "state": "ready", "labels": {}, "repos": [],
    "sandbox": None, "created_at": "2026-11-23T00:00:00.000Z", "opened_at": "2026-11-23T00:00:02.000Z",
}  # fmt: skip
LOGIN = {
    "user": "cs-demo",
    "host_hint": "web1",
    "directory": "/srv/codesmith/workspaces/demo",
    "environment": {"HOME": "/srv/codesmith/home/cs-demo", "CODESMITH_WORKSPACE": "demo"},
}
OPENED = {**WORKSPACE, "login": LOGIN}


def user(*fingerprints: str):
    keys = [{"type": "ssh-ed25519", "fingerprint": one, "comment": ""} for one in fingerprints]
    return {
        "name": "demo", "login": "cs-demo", "uid": 70000, "gid": 70000, "home": "/srv/codesmith/empty",
        "shell": "/bin/bash", "state": "active", "ssh_keys": keys, "workspaces": ["demo"],
        "drift": [], "created_at": "2026-11-23T00:00:00.000Z",
    }  # fmt: skip


@pytest.fixture
def key(place, tmp_path):
    """The fingerprint of the operator's key, which nodes.yaml names."""
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", tmp_path / "key"], check=True)
    place.write(f"nodes: {{web1: {{host: web1.invalid, port: 2022, identity: {tmp_path}/key}}}}\n")
    shown = subprocess.run(["ssh-keygen", "-l", "-f", tmp_path / "key"], check=True, capture_output=True, text=True)
    return shown.stdout.split()[1]


@pytest.fixture
def programs(place, tmp_path):
    """Put stand-ins before the real programs in PATH: `programs("code")`. Each prints its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    place.environment["PATH"] = f"{folder}:{os.environ['PATH']}"

    def make(name: str, script: str = 'printf "called %s\\n" "$*"') -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return make


def test_open_shows_a_command_that_can_be_pasted(place, key):
    with scripted(place.endpoint(), result(OPENED), result(OPENED)):
        shown, as_json = place.inv("workspace.open", "demo"), place.inv("workspace.open", "demo", "--json")
    assert (shown.returncode, shown.stderr) == (0, "")
    command = json.loads(as_json.stdout)["command"]
    assert command in shown.stdout
    assert command.startswith("ssh -t -p 2022 -i ")
    assert "-- cs-demo@web1.invalid " in command
    assert "cd /srv/codesmith/workspaces/demo && export CODESMITH_WORKSPACE=demo && exec" in command
    assert str(place.nodes.parent / "known_hosts") in command


def test_shell_becomes_ssh_when_the_key_is_authorised(place, key, programs):
    programs("ssh")
    with scripted(place.endpoint(), result(OPENED), result(user(key))):
        done = place.inv("workspace.open", "demo", "--shell")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("called -t ")
    assert "cs-demo@web1.invalid" in done.stdout


@pytest.mark.parametrize("words", [["--shell"], ["--editor", "code"]])
def test_without_an_authorised_key_nothing_is_started(place, key, programs, words):
    programs("code")
    for keys in ((), ("SHA256:another",)):
        with scripted(place.endpoint(), result(OPENED), result(user(*keys))):
            done = place.inv("workspace.open", "demo", *words)
        assert (done.returncode, done.stdout) == (4, "")
        assert done.stderr.startswith("error: cs-demo on web1 accepts ")


@pytest.fixture
def config(place, programs, tmp_path):
    """The path of the operator's ssh configuration, which the `ssh` of this test reads."""
    programs("ssh", f'exec /usr/bin/ssh -F {tmp_path}/home/.ssh/config "$@"')
    (tmp_path / "home/.ssh").mkdir(parents=True)
    return tmp_path / "home/.ssh/config"


def edit(place, key):
    with scripted(place.endpoint(), result(OPENED), result(user(key))):
        return place.inv("workspace.open", "demo", "--editor", "code")


def test_editor_opens_the_directory_there(place, key, programs, config):
    """An editor takes only a host name: the settings are in an ssh_config block, and the hint includes it."""
    programs("code")
    config.write_text("Host *\n User root\n ControlPath ~/cm-%h-%p\n RemoteCommand false")
    linked = config.rename(config.with_name("dotfiles"))
    config.symlink_to(linked)
    refused = edit(place, key)
    assert refused.returncode == 1
    assert "controlpath" in refused.stderr and "called" not in refused.stdout
    hint = refused.stderr.partition("hint: ")[2]
    subprocess.run(["bash", "-c", hint], env={**os.environ, "HOME": str(config.parent.parent)}, check=True)
    done = edit(place, key)
    uri = "vscode-remote://ssh-remote+demo.web1.codesmith/srv/codesmith/workspaces/demo"
    assert f"called --folder-uri {uri}" in done.stdout, done.stderr
    assert config.is_symlink() and "RemoteCommand false" in config.read_text()


def test_the_block_of_an_editor_says_who_and_how(place, key, programs, config, tmp_path):
    programs("code")
    known = place.nodes.parent / "known_hosts"
    config.write_text(
        f'Include "{place.home}/ssh/*.conf"\nHost demo*\n User root\n HostName elsewhere\n ControlMaster auto\n'
    )
    assert edit(place, key).returncode == 0
    (block,) = (place.home / "ssh").iterdir()
    assert (block.stat().st_mode & 0o777, block.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    shown = subprocess.run(
        ["ssh", "-G", "-F", config, "demo.web1.codesmith"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for line in (
        "user cs-demo", "hostname web1.invalid", "port 2022", "hostkeyalias [web1.invalid]:2022", "controlmaster false",
        "stricthostkeychecking true", "forwardagent no", "preferredauthentications publickey",
    ):  # fmt: skip
        assert line in shown
    assert f"identityfile {tmp_path}/key" in shown
    assert next(line for line in shown if line.startswith("userknownhostsfile")).split()[1] == str(known)


def test_other_settings_of_the_operator_stay(place, key, programs, config):
    programs("code")
    forwards = [f"{word}forward" for word in ("local", "remote", "dynamic")]
    config.write_text(
        f'Include "{place.home}/ssh/*.conf"\nHost *\n SendEnv MINE\n SetEnv A=b\n ServerAliveInterval 7\n'
        " Ciphers aes256-ctr\n"
        " LocalForward 127.0.0.1:7 127.0.0.1:7\n RemoteForward 127.0.0.1:8 127.0.0.1:8\n DynamicForward 127.0.0.1:9\n"
    )
    assert edit(place, key).returncode == 0
    shown = subprocess.run(
        ["ssh", "-G", "-F", config, "demo.web1.codesmith"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert {"sendenv MINE", "setenv A=b", "serveraliveinterval 7", "ciphers aes256-ctr"} <= set(shown)
    assert [word for word in forwards if any(line.startswith(word) for line in shown)] == forwards


def test_a_forwarded_agent_and_a_credential_exclude_each_other(place, tmp_path):
    (tmp_path / "key").write_text("a key\n")
    with scripted(place.endpoint()) as server:
        for task in (
            ("repo.clone", "demo", "git@h.invalid:a"),
            ("workspace.create", "demo", "--repo", "git@h.invalid:a"),
        ):
            done = place.inv(*task, "--forward-agent", "--credential-file", str(tmp_path / "key"))
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr.startswith("error: --forward-agent and --credential-file exclude each other")
        assert server.requests == []


def test_an_include_that_comes_too_late_is_an_error(place, key, programs, config):
    programs("code")
    config.write_text(f'Host *\n User root\nMatch all\nInclude "{place.home}/ssh/*.conf"\n')
    refused = edit(place, key)
    assert refused.returncode == 1
    assert "has other values (user)" in refused.stderr


def test_the_settings_of_the_login_cannot_redirect_the_connection(place, key, config):
    """The node's settings count, whatever the configuration has for cs-demo or for the host behind an alias."""
    place.write(f"nodes: {{web1: {{host: web, identity: {place.home.parent}/key}}}}\n")
    config.write_text(
        "Match user cs-*\n HostName elsewhere\n Port 1\n ProxyCommand false\n HostKeyAlias other\n"
        " UserKnownHostsFile /nowhere\n GlobalKnownHostsFile /nowhere\n IdentityAgent /nowhere\n IdentitiesOnly yes\n"
        "Host web\n HostName web1.invalid\n Port 2022\n User ops\n ProxyJump gate\n"
        "Host gate\n HostName gate.invalid\n User gatekeeper\n Port 2023\n IdentitiesOnly yes\n"
    )
    with scripted(place.endpoint(), result(OPENED)):
        command = shlex.split(place.inv("workspace.open", "demo", "--json").stdout.partition('"command": ')[2])[0]
    words = shlex.split(command)
    shown = subprocess.run(["ssh", "-F", config, "-G", *words[1:-1]], check=True, capture_output=True, text=True).stdout
    found = dict(line.partition(" ")[::2] for line in shown.splitlines())
    expected = {"hostname": "web1.invalid", "port": "2022", "user": "cs-demo", "hostkeyalias": "[web1.invalid]:2022"}
    expected |= {"identitiesonly": "no", "identityagent": "SSH_AUTH_SOCK", "requesttty": "true", "escapechar": "~"}
    assert {word: found[word] for word in expected} == expected
    assert "/nowhere" not in shown
    gate = found["proxycommand"]
    assert "-p 2023" in gate and "-l gatekeeper" in gate and gate.endswith("-W '[%h]:%p' -- gate")
    assert "ControlPath=none" in gate and str(place.nodes.parent / "known_hosts") in gate


@pytest.mark.parametrize("words", [[], ["--shell"], ["--editor", "code"]])
def test_an_identity_that_is_missing_is_an_error(place, key, programs, words, tmp_path):
    programs("code")
    programs("ssh")
    (tmp_path / "key").unlink()
    (tmp_path / "key.pub").unlink()
    with scripted(place.endpoint(), result(OPENED), result(user(key))):
        done = place.inv("workspace.open", "demo", *words)
    assert (done.returncode, done.stdout) == (4, "")
    assert f"the identity {tmp_path}/key cannot be read: No such file" in done.stderr


def test_a_missing_editor_is_an_error(place, key):
    with scripted(place.endpoint(), result(OPENED), result(user(key))):
        done = place.inv("workspace.open", "demo", "--editor", "code")
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no `code` on this machine\nhint: ")
    assert place.inv("workspace.open", "demo", "--editor", "ed").returncode == 1


def test_update_sends_all_labels_or_none(place):
    plain = {**WORKSPACE, "login": "cs-demo"}
    with scripted(place.endpoint(), result(plain), result(plain)) as agent:
        assert place.inv("workspace.update", "demo", "--label", "a=b", "--label", "c=d").returncode == 0
        assert place.inv("workspace.update", "demo", "--no-labels").returncode == 0
    assert [request["params"]["labels"] for request in agent.requests] == [{"a": "b", "c": "d"}, {}]
    for words in ([], ["--label", "a=b", "--no-labels"], ["--label", "nothing"]):
        done = place.inv("workspace.update", "demo", *words)
        assert (done.returncode, done.stdout) == (1, "")


def test_assign_names_workspace_and_user(place):
    plain = {**WORKSPACE, "user": "ada", "login": "cs-demo"}
    with scripted(place.endpoint(), result(plain), error(1005, "user 'ada' is disabled", kind="disabled")) as agent:
        done = place.inv("workspace.assign", "demo", "ada")
        assert place.inv("workspace.assign", "demo", "ada").returncode == 6
    assert (done.returncode, "user\tada" in done.stdout) == (0, True)
    assert {key: agent.requests[0]["params"][key] for key in ("name", "user")} == {"name": "demo", "user": "ada"}


@pytest.mark.parametrize("task", ["workspace.share", "workspace.unshare"])
def test_share_and_unshare_name_workspace_and_user(place, task):
    plain = {**WORKSPACE, "login": "cs-demo", "shared_with": ["ada"]}
    with scripted(place.endpoint(), result(plain)) as agent:
        done = place.inv(task, "demo", "ada")
    assert (done.returncode, "shared_with\tada" in done.stdout) == (0, True)
    assert agent.requests[0]["method"] == task
    assert {key: agent.requests[0]["params"][key] for key in ("name", "user")} == {"name": "demo", "user": "ada"}
