"""How long a call may take, and what is said of a peer that is silent."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from codesmith import errors
from codesmith.http import client
from codesmith.http.client import Connection
from codesmith.sdk import transport as transport_module
from codesmith.sdk.api import Methods
from tests.sdk.sdk_doubles import change, crowd, http, look, result, scripted


def test_a_peer_that_says_nothing_is_given_up_at_the_deadline(path, transport, monkeypatch):
    monkeypatch.setattr(transport_module, "LOOK_S", 0.2)
    with scripted(path, b"HTTP/1.1 200 OK\r\n"):
        with pytest.raises(errors.Unreachable, match=r"web1 did not answer node.version within 0 s"):
            look(transport)


@pytest.mark.slow
def test_a_long_answer_that_has_begun_in_time_is_taken_to_its_end(path):
    late = 0.3

    def talk(listening):
        connection, _ = listening.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nno")
            time.sleep(2 * late)  # behind the deadline: time itself is what this is about
            connection.sendall(b"w!")

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(1)
        server = threading.Thread(target=talk, args=[listening])
        server.start()
        deadline = time.monotonic() + late
        connection = Connection(path, deadline)
        assert connection.post(b"{}", deadline) == (200, b"now!", True)
        connection.close()
        server.join()


@pytest.mark.slow
def test_an_agent_that_answers_nobody_is_told_long_before_the_deadline_of_a_change(path, transport, monkeypatch):
    monkeypatch.setattr(client, "SILENCE_S", 0.1)
    monkeypatch.setattr(transport_module, "PROBE_S", 0.2)

    def talk(connection):
        with connection:
            while connection.recv(1 << 16):
                pass

    with crowd(path, talk), pytest.raises(errors.CallLost, match="its agent answers no call") as caught:
        change(transport)
    assert "inv node.restart --node web1; CODESMITH_REQUEST_ID=" in caught.value.hint
    assert caught.value.request_id


def test_a_change_that_only_takes_long_goes_on(path, transport, monkeypatch):
    monkeypatch.setattr(client, "SILENCE_S", 0.1)
    was_asked = threading.Event()

    def talk(connection):
        with connection:
            request = connection.recv(1 << 16)
            if b"node.version" in request:
                was_asked.set()
                connection.sendall(http({"jsonrpc": "2.0", "id": 0, "result": {}}))
            elif was_asked.wait(10):
                connection.sendall(http({"jsonrpc": "2.0", "id": 1, "result": "done"}))

    with crowd(path, talk):
        assert change(transport) == "done"
        transport.close()
    assert was_asked.is_set()


class Noting:
    """A transport that records the time limit of each call."""

    def call(self, method, params, *, changes, limit_s=0.0):
        self.limit_s = limit_s

    def record(self, method, read, found):
        return None


@pytest.mark.parametrize(
    ("call", "limit_s"),
    [
        (lambda client: client.user.create(name="ada"), 0),
        (lambda client: client.workspace.exec(name="demo", argv=["true"]), 60),
        (lambda client: client.workspace.exec(name="demo", argv=["true"], timeout_s=7), 7),
        (lambda client: client.repo.clone(workspace="demo", url="u"), 600),
        (lambda client: client.repo.clone(workspace="demo", url="u", timeout_s=7), 7),
        (lambda client: client.workspace.create(name="demo"), 0),
        (lambda client: client.workspace.create(name="demo", repo={}), 600),
        (lambda client: client.workspace.create(name="demo", repo={"timeout_s": 7}), 7),
    ],
)
def test_a_calls_own_limit_is_that_of_the_contract(call, limit_s):
    noting = Noting()
    call(Methods(noting))
    assert noting.limit_s == limit_s


def test_a_commands_own_limit_comes_on_top_of_the_deadline(path, transport, monkeypatch):
    monkeypatch.setattr(transport_module, "CHANGE_S", -1.0)
    with scripted(path, result(1), result(2)):
        assert transport.call("workspace.exec", {}, changes=True, limit_s=30) == 1
        with pytest.raises(errors.Unreachable):
            transport.call("workspace.exec", {}, changes=True)
