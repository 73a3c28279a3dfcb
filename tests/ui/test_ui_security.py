"""Who gets in, and what is refused: the attacks that local UIs have fallen to, over real sockets."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from codesmith.ui import app
from codesmith.ui.guard import BODY_BYTES_MAX

pytestmark = pytest.mark.slow

LIST = {"jsonrpc": "2.0", "id": 1, "method": "workspace.list", "params": {}}
CREATE = {"jsonrpc": "2.0", "id": 1, "method": "workspace.create", "params": {"name": "shop"}}
PRIVATE = (
    "/events", "/actions", "/nodes/web1/rpc", "/nodes/web1/exec", "/nodes/web1/follow", "/nodes/web1/forward",
    "/nodes/web1/unforward", "/nodes/web1/scoped", "/outputs/end",
)  # fmt: skip

REFUSED = [
    # what, the header that differs, its value, status
    ("a name that somebody points here (DNS rebinding)", "Host", "evil.example:80", 421),
    ("localhost, which is not what we serve", "Host", "localhost:1", 421),
    ("another port of this machine: a dev server of a workspace", "Origin", "http://127.0.0.1:8000", 403),
    ("a page of the web", "Origin", "https://evil.example", 403),
    ("a sandboxed frame or a local file", "Origin", "null", 403),
    ("our origin as a part of another", "Origin", "http://127.0.0.1:1.evil.example", 403),
    ("no origin: no browser sends a write like that", "Origin", None, 403),
    ("a page of the same site, which ports share", "Sec_Fetch_Site", "same-site", 403),
    ("a page of another site", "Sec_Fetch_Site", "cross-site", 403),
    ("a form", "Content_Type", "application/x-www-form-urlencoded", 415),
    ("a form that sends text", "Content_Type", "text/plain", 415),
    ("a form that sends files", "Content_Type", "multipart/form-data; boundary=x", 415),
    ("no type", "Content_Type", None, 415),
    ("no secret", "CodeSmith_UI", None, 401),
    ("another secret", "CodeSmith_UI", "x" * 43, 401),
    ("an empty secret", "CodeSmith_UI", "", 401),
]


@pytest.mark.parametrize("path", PRIVATE)
@pytest.mark.parametrize(("header", "value", "status"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_every_write_and_stream_is_refused_to_strangers(shared, path, header, value, status):
    before = list(shared.nodes["web1"].calls)
    assert shared.post(path, CREATE, **{header: value})[0] == status
    assert shared.nodes["web1"].calls == before, "something was asked of the node"


def test_a_request_without_host_is_refused(shared):
    before = list(shared.nodes["web1"].calls)
    try:
        assert shared.post("/nodes/web1/rpc", CREATE, Host=None)[0] == 400
    except ConnectionError:
        pass  # the web server answers before it has read the body, and closes
    assert shared.nodes["web1"].calls == before


def test_the_same_request_of_our_own_page_is_served(ui):
    status, _, body = ui.post("/nodes/web1/rpc", CREATE)
    assert status == 200
    assert json.loads(body)["result"]["name"] == "shop"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_other_methods_are_refused(shared, method):
    assert shared.send(method, "/nodes/web1/rpc", shared.headers(), b"{}")[0] in (400, 405)


@pytest.mark.parametrize("path", [*PRIVATE, "/enter", "/", "/nodes/web1", "/nodes/web1/workspaces/shop"])
def test_a_get_tells_and_changes_nothing(shared, path):
    shared.nodes["web1"].add("shop")
    status, headers, body = shared.send("GET", path, shared.headers())
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert b"shop" not in body
    assert shared.secret.encode() not in body


def test_preflights_get_no_permission(shared):
    headers = shared.headers(Origin="https://evil.example", Access_Control_Request_Method="POST")
    status, answer, _ = shared.send("OPTIONS", "/nodes/web1/rpc", headers)
    assert status == 405
    for name in ("Origin", "Methods", "Headers", "Credentials", "Private-Network"):
        assert answer.get(f"Access-Control-Allow-{name}") is None


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/static/none.js", "/nodes/web1/rpc", "/nowhere/at/all"])
def test_every_answer_closes_the_page(shared, path):
    for _, headers, _ in (shared.send("GET", path, shared.headers()), shared.post(path, LIST, Origin="null")):
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Set-Cookie" not in headers
        assert "Server" not in headers


def test_no_page_has_a_script_or_style_of_its_own_text(shared):
    text = shared.send("GET", "/", shared.headers())[2].decode()
    assert "<style" not in text
    assert " style=" not in text
    assert text.count("<script") == text.count('<script type="module" src="/static/')


@pytest.mark.parametrize(
    "path",
    [
        "/static/..",
        "/static/%2e%2e",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
    ],
)
def test_no_file_but_those_of_the_pages_is_served(shared, path):
    status, _, body = shared.send("GET", path, shared.headers())
    assert b"import" not in body
    assert b"root:" not in body
    assert status in (200, 404)


def test_a_token_lets_one_browser_in(serve):
    ui = serve("web1")
    token = ui.access.address.partition("#enter=")[2]
    assert ui.post("/enter", {"token": token})[0] == 200
    assert ui.post("/enter", {"token": token})[0] == 401


@pytest.mark.parametrize("token", ["", "x", None, 7, ["x"], "\ud800", "x" * 100_000])
def test_another_token_lets_nobody_in(serve, token):
    ui = serve("web1")
    assert ui.post("/enter", {"token": token})[0] == 401
    ui.enter()  # and the true one is not used up by that


def test_the_token_goes_in_at_our_own_origin_only(serve):
    ui = serve("web1")
    token = ui.access.address.partition("#enter=")[2]
    assert ui.post("/enter", {"token": token}, Origin="http://127.0.0.1:8000")[0] == 403
    assert ui.post("/enter", {"token": token}, Origin=None)[0] == 403
    assert ui.post("/enter", {"token": token})[0] == 200


def test_the_file_is_the_operators_own_and_goes_after_use(serve):
    ui = serve("web1")
    file = ui.access.file
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert f"url={ui.access.origin}/#enter=" in file.read_text()
    ui.enter()
    assert not file.exists()


def test_the_token_stands_on_no_command_line(codesmith_home, tmp_path):
    """A browser gets the file's name; `ps` shows that to everybody."""
    (tmp_path / "nodes.yaml").write_text("nodes:\n")
    opener = tmp_path / "xdg-open"
    opener.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/got\n')
    opener.chmod(0o755)
    environment = {
        **os.environ, "DISPLAY": ":1", "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CODESMITH_NODES": str(tmp_path / "nodes.yaml"),
    }  # fmt: skip
    command = [sys.executable, "-m", "codesmith", "ui.open", "--idle", "2"]
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        _, said = process.communicate(timeout=60)
    got = (tmp_path / "got").read_text().strip()
    assert got.startswith(str(codesmith_home))
    assert "enter" not in got
    assert "enter=" not in said


