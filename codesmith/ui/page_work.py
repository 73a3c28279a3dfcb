"""What a page has going in a workspace: commands that end with it, logs that it follows, ports and endpoints here."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from codesmith.errors import CodeSmithError
from codesmith.nodes.registry import Node
from codesmith.sdk.client import Client
from codesmith.sdk.streams import Stream
from codesmith.tunnel import local_endpoint
from codesmith.ui.answers import in_thread, object_of, with_error_answers
from codesmith.ui.nodes import Nodes
from codesmith.ui.outputs import Outputs
from codesmith.ui.proxy import Proxy
from codesmith.ui.store import Store
from codesmith.workspace import forwards

# What a page says of a command; stdin is none, and it ends with the page.
COMMAND = ("workspace", "argv", "cwd", "env", "timeout_s")
JOB = ("workspace", "id", "offset")
PORT_MAX = 65535


class PageWork:
    """The handlers. What a command or log writes goes to its page with the page's own events."""

    def __init__(self, store: Store, nodes: Nodes, proxy: Proxy) -> None:
        self._store, self._nodes, self._proxy = store, nodes, proxy

    def routes(self) -> list[Route]:
        """Return the routes: all POST, all behind the guard of the pages."""
        return [
            Route("/nodes/{name}/exec", with_error_answers(self.exec), methods=["POST"]),
            Route("/nodes/{name}/follow", with_error_answers(self.follow), methods=["POST"]),
            Route("/nodes/{name}/forward", with_error_answers(self.forward), methods=["POST"]),
            Route("/nodes/{name}/unforward", with_error_answers(self.unforward), methods=["POST"]),
            Route("/nodes/{name}/scoped", with_error_answers(self.scoped), methods=["POST"]),
            Route("/outputs/end", with_error_answers(self.end), methods=["POST"]),
        ]

    async def exec(self, request: Request) -> Response:
        """Run a command that ends, with all it started, when its page does."""
        node, wanted, outputs = await self._read(request)
        name = outputs.check(wanted.get("output"))
        command = {key: wanted[key] for key in COMMAND if key in wanted}
        job = await in_thread(
            lambda: self._proxy.call(node, "job.start", {**command, "stdin": "none", "ends_with_stream": True})
        )
        token = str((job.pop("stream", None) or {}).get("token", ""))
        outputs.open(name, lambda: _connect(node, token))
        self._nodes.look_now(node.name)
        return JSONResponse({"job": job})

    async def follow(self, request: Request) -> Response:
        """Read what a job wrote from `offset` on, and what it writes."""
        node, wanted, outputs = await self._read(request)
        name = outputs.check(wanted.get("output"))
        which = {key: wanted[key] for key in JOB if key in wanted}
        answer = await in_thread(lambda: self._proxy.call(node, "job.attach", which))
        token = str(answer.get("token", ""))
        offset = wanted.get("offset")
        outputs.open(name, lambda: _connect(node, token, offset))
        return JSONResponse({})

    async def end(self, request: Request) -> Response:
        """End a command of this page, or stop reading a log; those of a page that is gone have ended with it."""
        wanted = await object_of(request)
        name = wanted.get("output")
        outputs = self._find_outputs(wanted)
        if isinstance(name, str) and outputs is not None:
            outputs.end(name)
        return JSONResponse({})

    async def forward(self, request: Request) -> Response:
        """Forward a port of a workspace to a port of this machine, in the background."""
        node, workspace, port, local = await self._port(request)
        made = await in_thread(lambda: forwards.start_forward(node, workspace, port, local, any_port=not local))
        self._nodes.look_now(node.name)
        return JSONResponse(made.to_dict())

    async def unforward(self, request: Request) -> Response:
        """End a background forward."""
        node, workspace, port, _ = await self._port(request)
        ended = await in_thread(lambda: forwards.stop_forwards(node, workspace, port))
        self._nodes.look_now(node.name)
        return JSONResponse({"ended": [one.to_dict() for one in ended]})

    async def scoped(self, request: Request) -> Response:
        """Open the socket of this machine that leads to a node and takes only tokens."""
        self._proxy.check_writable("an endpoint")
        node = self._nodes.get(request.path_params["name"])
        path = await in_thread(lambda: local_endpoint.ensure_scoped(node))
        return JSONResponse({"endpoint": f"unix:{path}"})

    async def _read(self, request: Request) -> tuple[Node, dict[str, Any], Outputs]:
        wanted = await object_of(request)
        return self._nodes.get(request.path_params["name"]), wanted, self._outputs(wanted)

    def _outputs(self, wanted: dict[str, Any]) -> Outputs:
        outputs = self._find_outputs(wanted)
        if outputs is None:
            raise CodeSmithError("the page that asked is not connected (any more)", hint="reload it")
        return outputs

    def _find_outputs(self, wanted: dict[str, Any]) -> Outputs | None:
        found = (watcher.outputs for watcher in self._store.watchers() if watcher.id == wanted.get("page"))
        return next(found, None)

    async def _port(self, request: Request) -> tuple[Node, str, int, int]:
        self._proxy.check_writable("a forward")
        wanted = await object_of(request)
        workspace, port, local = wanted.get("workspace"), wanted.get("port"), wanted.get("local", 0)
        if not isinstance(workspace, str) or not all(type(one) is int for one in (port, local)):
            raise CodeSmithError("a forward is {workspace, port, local?}")
        assert isinstance(port, int)
        if not (1 <= port <= PORT_MAX and 0 <= local <= PORT_MAX):
            raise CodeSmithError(f"a port is a number from 1 to {PORT_MAX}")
        return self._nodes.get(request.path_params["name"]), workspace, port, local


def _connect(node: Node, token: str, offset: int | None = None) -> Stream:
    with Client(node) as client:
        return client.open_stream(token, offset=offset)
