"""One endpoint with a far end in this process: proof, outage, refusal, recovery."""

from __future__ import annotations

import dataclasses
import os
import random
import socket
import threading

import pytest

from codesmith.errors import AuthenticationFailed, CodeSmithError, NotPrepared, Unreachable, WrongNode
from codesmith.tunnel import identity, pool
from codesmith.tunnel.acceptor import Acceptor
from codesmith.tunnel.local_endpoint import endpoint_path
from codesmith.tunnel.unix_listener import UnixListener
from tests.tunnel.tunnel_doubles import FakeLink, SocketStream
from tests.tunnel.tunnel_talk import Caller, connect, echo, open_files, post, read_all, refusal, version
from tests.waiting import eventually


@pytest.fixture
def ready(keep, node):
    endpoint = keep()
    endpoint.ensure_ready(10)
    return endpoint


@pytest.fixture
def path(node, home):
    return endpoint_path(node)


def test_ready_means_an_answer_with_the_node_id(ready, path):
    seen = ready.view()
    assert (seen.state, seen.node_id, seen.agent_version, seen.reason) == ("ready", "id-1", "0.0.1", "")
    assert version(path) == "id-1"


def test_no_socket_before_the_far_end_is_proven(keep, far_end, path):
    far_end.gate.clear()
    endpoint = keep()
    assert endpoint.view().state == "connecting"
    assert not path.exists()
    far_end.gate.set()
    endpoint.ensure_ready(10)
    assert path.is_socket()


def test_agent_with_another_id_than_the_node_says_is_refused(keep, far_end, path):
    far_end.expected_id = "id-2"
    with pytest.raises(WrongNode, match="id-2"):
        keep().ensure_ready(10)
    assert not path.exists()


def test_name_that_leads_to_another_node_than_before_is_refused(keep, far_end, node):
    identity.remember(node, "id-0")
    endpoint = keep()
    with pytest.raises(WrongNode, match="another node than before") as caught:
        endpoint.ensure_ready(10)
    command = caught.value.hint.split(": ", 1)[1]
    os.system(command)
    keep().ensure_ready(10)
    assert identity.recall(node) == "id-1"


def test_remembered_id_does_not_depend_on_the_address(home, node):
    identity.check(node, "id-1")
    with pytest.raises(WrongNode):
        identity.check(dataclasses.replace(node, host="elsewhere", port=2), "id-2")
    assert identity.forget(node)
    identity.check(node, "id-2")


def test_first_failure_is_told_and_not_repeated(keep, far_end, path):
    far_end.problem = NotPrepared("web1 has no agent", hint="inv node.prepare --node web1")
    endpoint = keep()
    with pytest.raises(NotPrepared, match="no agent"):
        endpoint.ensure_ready(10)
    assert endpoint.is_stopped, "the next caller would get this old error"
    endpoint.join(30)
    assert (endpoint.view().state, endpoint.view().kind) == ("stopped", "NotPrepared")
    assert not path.exists()


def test_who_waits_for_a_node_that_is_disconnected_meanwhile_is_told_so(keep, far_end):
    far_end.gate.clear()
    endpoint = keep()
    stopping = threading.Timer(0.1, endpoint.stop)
    stopping.start()
    with pytest.raises(Unreachable, match="web1 was disconnected meanwhile"):
        endpoint.ensure_ready(10)
    far_end.gate.set()
    stopping.join()


def test_call_during_an_outage_gets_the_typed_reason(ready, far_end, path):
    far_end.cut(AuthenticationFailed("web1 refused the login", hint="ssh-add"))
    eventually(lambda: ready.view().kind == "AuthenticationFailed")
    expected = {"kind": "AuthenticationFailed", "problem": "web1 refused the login", "hint": "ssh-add"}
    assert refusal(path) == expected
    assert ready.view().counts["refused"] == 1


def test_endpoint_comes_back_without_a_command(ready, far_end, path):
    far_end.cut(Unreachable("no route to web1"))
    eventually(lambda: ready.view().state == "degraded")
    far_end.problem = None
    eventually(lambda: ready.view().state == "ready")
    assert version(path) == "id-1"
    assert ready.view().counts["ssh_connections"] == 2


