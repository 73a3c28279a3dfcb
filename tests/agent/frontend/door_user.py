"""A user at the door, and how users are put into the store of a front end."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.shared import framing
from tests.agent.conftest import Rpc

KEYS = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDIuGpN3yNLEY6w4XWQDo5tVH0sg6O3oMyJ2nRZbZ2q5 ann@home",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDIuGpN4yNLEY6w4XWQDo5tVH0sg6O3oMyJ2nRZbZ2q5 ann@work",
]


class Ann:
    """A user whose login is that of these tests, at the door."""

    def __init__(self, rpc: Rpc, path: Path) -> None:
        self.rpc, self.path = rpc, path

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        connection.connect(str(self.path))
        return connection

    def ask(self, command: Any = None, **fields: Any) -> tuple[dict[str, Any], socket.socket]:
        connection = self.connect()
        with suppress(BrokenPipeError):  # some are refused before they say anything
            framing.send(connection, {"protocol": 1, "command": command, "tty": None, "env": {}, **fields})
        return framing.receive(connection, 1 << 20), connection

    def refused(self, command: Any = None, **fields: Any) -> str:
        answer, connection = self.ask(command, **fields)
        with connection, suppress(ConnectionResetError):
            assert connection.recv(1) == b""
        return str(answer["error"])

    def records(self) -> list[dict[str, Any]]:
        return [one for one in self.rpc.audited() if one["method"] == "door.enter"]


def make_user(rpc: Rpc, name: str, *, uid: int, state: str = "active") -> None:
    rpc.call("user.create", name=name, ssh_keys=KEYS)
    document = rpc.store.get_user(name)
    assert document is not None
    del document["workspaces"]
    rpc.store.put_user({**document, "uid": uid, "state": state})
