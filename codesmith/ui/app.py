"""The pages and what they ask for. Every page is the same empty one; its script asks for what it shows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from codesmith import __version__
from codesmith.errors import CodeSmithError
from codesmith.ui.access import Access
from codesmith.ui.actions import Actions
from codesmith.ui.answers import in_thread, object_of, refusal, with_error_answers
from codesmith.ui.nodes import Nodes
from codesmith.ui.page_work import PageWork
from codesmith.ui.proxy import Proxy
from codesmith.ui.store import Store, Watcher

HERE = Path(__file__).resolve().parent
# What a page loads; a file of another kind is never served.
KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
ALIVE_S = 1.0
TOGETHER_S = 0.03  # changes that come at once are told at once
STREAMS_MAX = 100
CALLS_AT_ONCE = 64


class Pages:
    """The handlers; `is_watched` tells whether a page is open."""

    def __init__(
        self, access: Access, store: Store, nodes: Nodes, actions: Actions, proxy: Proxy, *, read_only: bool
    ) -> None:
        self._access, self._store, self._nodes, self._actions, self._proxy = access, store, nodes, actions, proxy
        self._work = PageWork(store, nodes, proxy)
        self._calls = asyncio.Semaphore(CALLS_AT_ONCE)
        templates = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined)
        self._files = {path.name: path for path in (HERE / "static").iterdir() if path.suffix in KINDS}
        self._page = templates.get_template("page.html").render(version=__version__, read_only=read_only)

    @property
    def is_watched(self) -> bool:
        """Tell whether at least one page is open."""
        return bool(list(self._store.watchers()))

    def app(self) -> Starlette:
        """Return the application, without its guard."""
        return Starlette(
            routes=[
                Route("/enter", self.enter, methods=["POST"]),
                Route("/events", with_error_answers(self.events), methods=["POST"]),
                Route("/actions", with_error_answers(self.act), methods=["POST"]),
                Route("/nodes/{name}/rpc", with_error_answers(self.rpc), methods=["POST"]),
                *self._work.routes(),
                Route("/static/{name}", self.static, methods=["GET"]),
                Route("/{path:path}", self.page, methods=["GET"]),
            ]
        )

    def close(self) -> None:
        """End the streams of all pages. A call under way goes on at the node: the page sends it again under its id."""
        for watcher in self._store.watchers():
            watcher.close()

    async def page(self, request: Request) -> Response:  # noqa: ARG002
        """Return the page: it holds nothing, so anybody may have it."""
        return HTMLResponse(self._page)

    async def static(self, request: Request) -> Response:
        """Return a module or the style of the pages: a name on the list, never a path."""
        path = self._files.get(request.path_params["name"])
        if path is None:
            return Response("there is no such file\n", 404, media_type="text/plain")
        return Response(path.read_bytes(), media_type=KINDS[path.suffix])

    async def enter(self, request: Request) -> Response:
        """Exchange the one-time token for the page's secret."""
        token = (await object_of(request)).get("token")
        secret = self._access.enter(token) if isinstance(token, str) else None
        if secret is None:
            problem = "this address has been used, or is not the newest: each lets one browser in"
            return refusal(401, CodeSmithError(problem, hint="inv ui.open"))
        return JSONResponse({"secret": secret})

    async def rpc(self, request: Request) -> Response:
        """Pass JSON-RPC on to the node."""
        node = self._nodes.get(request.path_params["name"])
        body = await request.body()
        async with self._calls:
            answer = await in_thread(lambda: self._proxy.answer(node, body))
        self._nodes.look_now(node.name)
        return Response(status_code=204) if answer is None else Response(answer, media_type="application/json")

    async def act(self, request: Request) -> Response:
        """Start an action on each of some nodes."""
        wanted = await object_of(request)
        kind, names = wanted.get("kind"), wanted.get("nodes")
        if not isinstance(kind, str) or not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            return refusal(400, CodeSmithError("an action is {kind, nodes: [name]}"))
        chosen = [self._nodes.get(name) for name in names]
        if kind == "stop-logs":
            for node in chosen:
                self._actions.stop_logs(node)
            return JSONResponse({"ids": []})
        return JSONResponse({"ids": [self._actions.start(kind, node) for node in chosen]})

    async def events(self, request: Request) -> Response:
        """Tell a page what it shows, and then each change."""
        wanted = await object_of(request)
        node, workspace = wanted.get("node", ""), wanted.get("workspace", "")
        if not isinstance(node, str) or not isinstance(workspace, str):
            return refusal(400, CodeSmithError("a stream is {node?, workspace?}"))
        if len(list(self._store.watchers())) >= STREAMS_MAX:
            return refusal(503, CodeSmithError(f"{STREAMS_MAX} pages are open already"))
        if node:
            self._nodes.get(node)
        watcher = Watcher(self._store, asyncio.get_running_loop(), node, workspace)
        return StreamingResponse(self._stream(watcher), media_type="text/event-stream")

    async def _stream(self, watcher: Watcher) -> AsyncIterator[str]:
        self._store.add(watcher)
        try:
            yield _event("begin", {"page": watcher.id})
            while not watcher.is_closed:
                self._nodes.refresh()
                for place, change in watcher.changes().items():
                    yield _event("change", {"node": place, **change})
                # The page's own pace: this waits while the browser does not read, and then the commands wait, too.
                for output in watcher.outputs.take():
                    yield _event("output", output)
                if await watcher.wait(ALIVE_S):
                    await asyncio.sleep(TOGETHER_S)
                else:
                    yield ": alive\n\n"
        finally:
            self._store.remove(watcher)
            watcher.outputs.close()
            self._nodes.refresh()


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
