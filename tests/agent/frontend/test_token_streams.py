"""The pump between a token's holder and a runtime: all that a runtime sent arrives, whatever the client sends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from agent.frontend import token_streams
from agent.frontend.token_streams import pump

PATIENCE_S = 20


class Pumped:
    """A client and a runtime, each with its far end in the hands of the pump."""

    def __init__(self) -> None:
        self.client, self._ours = socket.socketpair()
        self.runtime, self._theirs = socket.socketpair()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.client.settimeout(PATIENCE_S)
        self.runtime.settimeout(PATIENCE_S)

    def _run(self) -> None:
        with self._ours, self._theirs:
            pump(self._ours, self._theirs, lambda: True)

    def has_ended(self) -> bool:
        self.thread.join(PATIENCE_S)
        return not self.thread.is_alive()


@pytest.fixture
def pumped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pumped]:
    monkeypatch.setattr(token_streams, "CHUNK_BYTES", 4)  # so that nothing here is carried at once
    both = Pumped()
    with both.client, both.runtime:
        yield both


def everything(one: socket.socket) -> bytes:
    return b"".join(iter(lambda: one.recv(65536), b""))


def test_what_a_runtime_sent_arrives_although_it_takes_no_more(pumped: Pumped) -> None:
    """A command ends while its client still sends: its output and its exit code are not lost."""
    pumped.runtime.sendall(b"output and exit code")
    pumped.client.sendall(b"input for nobody")
    pumped.runtime.close()
    pumped.thread.start()
    assert everything(pumped.client) == b"output and exit code"
    pumped.client.close()
    assert pumped.has_ended()


def test_a_client_that_has_gone_ends_the_stream(pumped: Pumped) -> None:
    pumped.client.close()
    pumped.runtime.sendall(b"for nobody")
    pumped.thread.start()
    assert pumped.has_ended()


def test_a_half_close_is_passed_on_and_the_answer_still_comes(pumped: Pumped) -> None:
    pumped.thread.start()
    pumped.client.sendall(b"question")
    pumped.client.shutdown(socket.SHUT_WR)
    assert everything(pumped.runtime) == b"question"
    pumped.runtime.sendall(b"answer")
    pumped.runtime.close()
    assert everything(pumped.client) == b"answer"
    pumped.client.close()
    assert pumped.has_ended()
