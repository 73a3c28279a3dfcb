"""The forwarder as a process: started once, on demand, in the background; ends cleanly; errors keep their class."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from codesmith.errors import CodeSmithError, NotPrepared, SecretNeeded, Unreachable, error_from_dict, error_to_dict
from codesmith.paths import runtime_dir, state_dir
from codesmith.secrets import SecretRequest, Secrets
from codesmith.tunnel import __main__ as program
from codesmith.tunnel import control
from codesmith.tunnel import forwarder as forwarding
from codesmith.tunnel.endpoint import Endpoint
from codesmith.tunnel.forwards import Forwards
from codesmith.tunnel.local_endpoint import endpoint_path
from codesmith.tunnel.lock import hold
from codesmith.tunnel.private_socket import PrivateSocket
from codesmith.tunnel.state import EndpointState
from tests.tunnel.tunnel_talk import connect, stopped, threads_since
from tests.waiting import eventually, is_running

TOP = Path(control.__file__).parent.parent.parent


@pytest.fixture
def forwarder(home):
    control.start()
    return control.ping()


def test_nothing_runs_until_it_is_needed(home, node):
    assert control.ping() is None
    assert control.status() == []
    assert control.disconnect(node) is False
    assert control.stop() is False


def test_start_returns_when_the_control_socket_accepts(forwarder):
    assert is_running(forwarder)
    path = control.control_path()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_callers_at_once_start_one(home):
    callers = [threading.Thread(target=control.start) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    log = (state_dir() / "forwarder.log").read_text()
    assert log.count("started") == 1, log


def test_forwarder_is_detached(forwarder):
    assert os.getsid(forwarder) != os.getsid(0)
    assert os.readlink(f"/proc/{forwarder}/cwd") == "/"
    log = state_dir() / "forwarder.log"
    assert [os.readlink(f"/proc/{forwarder}/fd/{fd}") for fd in (0, 1, 2)] == ["/dev/null", str(log), str(log)]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "end", [lambda pid: os.kill(pid, signal.SIGTERM), lambda pid: control.stop()], ids=["TERM", "stop"]
)
def test_forwarder_ends_cleanly(forwarder, end):
    end(forwarder)
    eventually(lambda: not is_running(forwarder))
    assert [path for path in runtime_dir().iterdir() if path.is_socket()] == []
    assert "ended" in (state_dir() / "forwarder.log").read_text().splitlines()[-1]


def test_killed_forwarder_is_replaced(forwarder):
    os.kill(forwarder, signal.SIGKILL)
    eventually(lambda: not is_running(forwarder))
    assert control.control_path().is_socket()  # stale
    control.start()
    assert control.ping() not in (None, forwarder)


@pytest.mark.slow
def test_a_forwarder_that_hangs_is_told_and_the_hint_ends_it(forwarder, monkeypatch):
    monkeypatch.setattr(control, "SHORT_S", 0.3)
    with stopped(forwarder):
        with pytest.raises(CodeSmithError, match="gave no answer") as caught:
            control.status()
        subprocess.run(caught.value.hint, shell=True, check=True)  # as it is pasted
        eventually(lambda: not is_running(forwarder))
    control.start()


@pytest.mark.slow
def test_a_command_that_was_stopped_while_it_starts_the_forwarder_is_named(home, monkeypatch):
    """Ctrl-Z at the wrong moment: no other command waits for ever."""
    assert control.START_WAIT_S < 15
    monkeypatch.setattr(control, "START_WAIT_S", 0.2)
    handle = hold(runtime_dir() / "start.lock", 0)
    try:
        with pytest.raises(CodeSmithError, match=rf"\(pid {os.getpid()}\) is starting the forwarder") as caught:
            control.start()
        subprocess.run(caught.value.hint, shell=True, check=True)
    finally:
        os.close(handle)
    control.start()


def test_the_limit_of_a_shell_is_no_limit_of_the_forwarders(home):
    limit = "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (64, r.getrlimit(r.RLIMIT_NOFILE)[1])); "
    script = limit + "from codesmith.tunnel import control; control.start()"
    subprocess.run([sys.executable, "-c", script], cwd=TOP, check=True)
    soft, hard = resource.prlimit(control.ping(), resource.RLIMIT_NOFILE)
    assert soft == min(hard, program.DESCRIPTORS)


@pytest.mark.parametrize(("descriptors", "places"), [(90, 60), (4096, 400), (resource.RLIM_INFINITY, 400)])
def test_where_descriptors_are_few_some_are_left_for_nodes(monkeypatch, descriptors, places):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    assert forwarding.connection_slots() == places


def test_foreign_file_in_place_of_the_control_socket_is_told(home):
    control.control_path().write_text("mine")
    with pytest.raises(CodeSmithError, match="in the way"):
        control.start()
    assert control.control_path().read_text() == "mine"


@pytest.mark.slow
def test_forwarder_whose_socket_was_taken_away_makes_room(forwarder, far_end, monkeypatch):
    monkeypatch.setattr(forwarding, "PREDECESSOR_S", 0.2)
    control.control_path().unlink()
    with pytest.raises(CodeSmithError, match=f"pid {forwarder}"):
        forwarding.Forwarder(far_end.opener)
    os.kill(forwarder, signal.SIGTERM)
    eventually(lambda: not is_running(forwarder))
    control.start()


@pytest.fixture
def here(home, far_end, monkeypatch):
    """A forwarder in this process that checks often and lingers briefly."""
    monkeypatch.setattr(forwarding, "CHECK_S", 0.02)
    monkeypatch.setattr(forwarding, "LINGER_S", 0.1)
    before = set(threading.enumerate())
    inside = forwarding.Forwarder(far_end.opener)
    thread = threading.Thread(target=inside.run)
    thread.start()
    yield thread
    inside.stop()
    thread.join()
    far_end.stop()
    eventually(lambda: not threads_since(before), "threads left")


def test_forwarder_without_endpoint_ends_after_a_while(here):
    here.join(30)
    assert not here.is_alive()
    assert not control.control_path().exists()


@pytest.mark.slow
def test_forwarder_with_an_endpoint_stays(here, node):
    control.connect(node)
    here.join(0.5)
    assert here.is_alive()
    assert control.disconnect(node) is True
    here.join(30)
    assert not here.is_alive()


@pytest.mark.slow
def test_everybody_who_asked_is_answered_before_it_ends(home, far_end, node, monkeypatch):
    """Two requests at once: one ends the forwarder, and the other still gets its answer."""
    monkeypatch.setattr(forwarding, "LAST_ANSWERS_S", 10.0)
    far_end.gate.clear()
    inside = forwarding.Forwarder(far_end.opener)
    running, answers = threading.Thread(target=inside.run), []
    asking = threading.Thread(target=lambda: answers.append(control.connect(node).state))
    running.start()
    asking.start()
    eventually(control.status)
    assert control.stop()
    running.join(0.3)
    is_waited_for = running.is_alive()
    far_end.gate.set()
    running.join()
    asking.join()
    assert (is_waited_for, answers) == (True, ["ready"])


@pytest.mark.parametrize("end", ["its last disconnect", "no endpoint for a while"])
def test_a_connect_that_meets_the_end_is_served_by_the_next_forwarder(home, far_end, node, monkeypatch, end):
    """The connect was accepted, and has no endpoint yet, when the forwarder decides to end."""
    monkeypatch.setattr(forwarding, "CHECK_S", 0.02)
    monkeypatch.setattr(forwarding, "LAST_ANSWERS_S", 10.0)
    before = set(threading.enumerate())
    forwarders, threads, states = [], [], []
    held, closed = threading.Event(), threading.Event()

    def begin():
        forwarders.append(forwarding.Forwarder(far_end.opener))
        monkeypatch.setattr(forwarding, "LINGER_S", 60.0)
        threads.append(threading.Thread(target=forwarders[-1].run))
        threads[-1].start()

    def hold_first(_):
        if not held.is_set():
            held.set()
            assert closed.wait(30)
        return False

    def close(self):
        close_socket(self)
        if self.path == control.control_path():
            closed.set()

    begin()
    close_socket = PrivateSocket.close
    monkeypatch.setattr(PrivateSocket, "close", close)
    monkeypatch.setattr(control, "start", begin)
    if end == "its last disconnect":
        control.connect(node)
    monkeypatch.setattr(forwarding.auth_sock, "use_agent", hold_first)
    other = dataclasses.replace(node, name="web2")
    asking = threading.Thread(target=lambda: states.append(control.connect(other).state))
    asking.start()
    assert held.wait(30)
    if end == "its last disconnect":
        assert control.disconnect(node)
    else:
        monkeypatch.setattr(forwarding, "LINGER_S", 0.0)
    asking.join()
    there = [one.name for one in control.status()]
    for forwarder, thread in zip(forwarders, threads, strict=True):
        forwarder.stop()
        thread.join()
    far_end.stop()
    eventually(lambda: not threads_since(before), "threads left")
    assert (states, there, len(forwarders)) == (["ready"], ["web2"], 2)


def test_forwards_are_waited_for_when_no_endpoint_can_hold_them_up(home, far_end, node, monkeypatch):
    """A look of a forward, by an endpoint that does not answer, would outlast the patience of the next forwarder."""
    inside, ended, stop = forwarding.Forwarder(far_end.opener), [], Endpoint.stop
    running = threading.Thread(target=inside.run)
    running.start()
    control.connect(node)
    monkeypatch.setattr(Endpoint, "stop", lambda one: (stop(one), ended.append(one.node.name)))
    monkeypatch.setattr(Forwards, "close", lambda _, *within: ended.append(within))
    control.stop()
    running.join()
    assert ended == [node.name, (forwarding.STOP_S,)]
    assert forwarding.LAST_ANSWERS_S + forwarding.STOP_S < forwarding.PREDECESSOR_S


def test_forwarder_that_lost_its_control_socket_ends(here, node):
    control.connect(node)
    control.control_path().unlink()
    here.join(30)
    assert not here.is_alive()
    assert not endpoint_path(node).exists()


def test_errors_keep_their_class_across_the_process_border():
    original = NotPrepared("web1 has no agent", hint="inv node.prepare")
    copy = error_from_dict(json.loads(json.dumps(error_to_dict(original))))
    assert (type(copy), str(copy)) == (NotPrepared, str(original))


def test_node_that_nobody_answers_for_is_unreachable(home, node):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    closed = dataclasses.replace(node, port=port)
    with pytest.raises(Unreachable):
        control.connect(closed, timeout_s=15)
    (seen,) = control.status()
    assert (seen.name, seen.state, seen.kind) == ("web1", "stopped", "Unreachable")


@pytest.mark.parametrize(
    "text", [b"nonsense\n", b"[]\n", b'{"op": "dance"}\n', b'{"op": "connect"}\n', b"\n", b"x" * 300_000]
)
def test_unreadable_request_gets_an_error_and_harms_nobody(forwarder, text):
    with connect(control.control_path()) as line:
        try:
            line.sendall(text)
            line.shutdown(socket.SHUT_WR)
        except BrokenPipeError:
            pass
        assert b"cannot read the request" in line.recv(4096)
    assert control.ping() == forwarder


def test_state_of_a_newer_forwarder_is_understood():
    fields = {field.name: "" for field in dataclasses.fields(EndpointState)}
    assert EndpointState.from_dict({**fields, "news": 1}).name == ""


def test_help():
    done = subprocess.run([sys.executable, "-m", "codesmith.tunnel", "--help"], cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0
    assert "--background" in done.stdout


@pytest.mark.parametrize("module", ["local_endpoint", "control", "identity", "state"])
def test_client_side_is_light(module):
    script = (
        f"import sys, codesmith.tunnel.{module}; "
        "print([m for m in sys.modules if m.split('.')[0] in ('fabric', 'paramiko', 'cryptography')])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=TOP, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_answer_that_nobody_gave_is_not_handed_to_the_forwarder(here, far_end, node, monkeypatch):
    answers = {SecretRequest("password", "me@there", "?"): "", SecretRequest("password", "you@there", "?"): "word"}
    monkeypatch.setattr(control, "SHARED", Secrets(answers.get))
    far_end.problems = [SecretNeeded("a password is needed", secret=request.to_dict()) for request in answers]
    control.connect(node)
    assert list(far_end.secrets.known().values()) == ["word"]
