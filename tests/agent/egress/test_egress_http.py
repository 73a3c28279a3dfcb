"""Plain HTTP through the proxy: what is carried, what is refused, and that nothing is smuggled."""

from __future__ import annotations

import shutil
import subprocess
import urllib.request

import pytest

from tests.agent.egress.conftest import Proxy, WebServer
from tests.waiting import eventually


@pytest.fixture
def base(proxy: Proxy, web: WebServer) -> str:
    proxy.allow("web.example:*")
    return f"web.example:{web.port}"


def test_an_allowed_host_answers_and_the_connection_ends(proxy: Proxy, web: WebServer, base: str) -> None:
    answer = proxy.get(f"http://{base}/path?q=1", "X-Own: kept")
    assert answer == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
    head = web.requests[0].decode()
    assert head.startswith(f"GET /path?q=1 HTTP/1.1\r\nHost: {base}\r\n")
    assert "X-Own: kept" in head


def test_what_is_not_listed_is_refused_with_the_command_that_allows_it(proxy: Proxy, base: str) -> None:
    answer = proxy.get("http://Other.Example./").decode()
    assert answer.startswith("HTTP/1.1 403 Forbidden (inv sandbox.update demo --allow other.example)\r\n")
    assert answer.endswith(
        "other.example is not allowed in workspace demo\nhint: inv sandbox.update demo --allow other.example\n"
    )
    assert "--allow other.example:81\n" in proxy.get("http://other.example:81/").decode()
    assert proxy.resolved == []  # a name that is looked up tells its DNS server what is in it
    records = eventually(lambda: proxy.denied() if len(proxy.denied()) == 2 else None)
    assert [(one["host"], one["port"], one["count"]) for one in records] == [
        ("other.example", 80, 1),
        ("other.example", 81, 1),
    ]


def test_http_1_0_is_served(proxy: Proxy, web: WebServer, base: str) -> None:
    assert proxy.ask(f"GET http://{base}/ HTTP/1.0\r\n\r\n").endswith(b"hello")
    assert web.requests[0].startswith(f"GET / HTTP/1.0\r\nHost: {base}\r\n".encode())


def test_a_redirect_is_the_clients_to_follow_and_is_checked_anew(proxy: Proxy, web: WebServer, base: str) -> None:
    web.answer = b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n"
    assert b"Location: http://evil.example/" in proxy.get(f"http://{base}/")
    assert b" 403 " in proxy.get("http://evil.example/")


def test_a_second_request_of_a_connection_reaches_nobody(proxy: Proxy, web: WebServer, base: str) -> None:
    first = f"GET http://{base}/1 HTTP/1.1\r\nHost: {base}\r\nConnection: keep-alive\r\n\r\n"
    second = f"GET http://{base}/2 HTTP/1.1\r\nHost: {base}\r\n\r\n"
    assert proxy.ask(first + second).count(b"HTTP/1.1 ") == 1
    body = f"POST http://{base}/3 HTTP/1.1\r\nHost: {base}\r\nContent-Length: 3\r\n\r\nabc"
    assert proxy.ask(body + "GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n").endswith(b"hello")
    chunked = f"POST http://{base}/4 HTTP/1.1\r\nHost: {base}\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += "3;x=y\r\nabc\r\n0\r\nT: t\r\n\r\n"
    assert proxy.ask(chunked + "GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n").endswith(b"hello")
    paths = [request.split()[1] for request in web.requests]
    assert paths == [b"/1", b"/3", b"/4"]
    assert web.requests[1].endswith(b"\r\n\r\nabc")
    assert web.requests[2].endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")


def test_headers_for_the_proxy_go_no_further(proxy: Proxy, web: WebServer, base: str) -> None:
    proxy.get(
        f"http://{base}/", "Connection: X-Mine, keep-alive", "X-Mine: 1", "Keep-Alive: 5",
        "Proxy-Authorization: secret", "Proxy-Connection: keep-alive", "TE: trailers", "Upgrade: h2c", "X-Other: 2",
    )  # fmt: skip
    head = web.requests[0].decode().lower()
    assert [line.partition(":")[0] for line in head.split("\r\n")[1:-2]] == ["host", "x-other", "connection"]


