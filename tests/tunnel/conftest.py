"""A private CodeSmith home per test, and endpoints that leave nothing behind."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import pytest

import tests.tunnel.tunnel_lab_agent as lab_agent
from codesmith.nodes.registry import Node
from codesmith.ssh import heartbeat
from codesmith.ssh.connection import CARRIERS
from codesmith.tunnel import backoff, control, endpoint, link, pool
from codesmith.tunnel.acceptor import Acceptor
from codesmith.tunnel.endpoint import Endpoint
from codesmith.tunnel.forwarder import Forwarder
from codesmith.tunnel.link import SshLink
from tests.tunnel.tunnel_doubles import FarEnd
from tests.tunnel.tunnel_talk import threads_since
from tests.waiting import eventually, is_running

IMPATIENT = [
    (endpoint, "MIN_GAP_S", 0.1),
    (heartbeat, "HEARTBEAT_S", 0.5),
    (heartbeat, "REPLY_S", 2.0),
    (link, "CONNECT_S", 4.0),
    (link, "OPEN_S", 3.0),
    (link, "ANSWER_S", 3.0),
    (link, "FREE_WAIT_S", 0.5),
    (pool, "FREE_WAIT_S", 2.0),
    (backoff, "REFUSED_S", 1.0),
]


@pytest.fixture
def home(monkeypatch):
    """State and sockets of this test, with a path short enough for sockets; its forwarder ends with the test."""
    with tempfile.TemporaryDirectory(prefix="cs-") as path:
        monkeypatch.setenv("CODESMITH_HOME", path)
        yield Path(path)
        pid = control.ping()
        if pid is not None:
            control.stop()
            eventually(lambda: not is_running(pid), "the forwarder did not end")


@pytest.fixture
def node(tmp_path):
    return Node(name="web1", registry=tmp_path / "nodes.yaml", host="127.0.0.1", port=1, user="root")


@pytest.fixture
def far_end(tmp_path):
    end = FarEnd(tmp_path / "agent.sock")
    end.start()
    yield end
    end.stop()


@pytest.fixture
def keep(home, far_end, node, monkeypatch):
    """Start endpoints; stop them at the end of the test, and check that no thread is left."""
    from codesmith.tunnel.local_endpoint import endpoint_path

    monkeypatch.setattr(endpoint, "MIN_GAP_S", 0.1)
    before = set(threading.enumerate())
    endpoints, acceptors = [], []

    def start(this: Node = node, places: int = 400) -> Endpoint:
        acceptors.append(Acceptor(places))
        endpoints.append(Endpoint(this, endpoint_path(this), far_end.opener, acceptors[-1]))
        return endpoints[-1]

    yield start
    for one in endpoints:
        one.stop()
        one.join(30)
    for one in acceptors:
        one.close()
    far_end.stop()
    eventually(lambda: not threads_since(before), "threads left")


@pytest.fixture(scope="session")
def far(lab, new_name):
    """One real node for all tests of this process, with the stand-in agent; a test that changes it puts it back."""
    return lab.up(new_name("tunnel"))


@pytest.fixture(scope="session")
def node_id(far):
    return lab_agent.install(far)


@pytest.fixture(params=CARRIERS)
def carrier(request):
    """Each carrier in turn: what holds for one holds for the other."""
    return request.param


@pytest.fixture
def sshd(far, node_id):
    """Give sshd other settings for the rest of the test."""
    given = []

    def give(*lines):
        given.append(lines)
        lab_agent.set_sshd(far, *lines)

    yield give
    if given:
        lab_agent.set_sshd(far)


@pytest.fixture
def inside(home):
    """The forwarder of this test in this process, so that none has to be started."""
    before = set(threading.enumerate())
    forwarder = Forwarder(SshLink)
    thread = threading.Thread(target=forwarder.run)
    thread.start()
    yield
    forwarder.stop()
    thread.join()
    eventually(lambda: not threads_since(before), "threads left")


@pytest.fixture
def impatient(inside, monkeypatch):
    """A forwarder in this process, with waits of a second or two in place of ten."""
    for module, name, seconds in IMPATIENT:
        monkeypatch.setattr(module, name, seconds)
