"""The small parts: facts and their errors, waits, the log file, the refusal."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading

import pytest

from codesmith.errors import AuthenticationFailed, NotPrepared, Unreachable, WrongNode
from codesmith.http.refusal import refuse
from codesmith.tunnel import backoff, logfile, proof
from codesmith.tunnel.acceptor import Acceptor
from tests.tunnel.tunnel_doubles import SocketStream
from tests.tunnel.tunnel_talk import read_all

UNSEEN = "cannot tell whether web1 has a CodeSmith agent"
ID = '{"node_id": "id-1"}'
FACTS = {
    "well": ("11101", ID, None, ""),
    "no agent": ("00000", "", NotPrepared, "no CodeSmith agent"),
    "agent but no id": ("11100", "", NotPrepared, "no CodeSmith agent"),
    "damaged id": ("11101", "{", NotPrepared, "no CodeSmith agent"),
    "id is no object": ("11101", "[]", NotPrepared, "no CodeSmith agent"),
    "stopped": ("10101", ID, Unreachable, "is stopped"),
    "not in the group": ("11001", ID, NotPrepared, "codesmith-clients"),
    "socket removed": ("11011", ID, Unreachable, "removed its socket"),
    "garbage": ("x", "?", Unreachable, UNSEEN),
    "nothing": ("", "", Unreachable, UNSEEN),
    "cut off": ("10", "", Unreachable, UNSEEN),
    "agent out of sight": ("?0001", ID, Unreachable, UNSEEN),
    "sockets out of sight": ("1?001", ID, Unreachable, UNSEEN),
    "id out of sight": ("1110?", "", Unreachable, UNSEEN),
    "id that cannot be read": ("11101", "", Unreachable, UNSEEN),
}
NEXT = {
    "is stopped": "inv node.start --node web1",
    "removed its socket": "inv node.start --node web1",
    UNSEEN: "inv node.doctor --node web1",
}


@pytest.mark.parametrize(("flags", "document", "error", "words"), FACTS.values(), ids=FACTS)
def test_facts_name_the_reason(flags, document, error, words):
    facts = proof.parse_facts(f"{flags}\n{document}\n")
    if error is None:
        proof.ensure_prepared(facts, "web1", "ops")
        assert facts.node_id == "id-1"
        return
    with pytest.raises(error, match=words) as caught:
        proof.ensure_prepared(facts, "web1", "ops")
    assert caught.value.hint == NEXT.get(words, "inv node.prepare --node web1")


ANSWERS = {
    "not HTTP": (b"SSH-2.0-x\r\n\r\n", "not a CodeSmith agent"),
    "another service": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "not a CodeSmith agent"),
    "error of the agent": (b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"error": {}}', "not a CodeSmith agent"),
    "cut short": (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{", "closed the connection"),
    "nothing": (b"", "closed the connection"),
    "endless": (b"x" * 200_000, "not a CodeSmith agent"),
}


@pytest.mark.parametrize(("answer", "words"), ANSWERS.values(), ids=ANSWERS)
def test_improper_answers_are_no_proof(answering, answer, words):
    with pytest.raises(Unreachable, match=words):
        proof.ask_version(answering(answer), "web1", 5)


def test_agent_that_never_answers_is_given_up(answering):
    with pytest.raises(Unreachable, match="no answer within"):
        proof.ask_version(answering(None), "web1", 0.1)


@pytest.fixture
def answering(tmp_path):
    """Return streams to a server that sends `answer` and closes; with None it stays silent."""
    with contextlib.ExitStack() as stack:

        def start(answer: bytes | None) -> SocketStream:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(tmp_path / "a.sock"))
            listener.listen()
            stream = SocketStream(tmp_path / "a.sock")
            connection, _ = listener.accept()
            stack.callback(connection.close)
            if answer is not None:
                speaker = threading.Thread(target=speak, args=(connection, answer))
                speaker.start()
                stack.callback(speaker.join)
            stack.callback(stream.close)
            return stream

        yield start


def speak(connection: socket.socket, answer: bytes) -> None:
    connection.recv(4096)
    try:
        connection.sendall(answer)
    except OSError:
        pass
    connection.close()


def test_waits_grow_to_a_cap_and_start_again():
    waits = backoff.Backoff()
    lost = Unreachable("lost")
    taken = [waits.wait_s(lost) for _ in range(50)]
    assert taken[0] < 0.4
    assert all(wait <= backoff.CAP_S * 1.25 for wait in taken)
    assert min(taken[10:]) >= backoff.CAP_S * 0.75
    assert len(set(taken[10:])) > 30, "no jitter"
    waits.reset()
    assert waits.wait_s(lost) < 0.4


@pytest.mark.parametrize("error", [AuthenticationFailed, WrongNode])
def test_refused_logins_are_not_hammered_but_tried_within_30_s(error):
    assert 10 < backoff.Backoff().wait_s(error("no")) <= 25


LOG = """
import logging, sys
from pathlib import Path
from codesmith.tunnel.logfile import LogFile
logging.getLogger().addHandler(LogFile(Path(sys.argv[1])))
for number in range(20000):
    logging.warning("line %d of\\nmany", number)
