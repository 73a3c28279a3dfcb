"""The background process: one Endpoint per node, and a control socket for requests."""

from __future__ import annotations

import json
import logging
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from codesmith import __version__
from codesmith.errors import CodeSmithError, error_to_dict
from codesmith.nodes.registry import Node
from codesmith.paths import runtime_dir
from codesmith.secrets import SecretRequest, Secrets
from codesmith.tunnel import auth_sock
from codesmith.tunnel.acceptor import CONNECTIONS_MAX, Acceptor
from codesmith.tunnel.control import control_path
from codesmith.tunnel.endpoint import Endpoint
from codesmith.tunnel.forwards import Forwards, Spec
from codesmith.tunnel.link import Link
from codesmith.tunnel.local_endpoint import endpoint_path
from codesmith.tunnel.lock import Held, hold
from codesmith.tunnel.logins import Logins
from codesmith.tunnel.private_socket import PrivateSocket

log = logging.getLogger("codesmith.tunnel")

CHECK_S = 20.0
LOOK_S = 5.0
LINGER_S = 60.0
STOP_S = 2.0
LAST_ANSWERS_S = 1.0
# Longer than an end takes: the last answers, the endpoints' SSH connections, and STOP_S for all threads.
PREDECESSOR_S = 8.0
REQUEST_MAX_BYTES = 256 * 1024
REQUEST_S = 10.0


class _Ending(Exception):
    """This forwarder takes no endpoint any more: the caller starts the next one."""