def test_nothing_listens_but_loopback(shared):
    listening = shared.server.listening.getsockname()
    assert listening[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "twice",
    [
        b"Host: evil.example\r\n",
        b"Origin: http://evil.example\r\n",
        b"CodeSmith-UI: x\r\n",
        b"Content-Type: text/plain\r\n",
    ],
)
def test_two_headers_of_one_name_are_refused(shared, twice):
    head = "".join(f"{name}: {value}\r\n" for name, value in shared.headers().items()).encode()
    body = json.dumps(CREATE).encode()
    request = b"POST /nodes/web1/rpc HTTP/1.1\r\n%s%sContent-Length: %d\r\n\r\n%s" % (head, twice, len(body), body)
    with socket.create_connection(("127.0.0.1", shared.port), timeout=10) as line:
        line.sendall(request)
        answer = line.recv(65536)
    assert answer.split()[1].startswith(b"4"), answer
    assert "workspace.create" not in shared.nodes["web1"].calls


def test_a_body_has_one_length_and_an_end(shared):
    headers = {**shared.headers(), "Transfer-Encoding": "chunked"}
    assert shared.send("POST", "/nodes/web1/rpc", headers, b"2\r\n{}\r\n0\r\n\r\n")[0] == 411
    headers["Content-Length"] = "2"
    assert shared.send("POST", "/nodes/web1/rpc", headers, b"2\r\n{}\r\n0\r\n\r\n")[0] in (400, 411)
    assert shared.post("/nodes/web1/rpc", "x" * BODY_BYTES_MAX)[0] == 413


def test_access_ends_with_the_server(serve):
    first, second = serve("web1"), serve("web1")
    first.enter()
    second.enter()
    assert first.port != second.port
    assert second.post("/nodes/web1/rpc", LIST, CodeSmith_UI=first.secret)[0] == 401
    assert first.post("/nodes/web1/rpc", LIST)[0] == 200


@pytest.mark.parametrize("method", ["workspace.create", "workspace.exec", "workspace.open", "user.delete"])
def test_read_only_pages_change_nothing(serve, method):
    ui = serve("web1", read_only=True)
    ui.enter()
    ui.nodes["web1"].add("shop")
    answer = ui.rpc("web1", method, name="shop", **({"argv": ["id"]} if method.endswith("exec") else {}))
    assert answer["error"]["data"]["kind"] == "read_only_ui"
    assert method not in ui.nodes["web1"].calls
    assert ui.rpc("web1", "workspace.list")["result"][0]["name"] == "shop"
    status, _, body = ui.post("/actions", {"kind": "prepare", "nodes": ["web1"]})
    assert status == 409
    assert b"read-only" in body


def test_of_read_only_pages_a_batch_hides_nothing(serve):
    ui = serve("web1", read_only=True)
    ui.enter()
    status, _, body = ui.post("/nodes/web1/rpc", [LIST, CREATE, {**CREATE, "id": 2, "method": "no.such"}])
    assert status == 200
    assert ["error" in one for one in json.loads(body)] == [False, True, True]
    assert "workspace.create" not in ui.nodes["web1"].calls


def test_the_pages_name_nothing_foreign_and_make_no_markup_from_text():
    static = Path(app.__file__).parent / "static"
    for path in static.iterdir():
        text = path.read_text()
        foreign = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s\"'`]*", text))
        assert foreign <= {"http://www.w3.org/2000/svg", "https://example.org"}, (path, foreign)
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "cookie =",
        ):
            assert word not in text, (path, word)
