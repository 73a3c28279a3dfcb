"""The files and options of the sshd inside; what it does with them is tested on nodes."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path

import pytest

from agent.shared.errors import InvalidParams, Unsupported
from agent.supervisor import ssh

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDIuGpN3yNLEY6w4XWQDo5tVH0sg6O3oMyJ2nRZbZ2q5"


@pytest.fixture(autouse=True)
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for sshd, which writes its arguments to its stream."""
    path = tmp_path / "sshd"
    path.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    path.chmod(0o755)
    monkeypatch.setattr(ssh, "SSHD", str(path))
    monkeypatch.setattr(ssh, "TMP", str(tmp_path))
    monkeypatch.setattr(ssh, "HOST_KEY", ssh.HostKey())
    return path


def options_of(*keys: str, environment: dict[str, str] | None = None) -> dict[str, str]:
    """Return the options that sshd gets."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            pid = ssh.serve(theirs.fileno(), [*keys] or [KEY], environment or {})
        said = b"".join(iter(lambda: ours.recv(65536), b"")).decode().splitlines()
    assert os.waitpid(pid, 0)[1] == 0
    assert said[:4] == ["-i", "-e", "-f", "/dev/null"]
    return dict(option.split("=", 1) for word, option in zip(said[4::2], said[5::2], strict=True) if word == "-o")


def test_the_host_key_is_made_once_and_private() -> None:
    first = ssh.host_keys()
    assert [key.split(" ")[0] for key in first] == ["ssh-ed25519"]
    assert ssh.host_keys() == first
    folder = Path(ssh.HOST_KEY.folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert options_of()["HostKey"] == f"{folder}/host_key"
    assert stat.S_IMODE((folder / "host_key").stat().st_mode) == 0o600


def test_a_login_that_removes_it_gets_another_one() -> None:
    first = ssh.host_keys()
    shutil.rmtree(ssh.HOST_KEY.folder)
    assert ssh.host_keys() != first
    assert options_of()["AuthorizedKeysFile"].startswith(ssh.HOST_KEY.folder)


def test_sshd_accepts_the_dialled_key_alone() -> None:
    options = options_of(f"{KEY} a comment")
    assert Path(options["AuthorizedKeysFile"]).read_text() == f"{KEY}\n"
    assert options["AuthenticationMethods"] == "publickey"
    for key in (f'command="id" {KEY}', f"{KEY}\n{KEY}", "", "ssh-ed25519 AAAA", None):
        with pytest.raises(InvalidParams):
            ssh.serve(0, [key], {})
    for keys in ([], None, KEY, [KEY, "ssh-ed25519 AAAA"]):
        with pytest.raises(InvalidParams):
            ssh.serve(0, keys, {})


def test_sshd_accepts_all_keys_of_a_user() -> None:
    other = KEY.replace("DIuGpN3", "DIuGpN4")
    options = options_of(f"{KEY} a comment", f'{other} command="id"')
    assert Path(options["AuthorizedKeysFile"]).read_text() == f"{KEY}\n{other}\n"


def test_a_key_has_one_file_however_often_it_comes() -> None:
    options_of()
    there = len(os.listdir(ssh.HOST_KEY.folder))
    options_of()
    assert len(os.listdir(ssh.HOST_KEY.folder)) == there == 3


def test_sessions_get_the_environment_that_old_sshds_can_read() -> None:
    environment = {"CODESMITH_WORKSPACE": "demo", "PLACE": "a b", "QUOTE": 'a"b', "SLASH": "a\\b", "LINE": "a\nb"}
    variables = options_of(environment=environment)["SetEnv"]
    assert '"CODESMITH_WORKSPACE=demo" "PLACE=a b"' in variables
    assert not any(name in variables for name in ("QUOTE", "SLASH", "LINE"))


def test_a_node_without_sshd_says_so(sshd: Path) -> None:
    sshd.unlink()
    with pytest.raises(Unsupported, match="sshd on this node"):
        ssh.host_keys()