print("on stdout", flush=True)
"""


@pytest.mark.slow
def test_log_is_private_bounded_and_takes_stdout(tmp_path):
    path = tmp_path / "forwarder.log"
    subprocess.run([sys.executable, "-c", LOG, str(path)], cwd=os.getcwd(), check=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["forwarder.log", "forwarder.log.1"]
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in tmp_path.iterdir())
    assert all(file.stat().st_size < 300_000 for file in tmp_path.iterdir())
    lines = path.read_text().splitlines()
    assert lines[-1] == "on stdout"
    assert lines[-2].endswith("line 19999 of | many")


CHATTY = """
import subprocess, sys
from pathlib import Path
from codesmith.tunnel.logfile import LogFile
log = LogFile(Path(sys.argv[1]))
with subprocess.Popen(["sh", "-c", "while read line; do head -c 400000 /dev/zero >&2; echo; done"],
                      stdin=subprocess.PIPE, stdout=subprocess.PIPE) as proxy:
    for _ in range(4):
        proxy.stdin.write(b"\\n")
        proxy.stdin.flush()
        proxy.stdout.readline()
        log.shorten()
    proxy.stdin.close()
"""


def test_a_proxy_that_talks_for_days_does_not_fill_the_disk(tmp_path):
    subprocess.run([sys.executable, "-c", CHATTY, str(tmp_path / "forwarder.log")], cwd=os.getcwd(), check=True)
    assert [(file.name, file.stat().st_size) for file in sorted(tmp_path.iterdir())] == [
        ("forwarder.log", 0),
        ("forwarder.log.1", logfile.MAX_BYTES),
    ]


def test_a_connection_that_no_thread_is_left_for_ends_and_the_next_is_served(monkeypatch):
    served = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        acceptor = Acceptor()
        accepting = acceptor.listen("web1", listening, lambda _: served.set())
        with monkeypatch.context() as crowded:
            crowded.setattr(threading.Thread, "start", no_thread)
            with socket.create_connection(listening.getsockname(), timeout=5) as refused:
                assert refused.recv(1) == b""
        assert not served.is_set()
        with socket.create_connection(listening.getsockname(), timeout=5) as sock:
            assert sock.recv(1) == b""
        accepting.close()
        acceptor.close()
    assert served.is_set()


def no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_refusal_reaches_a_client_that_still_sends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        refusing = threading.Thread(target=refuse, args=(theirs, Unreachable("gone", hint="wait")))
        refusing.start()
        ours.sendall(b"x" * 900_000)
        answer = read_all(ours)
        ours.shutdown(socket.SHUT_WR)
        refusing.join()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b'{"error": {"kind": "Unreachable", "problem": "gone", "hint": "wait"}}')


def test_refusal_does_not_wait_for_a_silent_client(monkeypatch):
    monkeypatch.setattr("codesmith.http.refusal.DRAIN_S", 0.1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        refuse(theirs, Unreachable("gone"))  # comes back: the client neither reads nor closes