class Forwarder:
    """Serves all nodes of one runtime directory until it is stopped, or has had no endpoint for LINGER_S."""

    def __init__(self, opener: Callable[..., Link]) -> None:
        self._opener = Logins(opener)
        self._lock = threading.Lock()
        self._answered = threading.Condition(self._lock)
        self._answering = 0
        self._endpoints: dict[tuple[str, str], Endpoint] = {}
        self._secrets: dict[tuple[str, str], Secrets] = {}
        self._stop = threading.Event()
        self._is_ending = False
        self._idle_since = time.monotonic()
        self._single = _ensure_single(runtime_dir() / "forwarder.lock")
        self._acceptor = Acceptor(connection_slots())
        self._forwards = Forwards(runtime_dir() / "forwards.json")
        for node in self._forwards.resume():
            self._endpoint(node, {}, is_resumed=True)
        self._control = PrivateSocket(control_path(), self._acceptor, self._answer)
        log.info("forwarder %d started", os.getpid())

    def run(self, tidy: Callable[[], None] = lambda: None) -> None:
        """Return after `stop`, when no endpoint is left, or when the control socket was removed.

        `tidy` is called every CHECK_S.
        """
        checked = time.monotonic()
        while not self._stop.wait(min(LOOK_S, CHECK_S)):
            for endpoint in self._running():
                endpoint.look()
            if time.monotonic() - checked < CHECK_S:
                continue
            checked = time.monotonic()
            tidy()
            if self._ends_idle() or not self._control.is_in_place():
                break
        with self._lock:
            self._take_no_more()
            # Requests that arrived together with the one that ends it are answered too.
            self._answered.wait_for(lambda: not self._answering, LAST_ANSWERS_S)
            endpoints = list(self._endpoints.values())
        for endpoint in endpoints:  # first: a forward may be waiting for the answer of one
            endpoint.stop()
        deadline = time.monotonic() + STOP_S
        self._forwards.close(STOP_S)
        for endpoint in endpoints:
            endpoint.join(max(0.0, deadline - time.monotonic()))
        self._acceptor.close()
        log.info("forwarder %d ended", os.getpid())
        os.close(self._single)

    def stop(self) -> None:
        """Have `run` end every endpoint and return."""
        self._stop.set()

    def _ends_idle(self) -> bool:
        """Begin to end if there has been no endpoint for LINGER_S."""
        with self._lock:
            if not self._is_without_endpoint():
                self._idle_since = time.monotonic()
            if is_over := time.monotonic() - self._idle_since > LINGER_S:
                self._take_no_more()
        return is_over

    def _is_without_endpoint(self) -> bool:
        return all(endpoint.is_stopped for endpoint in self._endpoints.values())

    def _take_no_more(self) -> None:
        """Take no endpoint from here on, with the lock held. The socket goes first: whoever is refused finds none."""
        self._control.close()
        self._is_ending = True

    def _running(self) -> list[Endpoint]:
        with self._lock:
            return [endpoint for endpoint in self._endpoints.values() if not endpoint.is_stopped]

    # -- operations

    def _connect(self, request: dict[str, Any]) -> dict[str, Any]:
        node = Node.from_dict(request["node"])
        auth_sock.use_agent(str(request.get("agent") or ""))
        is_resumed = bool(request.get("is_resumed"))
        answers = {SecretRequest(**wanted): value for wanted, value in request.get("secrets", ())}
        endpoint = self._endpoint(node, answers, is_resumed=is_resumed)
        if not is_resumed:
            endpoint.ensure_ready(float(request.get("timeout_s", 30.0)))
        return {"endpoint": endpoint.view().to_dict()}

    def _endpoint(self, node: Node, answers: Mapping[SecretRequest, str], *, is_resumed: bool) -> Endpoint:
        """Return the node's endpoint; a new one if there is none, or if the node's spec changed.

        The secrets in `answers` are kept for its reconnects, and dropped with it.
        """
        key = (str(node.registry), node.name)
        with self._lock:
            if self._is_ending:
                raise _Ending
            self._idle_since = time.monotonic()
            endpoint = self._endpoints.get(key)
            if endpoint is not None and endpoint.node.key == node.key and not endpoint.is_stopped:
                self._secrets[key].learn(answers)
                return endpoint
            if endpoint is not None:
                endpoint.stop()
            self._secrets[key] = secrets = Secrets()
            secrets.learn(answers)
            opener = partial(self._opener, secrets=secrets)
            endpoint = Endpoint(node, endpoint_path(node), opener, self._acceptor, is_resumed=is_resumed)
            self._endpoints[key] = endpoint
            return endpoint

    def _scope(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            endpoint = self._endpoints.get((request["registry"], request["name"]))
        if endpoint is None or endpoint.is_stopped:
            hint = f"inv node.connect --node {request['name']}"
            raise CodeSmithError(f"{request['name']} is not connected", hint=hint)
        return {"path": str(endpoint.open_scoped())}

    def _disconnect(self, request: dict[str, Any]) -> dict[str, Any]:
        key = (request["registry"], request["name"])
        self._forwards.stop(*key)
        with self._lock:
            endpoint = self._endpoints.pop(key, None)
            self._secrets.pop(key, None)
            if self._is_without_endpoint():
                self._take_no_more()
        changed = endpoint is not None and not endpoint.is_stopped
        if endpoint is not None:
            endpoint.stop()
        return {"changed": changed}

    def _status(self, _request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            endpoints = list(self._endpoints.values())
        forwards = [one.to_dict() for one in self._forwards.states()]
        return {"endpoints": [endpoint.view().to_dict() for endpoint in endpoints], "forwards": forwards}

    def _forward(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"forward": self._forwards.start(Spec.from_dict(request["forward"])).to_dict()}

    def _unforward(self, request: dict[str, Any]) -> dict[str, Any]:
        ended = self._forwards.stop(request["registry"], request["name"], request["workspace"], int(request["port"]))
        return {"forwards": [one.to_dict() for one in ended]}

    def _take_agent(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"changed": auth_sock.use_agent(str(request.get("agent") or ""))}

    def _ping(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {"pid": os.getpid(), "version": __version__}

    def _end(self, _request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self._take_no_more()
        running = self._running()
        nodes, scoped = [one.node.to_dict() for one in running], [one.node.key for one in running if one.is_scoped]
        return {"pid": os.getpid(), "nodes": nodes, "scoped": scoped}

    # -- control socket

    def _answer(self, line: socket.socket) -> None:
        with self._lock:
            self._answering += 1
        try:
            self._answer_one(line)
        finally:
            with self._lock:
                self._answering -= 1
                self._answered.notify_all()

    def _answer_one(self, line: socket.socket) -> None:
        line.settimeout(REQUEST_S)
        with line.makefile("rb") as reader:
            text = reader.readline(REQUEST_MAX_BYTES)
        if not text:
            return
        try:
            reply = self._do(json.loads(text))
        except _Ending:
            return
        except CodeSmithError as error:
            reply = {"error": error_to_dict(error)}
        except (ValueError, KeyError, TypeError) as error:
            reply = {
                "error": {"kind": "CodeSmithError", "problem": f"the forwarder cannot read the request: {error!r}"}
            }
        try:
            line.sendall(json.dumps(reply).encode() + b"\n")
        finally:
            if self._is_ending:  # not earlier: the process must not end before the answer is sent
                self._stop.set()

    def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        operations = {
            "agent": self._take_agent,
            "connect": self._connect,
            "disconnect": self._disconnect,
            "forward": self._forward,
            "ping": self._ping,
            "scope": self._scope,
            "status": self._status,
            "stop": self._end,
            "unforward": self._unforward,
        }
        return operations[request["op"]](request)


def connection_slots() -> int:
    """Return how many local connections may be open; if descriptors are few, a third of them is left for the nodes."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if descriptors == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, descriptors * 2 // 3)


def _ensure_single(path: Path) -> int:
    """Hold the lock of the runtime directory until this process ends; wait PREDECESSOR_S for one that is ending."""
    try:
        return hold(path, PREDECESSOR_S)
    except Held as held:
        problem = f"another forwarder (pid {held.pid}) holds {path} and does not answer"
        raise CodeSmithError(problem, hint=f"kill -KILL {held.pid}") from None
