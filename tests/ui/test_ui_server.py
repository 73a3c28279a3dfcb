"""What the server tells its pages, how it passes calls on, and what happens when a node or a page goes."""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest

from codesmith.errors import CodeSmithError
from codesmith.ui import commands, server
from tests.ui.conftest import Ui

pytestmark = pytest.mark.slow


def test_no_answer_waits_for_an_acknowledgement(ui):
    """Without TCP_NODELAY each file of a page and each call takes 40 ms more."""
    with ui.events(node="web1") as page:
        page.until(lambda now: now.node("web1").get("state") == "ready")
        there = [one for one in gc.get_objects() if isinstance(one, socket.socket) and one.fileno() >= 0]
        ours = [one for one in there if one.family == socket.AF_INET and one.getsockname()[1] == ui.port]
        served = [one for one in ours if not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]
        assert served
        assert all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in served)


def test_pages_that_nobody_uses_end(serve):
    ui = serve("web1", idle_s=1.5)
    ui.enter()
    with ui.events() as page:
        page.until(lambda now: now.node("web1").get("state") == "ready")
        assert not ui.join(2.5), "a page is open"
    assert not ui.join(0.7), "the time is counted from the page's end"
    assert ui.join(10)


def test_a_socket_has_the_operators_mode_and_goes_with_the_server(codesmith_home):
    (codesmith_home / "nodes.yaml").write_text("nodes:\n")
    path = codesmith_home / "ui.sock"
    one = server.on_socket(path, "http://127.0.0.1:8790", codesmith_home / "nodes.yaml")
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        first = one.access.address
        assert _enter(path, first.partition("=")[2]) == 200
        assert _enter(path, first.partition("=")[2]) == 401, "each token lets one browser in"
        assert one.access.file.exists()
        assert _enter(path, one.access.address.partition("=")[2]) == 200, "there is always a next one"
    finally:
        one.stop()
        thread.join(10)
        one.__exit__()
    assert not path.exists()
    assert not one.access.file.exists()


def _enter(path, token):
    connection = http.client.HTTPConnection("127.0.0.1:8790")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    headers = {"Origin": "http://127.0.0.1:8790", "Content-Type": "application/json"}
    connection.request("POST", "/enter", json.dumps({"token": token}), headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_socket_in_use_is_not_taken(codesmith_home):
    (codesmith_home / "nodes.yaml").write_text("nodes:\n")
    path = codesmith_home / "ui.sock"
    with server.on_socket(path, "http://127.0.0.1:8790", codesmith_home / "nodes.yaml"):
        with pytest.raises(CodeSmithError, match="is served by another process"):
            server.on_socket(path, "http://127.0.0.1:8790", codesmith_home / "nodes.yaml")


@pytest.mark.parametrize(
    "origin", ["evil", "http://x/", "http://a b", "ftp://x", "http://127.0.0.1:80", "https://x:443", "http://X"]
)
def test_an_origin_that_browsers_name_otherwise_is_refused(codesmith_home, origin):
    (codesmith_home / "nodes.yaml").write_text("nodes:\n")
    with pytest.raises(CodeSmithError, match="--origin takes"):
        commands.serve_pages("", origin, str(codesmith_home / "nodes.yaml"), read_only=False, json=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_commands_end_by_a_signal_and_leave_nothing(codesmith_home, number):
    (codesmith_home / "nodes.yaml").write_text("nodes:\n")
    environment = {**os.environ, "CODESMITH_NODES": str(codesmith_home / "nodes.yaml")}
    for words in (["ui.open", "--print", "--json"], ["ui.serve", "--json"]):
        command = [sys.executable, "-m", "codesmith", *words]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            said = ""
            while not said.rstrip().endswith("}"):
                said += process.stdout.readline()
            row = json.loads(said)
            files = [row["file"], *([row["socket"]] if "socket" in row else [])]
            assert all(os.path.exists(file) for file in files)
            process.send_signal(number)
            assert process.wait(15) == 0, process.stderr.read()
        assert not any(os.path.exists(file) for file in files)


def test_without_its_packages_the_command_says_how_to_install_them(monkeypatch, codesmith_home):
    from codesmith.ui import requirements

    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    with pytest.raises(CodeSmithError, match="the admin UI needs jinja2, starlette, uvicorn") as caught:
        commands.open_pages("", read_only=False, prints=True, idle_s=1, json=False)
    assert "codesmith[ui]" in caught.value.hint


def test_a_long_call_does_not_keep_the_pages_from_their_end(serve):
    ui = serve("web1")
    agent, file = ui.nodes["web1"], ui.server.nodes.file
    agent.add("shop")
    command = [sys.executable, "-m", "codesmith", "ui.open", "--print", "--json", "--file", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = ""
        while not said.rstrip().endswith("}"):
            said += process.stdout.readline()
        row = json.loads(said)
        other = Ui.at(row["address"])
        agent.slow.clear()
        call = threading.Thread(target=_lost, args=(other,))
        call.start()
        while "workspace.exec" not in agent.calls:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(8) == 0
        agent.slow.set()
        call.join()


def _lost(ui):
    with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
        ui.rpc("web1", "workspace.exec", name="shop", argv=["sleep"])


@pytest.mark.parametrize("origin", ["http://server:8790", "http://10.0.0.1", "http://localhost.example.org"])
def test_an_origin_where_browsers_need_https_is_refused(codesmith_home, monkeypatch, origin):
    monkeypatch.setattr(server.Server, "run", lambda self: None)
    (codesmith_home / "nodes.yaml").write_text("nodes:\n")
    with pytest.raises(CodeSmithError, match="https"):
        commands.serve_pages("", origin, str(codesmith_home / "nodes.yaml"), read_only=False, json=False)


@pytest.mark.parametrize("origin", ["http://[::1]:8790", "http://localhost:8790", "http://ui.localhost", "https://ui"])
def test_an_origin_that_browsers_trust_is_taken(codesmith_home, monkeypatch, origin):
    monkeypatch.setattr(server.Server, "run", lambda self: None)
    (codesmith_home / "nodes.yaml").write_text("nodes:\n")
    row = commands.serve_pages("", origin, str(codesmith_home / "nodes.yaml"), read_only=False, json=False)
    assert row["origin"] == origin
