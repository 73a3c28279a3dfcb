"""The file of the local socket: private, never taken from a live listener, never in place of a foreign file."""

from __future__ import annotations

import queue
import socket
import stat
import threading

import pytest

from codesmith.errors import CodeSmithError
from codesmith.paths import runtime_dir
from codesmith.tunnel import acceptor as acceptors
from codesmith.tunnel.acceptor import Acceptor
from codesmith.tunnel.private_socket import PrivateSocket
from tests.tunnel.tunnel_talk import connect, threads_since
from tests.waiting import eventually


@pytest.fixture
def acceptor():
    one = Acceptor()
    yield one
    one.close()


@pytest.fixture
def listen(tmp_path, acceptor):
    made, before = [], set(threading.enumerate())

    def start(path=tmp_path / "a.sock", handler=lambda connection: connection.sendall(b"hello")):
        made.append(PrivateSocket(path, acceptor, handler))
        return made[-1]

    yield start
    for listener in made:
        listener.close()
    eventually(lambda: not threads_since(before), "threads left")


def hears(path):
    with connect(path) as sock:
        return sock.recv(10)


def test_socket_is_0600_in_a_0700_directory(home, listen):
    listener = listen(runtime_dir() / "a.sock")
    assert stat.S_IMODE(listener.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(listener.path.parent.stat().st_mode) == 0o700
    assert [path.name for path in listener.path.parent.iterdir()] == ["a.sock"]


def test_stale_socket_is_replaced(tmp_path, listen):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "a.sock"))
    assert hears(listen().path) == b"hello"


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_foreign_file_is_left_alone(tmp_path, listen, kind):
    path = tmp_path / "a.sock"
    make = {"file": lambda: path.write_text("mine"), "directory": path.mkdir, "link": lambda: path.symlink_to("x")}
    make[kind]()
    before = path.lstat()
    with pytest.raises(CodeSmithError, match="in the way"):
        listen()
    assert path.lstat() == before


def test_live_socket_is_never_stolen(listen):
    first = listen()
    with pytest.raises(CodeSmithError, match="served by another process"):
        listen()
    assert hears(first.path) == b"hello"
    assert first.is_in_place()


def test_close_removes_only_its_own_file(listen):
    first = listen()
    first.path.unlink()
    second = listen()
    assert not first.is_in_place()
    first.close()
    assert hears(second.path) == b"hello"
    second.close()
    assert not second.path.exists()


def test_one_thread_accepts_for_all(tmp_path, listen):
    before = threading.active_count()
    listeners = [listen(tmp_path / f"{number}.sock") for number in range(20)]
    assert [hears(listener.path) for listener in listeners] == [b"hello"] * 20
    eventually(lambda: threading.active_count() == before)
    listeners[0].close()
    with pytest.raises(FileNotFoundError):
        connect(listeners[0].path)
    assert hears(listeners[1].path) == b"hello"


def who_works(acceptor, *urgent):
    """Return the name of the thread in which work is done that can wait."""
    names = queue.SimpleQueue()
    acceptor.when_calm(lambda: names.put(threading.current_thread().name), *urgent)
    return names.get(timeout=10)


def test_in_a_rush_what_can_wait_is_done_when_nobody_connects_any_more(tmp_path, listen, acceptor, monkeypatch):
    monkeypatch.setattr(acceptors, "RUSH_S", 3600)
    listeners = [listen(tmp_path / f"{number}.sock") for number in range(acceptors.RUSH)]
    me = threading.current_thread().name
    for _ in range(2 * acceptors.RUSH):
        hears(listeners[0].path)
    assert who_works(acceptor) == me  # one endpoint makes no rush
    for listener in listeners:
        hears(listener.path)
    assert who_works(acceptor) == "accept"
    assert who_works(acceptor, True) == me