def test_a_loss_that_a_call_comes_upon_shows_before_the_next_attempt_ends(ready, far_end, path, monkeypatch):
    """A hung sshd: opening a spare after the call and the next connect each take their time limit."""

    def hang(link, socket=None):
        link.lose()
        raise Unreachable("no channel")

    far_end.gate.clear()
    monkeypatch.setattr(FakeLink, "open", hang)
    try:
        with connect(path):
            eventually(lambda: ready.view().state == "degraded", within_s=5)
        assert "was lost" in ready.view().reason
    finally:
        far_end.gate.set()


def test_call_waits_for_a_reconnect_under_way(ready, far_end, path):
    far_end.gate.clear()
    far_end.links[-1].die()
    answers = []
    caller = threading.Thread(target=lambda: answers.append(version(path)))
    caller.start()
    eventually(lambda: ready.view().state == "degraded")
    far_end.gate.set()
    caller.join()
    assert answers == ["id-1"]


def test_call_in_flight_ends_when_the_connection_is_lost(ready, far_end, path):
    with connect(path) as sock:
        sock.sendall(b"RAW\nhello")
        assert sock.recv(5) == b"hello"
        far_end.links[-1].die()
        assert sock.recv(5) == b""


@pytest.mark.slow
def test_stopped_agent_shows_and_recovers_on_the_same_connection(ready, far_end, path):
    far_end.stop()
    post(path)  # takes the spare, which still answers
    eventually(lambda: ready.view().state == "degraded")
    assert "stopped" in refusal(path)["problem"]
    far_end.start()
    eventually(lambda: ready.view().state == "ready")
    assert version(path) == "id-1"
    assert ready.view().counts["ssh_connections"] == 1


def test_the_spare_of_a_far_agent_is_wanted_at_once(far_end, node, monkeypatch):
    wanted, ours, theirs = [], *socket.socketpair()
    link = FakeLink(far_end, node, lambda: None)
    streams = pool.Pool("web1", lambda: None, wanted.append)
    streams.use(link, link.prove()[1])
    with ours, theirs:
        for far_s in (0, 0, 10):
            monkeypatch.setattr(pool, "FAR_S", far_s)
            streams.take(ours)
    assert wanted == [False, True, False], "how far it is is known once a stream was opened"
    assert streams.open_now == 3
    link.close()


@pytest.mark.slow
def test_new_connection_takes_the_spare(ready, path):
    for _ in range(5):
        eventually(lambda: ready.has_spare)
        version(path)
    assert ready.view().counts["spares_used"] == 5
    eventually(lambda: ready.has_spare)
    assert ready.view().counts["channels"] == 6


@pytest.mark.slow
def test_spare_closed_by_the_agent_is_replaced(keep, far_end, path):
    far_end.stop()
    far_end.start(idle_s=0.2)
    endpoint = keep()
    endpoint.ensure_ready(10)
    eventually(lambda: endpoint.view().counts["channels"] >= 3)
    assert version(path) == "id-1"
    assert endpoint.view().state == "ready"


def test_old_spare_is_replaced_before_the_agent_closes_it(monkeypatch, keep):
    endpoint = keep()
    endpoint.ensure_ready(10)
    endpoint.look()
    assert endpoint.view().counts["channels"] == 1
    monkeypatch.setattr(pool, "SPARE_MAX_AGE_S", 0.0)
    # A look passes by an endpoint that is at work.
    eventually(lambda: endpoint.look() or endpoint.view().counts["channels"] >= 2)


@pytest.mark.parametrize("calls", [0, 2], ids=["new", "kept"])
def test_a_stream_that_ends_without_an_answer_ends_the_spare_too(ready, path, calls):
    """Both were opened to an agent that may be restarting: who calls again gets a stream that was opened afterwards."""
    caller = Caller(path)
    caller.connect()
    with caller.sock as sock:
        eventually(lambda: ready.has_spare and ready.view().counts["channels"] == 2)
        for _ in range(calls):
            assert caller.post()[0] == 200
        sock.sendall(b"GONE\r\n")
        assert read_all(sock) == b""
        eventually(lambda: ready.view().counts["channels"] == 3)


