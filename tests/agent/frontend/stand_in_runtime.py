"""A stand-in for the runtime of one workspace: real sockets, and an "sshd" that says who it is and echoes."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

from agent.shared import framing

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOEw3y4Tq0p2Qm8b7WvJYp5n2m0mJbF1wQd7Yq9l6s3f"


class StandInRuntime:
    """Answers requests of the front end; passed streams are echoed, also after the front end has ended."""

    def __init__(self, path: Path) -> None:
        self.requests: list[dict[str, Any]] = []
        self.answers: dict[str, dict[str, Any]] = {"ssh_host_keys": {"result": {"host_keys": [HOST_KEY]}}}
        self.streams: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._start(self._serve)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        for stream in self.streams:
            try:
                stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join()
        self._listening.close()

    def _start(self, work: Any, *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments))
        self._threads[-1].start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                message, descriptor = framing.receive_with_descriptor(connection, framing.REQUEST_MAX)
                self.requests.append(message)
                if descriptor is not None:
                    self._take(descriptor)
                framing.send(connection, self.answers.get(message["request"], {"result": {}}))

    def _take(self, descriptor: int) -> None:
        assert not os.get_inheritable(descriptor)
        stream = socket.socket(fileno=descriptor)
        self.streams.append(stream)
        self._start(self._echo, stream)

    def _echo(self, stream: socket.socket) -> None:
        with stream:
            try:
                stream.sendall(b"SSH-2.0-StandIn\r\n")
                while data := stream.recv(65536):
                    stream.sendall(data)
            except OSError:
                pass