@pytest.mark.parametrize(
    "request_",
    [
        "GET http://H/ HTTP/1.1\r\nHost: H\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET http://H/ HTTP/1.1\r\nHost: H\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "GET http://H/ HTTP/1.1\r\nHost: H\r\nContent-Length: +1\r\n\r\na",
        "GET http://H/ HTTP/1.1\r\nHost: H\r\nContent-Length: 1, 1\r\n\r\na",
        "GET http://H/ HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "GET http://H/ HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "GET http://H/ HTTP/1.0\r\nHost: H\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET http://H/ HTTP/1.1\r\nHost: H\r\nConnection: content-length\r\nContent-Length: 1\r\n\r\na",
        "GET http://H/ HTTP/1.1\r\nHost : H\r\n\r\n",
        "GET http://H/ HTTP/1.1\r\nHost: H\r\n folded\r\n\r\n",
        "GET http://H/ HTTP/1.1\r\nHost: H\r\nX: a\r\n\tfolded\r\n\r\n",
        "GET http://H/ HTTP/1.1\r\n Host: H\r\n\r\n",
        "GET http://H/ HTTP/1.1\r\nHost: H\r\nX: a\nY: b\r\n\r\n",
        "GET http://H/ HTTP/1.1\nHost: H\n\n",
        "GET http://H/ HTTP/1.1\r\nHost: H\r\nX: a\rY: b\r\n\r\n",
        "GET http://H/ HTTP/1.1\r\nHost: H\r\nX: a\0\r\n\r\n",
        "GET http://H/ HTTP/1.1\r\nHost: H\r\nno colon\r\n\r\n",
        "GET http://H/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET http://H/ HTTP/1.1\r\nHost: H\r\nHost: evil.example\r\n\r\n",
        "GET http://H/ HTTP/1.1\r\nHost: H\r\nHost: H\r\n\r\n",
        "GET http://H/ HTTP/1.1\r\n\r\n",
        "GET http://user@H/ HTTP/1.1\r\nHost: H\r\n\r\n",
        "GET http://evil.example@H/ HTTP/1.1\r\nHost: H\r\n\r\n",
        "GET http://H\\@evil.example/ HTTP/1.1\r\nHost: H\r\n\r\n",
        "GET http://H#@evil.example/ HTTP/1.1\r\nHost: H\r\n\r\n",
        "GET http://H/ HTTP/1.1 \r\nHost: H\r\n\r\n",
        "GET  http://H/ HTTP/1.1\r\nHost: H\r\n\r\n",
        "GET http://H/ HTTP/2.0\r\nHost: H\r\n\r\n",
        "GET http://H/\r\nHost: H\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: H\r\n\r\n",
        "GET https://H/ HTTP/1.1\r\nHost: H\r\n\r\n",
        "GET ftp://H/ HTTP/1.1\r\nHost: H\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: H\r\n\r\n",
        "CONNECT H HTTP/1.1\r\nContent-Length: 1\r\n\r\na",
        "CONNECT web.example HTTP/1.1\r\n\r\n",
        "CONNECT web.example:0 HTTP/1.1\r\n\r\n",
        "CONNECT web.example:65536 HTTP/1.1\r\n\r\n",
        "CONNECT web.example:80:80 HTTP/1.1\r\n\r\n",
        "CONNECT http://H/ HTTP/1.1\r\n\r\n",
        "\r\nGET http://H/ HTTP/1.1\r\nHost: H\r\n\r\n",
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(proxy: Proxy, web: WebServer, base: str, request_: str) -> None:
    answer = proxy.ask(request_.replace("H/", f"{base}/").replace(": H\r", f": {base}\r").replace("H\\", f"{base}\\"))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 "), answer
    assert web.requests == []


@pytest.mark.parametrize(
    "body",
    ["3\nabc\r\n0\r\n\r\n", "-3\r\nabc\r\n", "3\r\nabcd\r\n0\r\n\r\n", "0x3\r\nabc\r\n", "1" * 2000, "3 3\r\nabc\r\n"],
)
def test_chunks_that_are_odd_end_the_connection(proxy: Proxy, web: WebServer, base: str, body: str) -> None:
    head = f"POST http://{base}/ HTTP/1.1\r\nHost: {base}\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b"200" not in proxy.ask(head + body)
    assert web.requests == []


def test_a_huge_head_is_refused(proxy: Proxy, web: WebServer, base: str) -> None:
    assert b" 431 " in proxy.get(f"http://{base}/", "X: " + "a" * 40_000)
    assert b" 431 " in proxy.get(f"http://{base}/", *["X: a"] * 200)
    assert b" 431 " in proxy.ask("GET http://" + "a" * 1_000_000)
    assert web.requests == []


@pytest.mark.parametrize(
    "answer",
    [b"", b"garbage\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\nx", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 40_000],
)
def test_a_server_that_does_not_answer_in_http_is_a_bad_gateway(
    proxy: Proxy, web: WebServer, base: str, answer: bytes
) -> None:
    web.answer = answer
    assert proxy.get(f"http://{base}/").startswith(b"HTTP/1.1 502 ")


def test_interim_responses_and_long_bodies_come_whole(proxy: Proxy, web: WebServer, base: str) -> None:
    body = bytes(range(256)) * 20_000
    web.answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" + body
    answer = proxy.get(f"http://{base}/")
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    assert answer.endswith(body)
    long = b"POST http://%b/ HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n\r\n" % (
        base.encode(),
        base.encode(),
        len(body),
    )
    assert proxy.ask(long + body).endswith(body)
    assert web.requests[-1].endswith(body)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_curl_goes_through(proxy: Proxy, web: WebServer, base: str, scheme: str) -> None:
    way = [
        "curl",
        "--silent",
        "--show-error",
        "--max-time",
        "20",
        "--noproxy",
        "",
        "--proxy",
        f"{scheme}://127.0.0.1:{proxy.port}",
    ]
    assert subprocess.run([*way, f"http://{base}/"], capture_output=True, check=True).stdout == b"hello"
    data = ["--header", "Transfer-Encoding: chunked", "--data-binary", "@-", f"http://{base}/"]
    assert subprocess.run([*way, *data], input=b"x" * 100_000, capture_output=True, check=True).stdout == b"hello"
    assert (
        subprocess.run([*way, "--proxytunnel", f"http://{base}/"], capture_output=True, check=True).stdout == b"hello"
    )
    denied = subprocess.run([*way, "--fail", "http://other.example/"], capture_output=True, text=True)
    assert denied.returncode != 0
    assert "403" in denied.stderr or scheme == "socks5h"


def test_a_head_that_comes_byte_by_byte_is_a_head(proxy: Proxy, web: WebServer, base: str) -> None:
    with proxy.connect() as connection:
        for byte in f"GET http://{base}/ HTTP/1.1\r\nHost: {base}\r\n\r\n".encode():
            connection.sendall(bytes((byte,)))
        with connection.makefile("rb") as answer:
            assert answer.read().endswith(b"hello")


def test_python_shows_the_command_that_allows_a_host(proxy: Proxy) -> None:
    """Of a refused CONNECT, Python and what is built on it (pip, requests) show the status line alone."""
    handler = urllib.request.ProxyHandler({"https": f"http://127.0.0.1:{proxy.port}"})
    with pytest.raises(OSError, match=r"inv sandbox\.update demo --allow other\.example"):
        urllib.request.build_opener(handler).open("https://other.example/", timeout=20)
