"""workspace.open shows how to enter and does it. Programs are stand-ins here, real ones in tests/agent/on_node."""

from __future__ import annotations

import json
import os

import pytest

from tests.sdk.sdk_doubles import error, result, scripted

pytestmark = pytest.mark.slow

WORKSPACE = {
    "id": "6a7d9c1e-0b0f-4a51-8a0e-5a4a1f1f0001", "name": "demo", "path": "/srv/codesmith/workspaces/demo",
    "home": "/srv/codesmith/home/cs-demo", "user": "demo", "shared_with": [], "uid": 70000, "gid": 70000,
    "mode": "0700", "state": "ready", "labels": {}, "repos": [],
    "sandbox": None, "runtime": {"state": "stopped", "since": None, "idle_stop_at": None},
    "created_at": "2026-11-23T00:00:00.000Z", "opened_at": "2026-11-23T00:00:02.000Z",
}  # fmt: skip
LOGIN = {
    "user": "cs-demo",
    "host_hint": "web1",
    "directory": "/srv/codesmith/workspaces/demo",
    "environment": {"HOME": "/srv/codesmith/home/cs-demo", "CODESMITH_WORKSPACE": "demo"},
}
OPENED = {**WORKSPACE, "login": LOGIN}


@pytest.fixture
def programs(place, tmp_path):
    """Put stand-ins before the real programs in PATH: `programs("code")`. Each prints its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    place.environment["PATH"] = f"{folder}:{os.environ['PATH']}"
    place.environment["HOME"] = str(tmp_path / "operator")

    def make(name: str, script: str = 'printf "called %s\\n" "$*"') -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return make


@pytest.fixture
def installed(place, programs, tmp_path):
    """The operator's ssh uses the configuration."""
    programs("ssh", f'exec /usr/bin/ssh -F {tmp_path}/operator/.ssh/config "$@"')
    done = place.inv("ssh.config", "--install", "--yes")
    assert done.returncode == 0, done.stderr


def enter(place, *words: str):
    with scripted(place.endpoint(), result(OPENED)) as agent:
        done = place.inv("workspace.open", "demo", *words)
    assert [request["method"] for request in agent.requests] == ["workspace.open"]
    return done


def test_open_shows_a_command_that_can_be_pasted(place, programs):
    command = json.loads(enter(place, "--json").stdout)["command"]
    (config,) = place.home.glob("ssh/*/config")
    assert command == f"ssh -F {config} demo.web1.codesmith"
    assert command in enter(place).stdout


def test_open_shows_the_alias_alone_once_it_is_installed(place, installed):
    assert json.loads(enter(place, "--json").stdout)["command"] == "ssh demo.web1.codesmith"


def test_shell_becomes_ssh(place, programs):
    programs("ssh")
    done = enter(place, "--shell")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("called -F ") and done.stdout.endswith(" demo.web1.codesmith\n")


@pytest.mark.parametrize("editor", ["code", "cursor", "windsurf", "zed"])
def test_an_editor_opens_the_directory_there(place, installed, programs, editor):
    programs(editor)
    done = enter(place, "--editor", editor)
    directory = "/srv/codesmith/workspaces/demo"
    by_uri = f"called --folder-uri vscode-remote://ssh-remote+demo.web1.codesmith{directory}"
    expected = f"called ssh://demo.web1.codesmith{directory}" if editor == "zed" else by_uri
    assert expected in done.stdout, done.stderr


def test_an_editor_is_not_started_if_ssh_does_not_know_the_alias(place, programs):
    programs("code")
    done = enter(place, "--editor", "code")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("hint: inv ssh.config --install\n")


def test_what_an_editor_opens_can_be_printed(place, programs):
    done = enter(place, "--editor", "print")
    assert done.stdout == "vscode-remote://ssh-remote+demo.web1.codesmith/srv/codesmith/workspaces/demo\n"


def test_a_missing_editor_is_an_error(place, programs):
    done = enter(place, "--editor", "zed")
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no `zed` on this machine\nhint: ")
    assert place.inv("workspace.open", "demo", "--editor", "ed").returncode == 1


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


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (["--label", "a=b", "--label", "c=d"], {"a": "b", "c": "d"}),
        (["--label", "a=b", "--remove-label", "c"], {"a": "b", "c": None}),
        (["--no-labels"], {"old": None, "a": None}),
        (["--no-labels", "--label", "a=b"], {"old": None, "a": "b"}),
    ],
)
def test_update_merges_and_removes_by_name(place, words, sent):
    plain = {**WORKSPACE, "login": "cs-demo", "labels": {"old": "x", "a": "y"}}
    with scripted(place.endpoint(), *[result(plain)] * (2 if "--no-labels" in words else 1)) as agent:
        assert place.inv("workspace.update", "demo", *words).returncode == 0
    assert agent.requests[-1]["params"]["labels"] == sent


def test_update_wants_something_to_do(place):
    for words in ([], ["--label", "nothing"], ["--label", "a=b", "--remove-label", "a"], ["--remove-label", ""]):
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
