"""What a forwarded ssh agent gives away: the list of its keys, and signatures for one kind of sign-in."""

from __future__ import annotations

import base64
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from codesmith.errors import CodeSmithError, Unsupported
from codesmith.http.port import Port
from codesmith.sdk.agent_forwarding import SIGNATURES_MAX, ForwardedAgent, is_sign_in, login_of
from codesmith.sdk.client import Client
from tests.ssh_agent import SshAgent, running_agent

FAILURE, SIGNED = b"\x05", 14


def text(*words: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(word)) + word for word in words)


def sign_in(key: bytes = b"key", user: bytes = b"git", service: bytes = b"ssh-connection",
            method: bytes = b"publickey", kind: int = 50) -> bytes:  # fmt: skip
    data = text(b"session") + bytes([kind]) + text(user, service, method) + b"\1" + text(b"ssh-ed25519", key)
    return b"\x0d" + text(key, data) + struct.pack(">I", 0)


def test_a_sign_in_is_told_from_everything_else() -> None:
    assert is_sign_in(sign_in(), "git")
    assert is_sign_in(sign_in(method=b"publickey-hostbound-v00@openssh.com"), "git")
    assert is_sign_in(sign_in(user=b"cs-demo"), None)
    others = [
        sign_in(user=b"root"), sign_in(service=b"ssh-userauth"), sign_in(method=b"hostbased"), sign_in(kind=51),
        b"\x0d", b"\x0d" + text(b"key", b"SSHSIG\0\0\0\3git"), b"\x0d" + text(b"key", text(b"session") + b"\x32"),
        b"\x0d" + text(b"key", b""), sign_in()[:30], b"\x0d\xff\xff\xff\xff",
    ]  # fmt: skip
    assert [is_sign_in(request, "git") for request in others] == [False] * len(others)


def test_a_login_follows_from_the_url() -> None:
    assert [login_of(url) for url in ("git@h:p", "ssh://me@h:22/p", "ssh://h/p@x")] == ["git", "me", None]
    with pytest.raises(CodeSmithError, match="https"):
        login_of("https://h/p")


class Endpoint:
    """Accepts the upgrade as a node does, and talks to the forwarded agent."""

    def __init__(self) -> None:
        self._near, far = socket.socketpair()
        self._near.settimeout(20)
        self._far: Any = far

    def upgrade(self, target: str, protocol: str, headers: dict[str, str]) -> socket.socket:
        assert (target, protocol, len(headers["CodeSmith-Token"])) == ("/ssh-agent", "ssh-agent", 64)
        return self._far

    def ask(self, request: bytes) -> bytes:
        self._near.sendall(text(request))
        (size,) = struct.unpack(">I", self._near.recv(4, socket.MSG_WAITALL))
        return self._near.recv(size, socket.MSG_WAITALL)

    def close(self) -> None:
        assert self._near.recv(1) == b""
        self._near.close()


def key_of(agent: SshAgent, folder: Path) -> bytes:
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", folder / "key"], check=True)
    agent.add((folder / "key").read_text())
    return base64.b64decode((folder / "key.pub").read_text().split()[1])


def test_a_real_agent_is_forwarded_for_sign_ins_only(tmp_path: Path) -> None:
    with running_agent() as agent:
        key, node = key_of(agent, tmp_path), Endpoint()
        before = agent.listed()
        with ForwardedAgent(node, "git@h:p", str(agent.path)):  # type: ignore[arg-type]
            assert key in node.ask(b"\x0b")
            for request in (b"\x13", b"\x12" + text(key), b"\x0bx", b"\x1b" + text(b"query"),
                            b"\x0d" + text(key, b"SSHSIG") + b"\0\0\0\0"):  # fmt: skip
                assert node.ask(request) == FAILURE
            signed = [node.ask(sign_in(key))[0] == SIGNED for _ in range(SIGNATURES_MAX)]
            # One was used up by the request that was refused.
            assert signed == [True] * (SIGNATURES_MAX - 1) + [False]
        node.close()
        assert agent.listed() == before != ""


def test_without_an_agent_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody: Any = None  # it is refused before anything is sent
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    for agent in (None, "none"):
        with pytest.raises(CodeSmithError, match="SSH_AUTH_SOCK"):
            ForwardedAgent(nobody, "git@h:p", agent)
    with pytest.raises(CodeSmithError, match="does not answer"):
        ForwardedAgent(nobody, "git@h:p", str(tmp_path / "nothing"))


def test_no_agent_is_forwarded_over_a_port(tmp_path: Path) -> None:
    port = Port.parse("http://127.0.0.1:7001", tmp_path / "token")
    with running_agent() as agent, pytest.raises(Unsupported, match="private socket"):
        Client(port).forward_agent("git@h:p", str(agent.path))
