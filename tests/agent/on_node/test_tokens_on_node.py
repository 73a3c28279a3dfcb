"""Tokens on a real node: what their holder reaches by scoped.sock, and what ends with them."""

from __future__ import annotations

import hashlib
import json
import secrets
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.agent.on_node.framed import Framed
from tests.agent.on_node.web1 import Web1
from tests.releases import TRIXIE_FIRST
from tests.waiting import eventually

pytestmark = TRIXIE_FIRST
# A connection to a socket of the node: the relay runs in the node's own file system.
RELAY = """
import os, socket, sys, threading
there = socket.socket(socket.AF_UNIX); there.connect("/run/codesmith/scoped.sock")
def copy(read, write, end):
    while True:
        data = read()
        if not data: break
        write(data)
    end()
threading.Thread(target=copy, args=(lambda: os.read(0, 65536), there.sendall,
                 lambda: there.shutdown(socket.SHUT_WR)), daemon=True).start()
copy(lambda: there.recv(65536), lambda data: os.write(1, data), lambda: None)
"""
# Makes calls, one after the other, with a secret; both come in by its input.
ASK = """
import http.client, json, socket, sys
class Scoped(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/codesmith/scoped.sock")
secret, calls = json.load(sys.stdin)
answers = []
for method, params in calls:
    there = Scoped("n")
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    there.request("POST", "/", json.dumps(request), {"Authorization": "Bearer " + secret})
    answers.append(json.load(there.getresponse()))
    there.close()
print(json.dumps(answers))
"""


class Holder:
    """Somebody with a secret, who reaches scoped.sock of a node."""

    def __init__(self, web1: Web1, workspace: str, **more: Any) -> None:
        self.web1, self.secret = web1, secrets.token_hex(32)
        digest = hashlib.sha256(self.secret.encode()).hexdigest()
        self.id = web1.client.token.create(workspace=workspace, token_sha256=digest, **more).id

    def connect(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        ours, theirs = socket.socketpair()
        node = self.web1.person.lab_node("web1")
        argv = node.enter_args(["python3", "-c", RELAY])
        with theirs:
            return ours, subprocess.Popen(argv, stdin=theirs, stdout=theirs)

    def asks(self, method: str, **params: Any) -> dict[str, Any]:
        """Make a call, and return its answer."""
        return self.asks_each([(method, params)])[0]

    def asks_each(self, calls: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
        """Make several calls, each over a connection of its own, and return their answers."""
        argv = self.web1.person.lab_node("web1").enter_args(["python3", "-c", ASK])
        asked = json.dumps([self.secret, calls]).encode()
        done = subprocess.run(argv, input=asked, capture_output=True, check=True, timeout=60)
        answers: list[dict[str, Any]] = json.loads(done.stdout)
        return answers


@pytest.fixture
def workspace(web1: Web1) -> str:
    for name in ("mine", "theirs"):
        if name not in [one.name for one in web1.client.workspace.list()]:
            web1.client.workspace.create(name=name)
    return "mine"


def test_a_holder_works_in_one_workspace_alone(web1: Web1, workspace: str) -> None:
    holder = Holder(web1, workspace, label="agent")
    done = holder.asks("workspace.exec", name="mine", argv=["id", "-un"])["result"]
    assert done["stdout"] == "cs-mine\n"
    refused: dict[str, dict[str, Any]] = {
        "workspace.exec": {"name": "theirs", "argv": ["true"]},
        "workspace.get": {"name": "theirs"},
        "file.read": {"workspace": "theirs", "path": "AGENTS.md"},
        "user.list": {},
        "node.info": {},
        "audit.list": {},
        "sandbox.update": {"workspace": "mine", "limits": {}},
        "token.list": {},
        "workspace.share": {"name": "mine", "user": "theirs"},
    }
    for method, answer in zip(refused, holder.asks_each(list(refused.items())), strict=True):
        assert answer["error"]["data"]["kind"] == "out_of_scope", method
    read = holder.asks("file.read", workspace="mine", path="../theirs/AGENTS.md")
    assert "error" in read
    job = holder.asks("job.start", workspace="mine", argv=["sleep", "1000"])["result"]
    assert job["by"] == f"token:{holder.id}"
    records = web1.client.audit.list(workspace="mine")
    assert {"id": holder.id, "label": "agent"} in [one.token.to_dict() for one in records if one.token]
    web1.client.job.stop(workspace="mine", id=job["id"])


def test_its_streams_end_with_it_and_its_jobs_go_on(web1: Web1, workspace: str) -> None:
    holder = Holder(web1, workspace)
    kept = holder.asks("job.start", workspace="mine", argv=["sleep", "1000"])["result"]
    started = holder.asks(
        "job.start", workspace="mine", argv=["sh", "-c", "echo begun; exec sleep 1000"], ends_with_stream=True
    )["result"]
    connection, relay = holder.connect()
    with connection, relay:
        with Framed(connection, started["stream"]["token"], f"Authorization: Bearer {holder.secret}") as stream:
            assert stream.status == 101
            stream.until(b"begun")
            web1.client.token.revoke(id=holder.id)
            with pytest.raises((OSError, AssertionError), match="ended"):
                while stream.frame():
                    pass
        relay.kill()
    state_of: Callable[[str], str] = lambda job: web1.client.job.get(workspace="mine", id=job).state  # noqa: E731
    assert eventually(lambda: state_of(started["id"]) == "killed")
    assert state_of(kept["id"]) == "running"
    web1.client.job.stop(workspace="mine", id=kept["id"])
    assert "error" in holder.asks("workspace.get", name="mine")


def test_only_clients_reach_the_socket(web1: Web1, workspace: str) -> None:
    listed = web1.person.on("web1", "stat -c '%U:%G %a' /run/codesmith/scoped.sock").out.split()
    assert listed == ["root:codesmith-clients", "660"]
    inside = web1.client.workspace.exec(name="mine", argv=["ls", "/run/codesmith/scoped.sock"])
    assert inside.exit_code != 0
