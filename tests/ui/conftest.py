"""A server of the pages in this process, on a real port, with stand-ins for agents."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from codesmith.nodes.registry import Registry
from codesmith.tunnel import control
from codesmith.tunnel.local_endpoint import endpoint_path
from codesmith.ui import server
from tests.person import TOP
from tests.ui.page import is_live, settled
from tests.ui.stand_in import StandIn

# Other tests boot nodes meanwhile.
expect.set_options(timeout=20_000)


class Ui:
    """A running server, its nodes, and requests to it as a page makes them."""

    def __init__(self, one: server.Server, nodes: dict[str, StandIn]) -> None:
        self.server, self.nodes, self.access = one, nodes, one.access
        self.port = int(one.access.origin.rpartition(":")[2])
        self.secret = ""
        self._thread = threading.Thread(target=one.run, name="ui")
        self._thread.start()

    @classmethod
    def at(cls, address: str) -> Ui:
        """Return requests to a server of another process, and get in there."""
        one = cls.__new__(cls)
        origin = address.partition("/#")[0]
        one.access = SimpleNamespace(origin=origin, host=origin.partition("://")[2], address=address)
        one.port, one.secret = int(origin.rpartition(":")[2]), ""
        one.enter()
        return one

    def close(self) -> None:
        self.server.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def join(self, timeout_s: float) -> bool:
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def enter(self) -> str:
        """Get in with the token of the file, as the browser does that opens it."""
        token = self.access.address.partition("#enter=")[2]
        status, _, body = self.post("/enter", {"token": token})
        assert status == 200, body
        self.secret = json.loads(body)["secret"]
        return self.secret

    def headers(self, **changed: str | None) -> dict[str, str]:
        good = {
            "Host": self.access.host,
            "Origin": self.access.origin,
            "Content-Type": "application/json",
            "Sec-Fetch-Site": "same-origin",
            "CodeSmith-UI": self.secret,
        }
        given = {name.replace("_", "-"): value for name, value in changed.items()}
        return {name: value for name, value in {**good, **given}.items() if value is not None}

    def send(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            if body is not None and "Content-Length" not in headers and "Transfer-Encoding" not in headers:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str | None) -> tuple[int, Any, bytes]:
        return self.send("POST", path, self.headers(**headers), json.dumps(body).encode())

    def rpc(self, node: str, method: str, **params: Any) -> dict[str, Any]:
        status, _, body = self.post(
            f"/nodes/{node}/rpc", {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        )
        assert status == 200, body
        return json.loads(body)

    def events(self, **view: str) -> Events:
        return Events(self, view)


class Events:
    """One open stream, and what it has told so far."""

    def __init__(self, ui: Ui, view: dict[str, str]) -> None:
        self.state: dict[tuple[str, str], Any] = {}
        self._connection = http.client.HTTPConnection("127.0.0.1", ui.port, timeout=20)
        self._connection.request("POST", "/events", json.dumps(view), ui.headers())
        self.answer = self._connection.getresponse()
        self.status = self.answer.status

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        if self.answer.fp is not None:
            self.answer.close()
        self._connection.close()

    def until(self, is_so: Callable[[Events], bool]) -> Events:
        """Read on until the state is so."""
        while not is_so(self):
            line = self.answer.readline()
            assert line, f"the stream ended; {self.state}"
            if line.startswith(b"data: "):
                self._take(json.loads(line[6:]))
        return self

    def _take(self, change: dict[str, Any]) -> None:
        for key in change.get("gone", []):
            del self.state[change["node"], key]
        self.state |= {(change["node"], key): value for key, value in change.get("set", {}).items()}

    def get(self, node: str, key: str) -> Any:
        return self.state.get((node, key))

    def node(self, name: str) -> dict[str, Any]:
        return self.get(name, "node") or {}


def _serving() -> Iterator[Callable[..., Ui]]:
    running: list[Ui] = []
    agents: list[StandIn] = []
    numbers = itertools.count()
    # Not tmp_path, whose long name would not fit into a socket's.
    with tempfile.TemporaryDirectory(prefix="codesmith-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODESMITH_HOME", folder)

        def start(
            *names: str, without: tuple[str, ...] = (), extra: dict[str, Any] | None = None, **options: Any
        ) -> Ui:
            path = Path(folder, f"nodes-{next(numbers)}.yaml")
            nodes = {
                name: {"host": "127.0.0.1", "port": 1, "user": "nobody", "tags": [f"tag-{name}"]} for name in names
            }
            path.write_text(json.dumps({"nodes": nodes}))
            registry = Registry.load(path)
            there = {
                name: StandIn(endpoint_path(registry.get(name)), name, extra) for name in names if name not in without
            }
            agents.extend(there.values())
            running.append(Ui(server.on_port(path, **options), there))
            return running[-1]

        yield start
        for ui in running:
            ui.close()
            ui.server.__exit__()
        for agent in agents:
            agent.end_work()
            agent.stop()
        control.stop()


@pytest.fixture
def serve() -> Iterator[Callable[..., Ui]]:
    """Start a server: `ui = serve("web1", "db1", read_only=True)`; nodes of `without` have no agent."""
    yield from _serving()


@pytest.fixture
def ui(serve: Callable[..., Ui]) -> Ui:
    """A server with one node, and a page that is in."""
    one = serve("web1")
    one.enter()
    return one


@pytest.fixture(scope="module")
def shared() -> Iterator[Ui]:
    """The same for tests that leave it as it was."""
    for start in _serving():
        one = start("web1")
        one.enter()
        yield one


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    with sync_playwright() as playwright, ThreadPoolExecutor(1) as pool:
        # Its files are written by this thread, which is there before the first test and so is nobody's leftover.
        pool.submit(int).result()
        asyncio.get_running_loop().set_default_executor(pool)
        # Tests run as root, where Chromium's own sandbox does not work.
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium-headless-shell", args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page as `ui.open` does: `page = visit(ui, "/nodes/web1")`. What its console says is an error."""
    contexts = []
    problems: list[str] = []

    def open_page(ui: Ui, path: str = "/", expects: tuple[str, ...] = (), **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(8000)
        page = context.new_page()

        def hear(text: str) -> None:
            # A node of another test came or went: Chromium gives up its requests, and the page asks again.
            if not any(word in text for word in (*expects, "ERR_NETWORK_CHANGED")):
                problems.append(text)

        page.on("console", lambda message: message.type in ("error", "warning") and hear(message.text))
        page.on("pageerror", lambda error: hear(str(error)))
        ui.access.offer()
        page.goto(f"{ui.access.origin}{path}#{ui.access.address.partition('#')[2]}")
        assert is_live(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def site(ui):
    """A node with two workspaces."""
    ui.nodes["web1"].add("shop", labels={"team": "red"}, repos=["app"])
    ui.nodes["web1"].add("other")
    return ui


@pytest.fixture(scope="module")
def ada(make_person, tmp_path_factory):
    """An operator with one prepared node and one that is not."""
    person = make_person({"web1": "bookworm", "db1": "trixie"})
    person.prepare("web1")
    key = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-C", "ada@laptop", "-f", key], check=True)
    person.key = key.with_suffix(".pub").read_text().strip()
    return person


@pytest.fixture(scope="module")
def origin(ada):
    """The pages, served by the command; the address that lets a browser in."""
    command = [sys.executable, "-m", "codesmith", "ui.open", "--print", "--json"]
    with subprocess.Popen(command, cwd=TOP, env=ada.environment, stdout=subprocess.PIPE, text=True) as process:
        said = ""
        while not said.rstrip().endswith("}"):
            said += process.stdout.readline()
        yield json.loads(said)
        process.terminate()
        assert process.wait(20) == 0


@pytest.fixture(scope="module")
def page(origin, browser):
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.problems = []
    page.on("console", lambda message: message.type in ("error", "warning") and page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(Path(origin["file"]).as_uri())  # as a browser opens it
    expect(page.locator("#live")).to_have_text("live", timeout=30_000)
    yield page
    context.close()
    assert [one for one in page.problems if "ERR_NETWORK_CHANGED" not in one] == []


@pytest.fixture
def at(page, origin):
    """Go to a page: `at("/nodes/web1")`."""

    def go(path: str):
        page.goto(origin["url"].rstrip("/") + path)
        return settled(page)

    return go