def test_a_stream_that_ends_with_its_answer_leaves_the_spare(ready, path):
    with connect(path) as sock:
        eventually(lambda: ready.has_spare and ready.view().counts["channels"] == 2)
        sock.sendall(b"POST /stream HTTP/1.1\r\nCodeSmith-Token: " + b"0" * 64 + b"\r\n\r\n")
        assert b"the token is used" in read_all(sock)
        assert version(path) == "id-1"
        assert ready.view().counts["spares_used"] == 2


def test_removed_socket_is_made_again(ready, path):
    path.unlink()
    ready.ensure_ready(10)
    assert version(path) == "id-1"


def test_foreign_file_in_the_way_is_told(keep, path):
    path.write_text("mine")
    with pytest.raises(CodeSmithError, match="in the way"):
        keep().ensure_ready(10)
    assert path.read_text() == "mine"


def test_one_connection_too_many_is_refused(keep, path):
    keep(places=2).ensure_ready(10)
    with connect(path) as one, connect(path) as two:
        for sock in (one, two):
            sock.sendall(b"RAW\nx")
            assert sock.recv(1) == b"x"
        assert "too many local connections" in refusal(path)["problem"]
    eventually(lambda: post(path)[0] == 200)


def test_half_close_goes_through_both_ways(ready, path):
    assert echo(path, b"hello") == b"helloEND"


def test_stream_that_cannot_even_be_closed_harms_nobody(ready, far_end, path, monkeypatch):
    def fail(self):
        raise EOFError

    version(path)
    eventually(lambda: ready.has_spare)
    with connect(path) as sock:
        sock.sendall(b"RAW\nx")
        assert sock.recv(1) == b"x"
        with monkeypatch.context() as broken:
            close = SocketStream.close
            broken.setattr(SocketStream, "close", lambda self: (close(self), fail(self)))
            channels = ready.view().counts["channels"]
            ready.request_proof()  # its stream takes the place of the spare, which is closed
            eventually(lambda: ready.view().counts["channels"] > channels and ready.has_spare)
            sock.shutdown(socket.SHUT_WR)
            read_all(sock)
            eventually(lambda: ready.view().counts["open"] == 0)
    assert version(path) == "id-1"


def test_stream_that_cannot_be_had_asks_for_a_new_proof(home):
    class Pool:
        tries = 0

        def take(self, local):
            self.tries += 1
            if self.tries == 1:
                raise Unreachable("the connection is lost")
            self.local = local
            return self

        def serve(self):
            self.local.sendall(b"served")

        def give_back(self, relay):
            pass

    doubts, acceptor = [], Acceptor(1)
    listener = UnixListener(home / "a.sock", Pool(), acceptor, lambda patience_s: None, lambda: doubts.append("doubt"))
    listener.ensure_open()
    with connect(home / "a.sock") as sock:
        assert read_all(sock) == b"served"
    listener.close()
    acceptor.close()
    assert doubts == ["doubt"]


def test_client_that_half_closed_still_gets_its_answer(ready, path):
    with connect(path) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock).startswith(b"HTTP/1.1 200")


@pytest.mark.slow
def test_bulk_both_ways_at_once(ready, path):
    payload = random.Random(1).randbytes(20_000_000)
    assert echo(path, payload) == payload + b"END"


def test_keep_alive_calls_share_one_stream(ready, path):
    caller = Caller(path)
    assert [caller.post()[0] for _ in range(20)] == [200] * 20
    caller.close()
    eventually(lambda: ready.has_spare)
    assert ready.view().counts["channels"] == 2


@pytest.mark.slow
def test_dropped_connections_leave_nothing(ready, path):
    version(path)
    eventually(lambda: ready.view().counts["open"] == 0 and ready.has_spare)
    files, threads = open_files(), threading.active_count()
    for _ in range(200):
        connect(path).close()
    eventually(lambda: ready.view().counts["open"] == 0)
    eventually(lambda: open_files() <= files + 2, "descriptors left")
    eventually(lambda: threading.active_count() <= threads + 2, "threads left")
    assert version(path) == "id-1"
