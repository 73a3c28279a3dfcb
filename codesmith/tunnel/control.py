"""Control the forwarder: start and stop the process, connect and disconnect nodes, read their states."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesmith import __version__
from codesmith.errors import CodeSmithError, Hanging, error_from_dict
from codesmith.paths import runtime_dir, state_dir
from codesmith.secrets import SHARED, SecretRequest
from codesmith.tunnel.lock import Held, hold
from codesmith.tunnel.state import EndpointState, ForwardState

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node

REPLY_MARGIN_S = 5.0
SHORT_S = 10.0
START_S = 20.0
# The workspace may have to start first.
FORWARD_S = 100.0
START_WAIT_S = 12.0
OLDER_HINT = "inv node.disconnect --all  # ends it; then the same again"
REPLY_MAX_BYTES = 4 * 1024 * 1024


class NotRunning(CodeSmithError):
    """No forwarder answers on the control socket."""


def control_path() -> Path:
    """Return the path of the forwarder's control socket."""
    return runtime_dir() / "forwarder.sock"


def connect(node: Node, *, timeout_s: float = 30.0) -> EndpointState:
    """Make the node's endpoint ready and return its state; raise the reason if that fails.

    A ready endpoint is not changed. A node whose spec changed gets a new endpoint. A forwarder of an older CodeSmith is
    replaced first, and the new one resumes its endpoints. The forwarder has no terminal: this process asks for the
    secrets that it needs and sends them with the same request.
    """
    process = running()
    if process is None or _is_older(process):
        start()
    return SHARED.supply(lambda given: _connect(node, timeout_s, given), {})


def _connect(node: Node, timeout_s: float, given: Mapping[SecretRequest, str]) -> EndpointState:
    # An empty answer (nobody answered) is not sent: the forwarder would keep it for all later callers.
    secrets = [[request.to_dict(), value] for request, value in given.items() if value]
    request = {**_connect_request(node, timeout_s), "secrets": secrets}
    try:
        reply = _ask(request, timeout_s + REPLY_MARGIN_S)
    except NotRunning:  # it just ended, with its last endpoint
        start()
        reply = _ask(request, timeout_s + REPLY_MARGIN_S)
    return EndpointState.from_dict(reply["endpoint"])


def _connect_request(node: Node, timeout_s: float, *, is_resumed: bool = False) -> dict[str, Any]:
    # The ssh agent of this caller: the one of the session that started the forwarder may be gone.
    agent = os.environ.get("SSH_AUTH_SOCK", "")
    return {"op": "connect", "node": node.to_dict(), "timeout_s": timeout_s, "agent": agent, "is_resumed": is_resumed}


def _is_older(process: dict[str, Any]) -> bool:
    return _parse_version(str(process.get("version", ""))) < _parse_version(__version__)


def _parse_version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def open_scoped(node: Node) -> Path:
    """Have the forwarder serve the socket of tokens of a connected node, and return the local path."""
    try:
        reply = _ask({"op": "scope", "name": node.name, "registry": str(node.registry)}, SHORT_S)
    except CodeSmithError as error:
        if "KeyError('scope')" in error.problem:  # of this version by name, from before it knew tokens
            raise CodeSmithError("the forwarder is an older one without tokens", hint=OLDER_HINT) from None
        raise
    return Path(reply["path"])


def disconnect(node: Node) -> bool:
    """Close the node's endpoint; return False if there was none. The forwarder ends with its last endpoint."""
    try:
        reply = _ask({"op": "disconnect", "name": node.name, "registry": str(node.registry)}, SHORT_S)
    except NotRunning:
        return False
    return bool(reply["changed"])


def status() -> list[EndpointState]:
    """Return the state of every endpoint; an empty list if no forwarder runs."""
    return status_and_forwards()[0]


def forwards() -> list[ForwardState]:
    """Return the state of every background forward; an empty list if no forwarder runs."""
    return status_and_forwards()[1]


def status_and_forwards() -> tuple[list[EndpointState], list[ForwardState]]:
    """Return the state of every endpoint and of every background forward."""
    try:
        reply = _ask({"op": "status"}, SHORT_S)
    except NotRunning:
        return [], []
    forwards = [ForwardState.from_dict(one) for one in reply.get("forwards", ())]
    return [EndpointState.from_dict(one) for one in reply["endpoints"]], forwards


def start_forward(node: Node, workspace: str, port: int, local: int, argv: Sequence[str]) -> ForwardState:
    """Have the forwarder keep a forward, which `argv` makes; return once it listens, or raise why it does not."""
    connect(node)
    spec = {"node": node.to_dict(), "workspace": workspace, "port": port, "local": local, "argv": list(argv)}
    try:
        reply = _ask({"op": "forward", "forward": spec}, FORWARD_S)
    except CodeSmithError as error:
        if "KeyError('forward')" in error.problem:  # of this version by name, from before it had forwards
            raise CodeSmithError("the forwarder is an older one without forwards", hint=OLDER_HINT) from None
        raise
    return ForwardState.from_dict(reply["forward"])


def stop_forwards(node: Node, workspace: str, port: int = 0) -> list[ForwardState]:
    """End the background forwards of a workspace, or that of one port of it; return those that it ended."""
    request = {"op": "unforward", "registry": str(node.registry), "name": node.name}
    try:
        reply = _ask({**request, "workspace": workspace, "port": port}, SHORT_S)
    except NotRunning:
        return []
    return [ForwardState.from_dict(one) for one in reply["forwards"]]


def offer_agent() -> bool:
    """Have the forwarder use the ssh agent of this process; return True if it used another one before."""
    try:
        return bool(_ask({"op": "agent", "agent": os.environ.get("SSH_AUTH_SOCK", "")}, SHORT_S)["changed"])
    except CodeSmithError:  # none runs, or an older one that does not know this request
        return False


def running(timeout_s: float | None = None) -> dict[str, Any] | None:
    """Return the forwarder's pid and version, None if none runs; Hanging if it does not answer."""
    try:
        return _ask({"op": "ping"}, timeout_s or SHORT_S)
    except NotRunning:
        return None


def ping() -> int | None:
    """Return the forwarder's process id; None if no forwarder runs."""
    process = running()
    return None if process is None else int(process["pid"])


def stop() -> bool:
    """End the forwarder and every endpoint; return False if none ran."""
    try:
        _ask({"op": "stop"}, SHORT_S)
    except NotRunning:
        return False
    return True


def start() -> None:
    """Start the forwarder in the background and return once its control socket accepts.

    Several callers at once start one. A forwarder of an older CodeSmith is ended first; the new one resumes its
    endpoints.
    """
    from codesmith.nodes.registry import Node

    nodes: list[dict[str, Any]] = []
    scoped: list[str] = []
    with _start_lock():
        process = running()
        if process is not None:
            if not _is_older(process):
                return
            ended = _ask({"op": "stop"}, SHORT_S)
            nodes, scoped = ended.get("nodes", []), ended.get("scoped", [])
        _spawn()
    for data in nodes:
        node = Node.from_dict(data)
        _ask(_connect_request(node, 0.0, is_resumed=True), SHORT_S)
        if node.key in scoped:
            open_scoped(node)


@contextmanager
def _start_lock() -> Iterator[None]:
    try:
        handle = hold(runtime_dir() / "start.lock", START_WAIT_S)
    except Held as held:
        problem = f"another command (pid {held.pid}) is starting the forwarder and does not finish"
        raise CodeSmithError(problem, hint=f"kill -CONT {held.pid}  # if it was stopped (Ctrl-Z); else -KILL") from None
    try:
        yield
    finally:
        os.close(handle)


def _spawn() -> None:
    # From the folder of the package `-m` surely finds it; the forwarder then changes to /.
    top = Path(__file__).resolve().parent.parent.parent
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    # glibc gives each thread its own arena, which costs megabytes with hundreds of threads.
    environment.setdefault("MALLOC_ARENA_MAX", "2")
    command = [sys.executable, "-m", "codesmith.tunnel", "--background"]
    try:
        done = subprocess.run(
            command, cwd=top, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=START_S
        )
    except subprocess.TimeoutExpired:
        raise CodeSmithError(
            f"the forwarder did not start within {START_S:.0f} s", hint=f"see why: {sys.executable} -m codesmith.tunnel"
        ) from None
    if done.returncode:
        raise _start_error(done.stdout)


def _start_error(stdout: str) -> CodeSmithError:
    try:
        return error_from_dict(json.loads(stdout))
    except ValueError:
        log = state_dir() / "forwarder.log"
        return CodeSmithError("the forwarder did not start", hint=f"see why: tail {log}")


def _ask(request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Send one request and return the reply; raise the forwarder's error, NotRunning or Hanging."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(timeout_s)
        try:
            line.connect(os.fspath(control_path()))
            line.sendall(json.dumps(request).encode() + b"\n")
            answer = _read_line(line)
        except TimeoutError:
            problem = f"the forwarder gave no answer within {timeout_s:.0f} s"
            raise Hanging(problem, hint=f"kill -KILL {_pid() or 'PID'}") from None
        except OSError as error:
            problem = f"no forwarder answers at {control_path()}: {error.strerror or error}"
            raise NotRunning(problem, hint="inv node.status  # then the same again") from error
    if not answer:
        raise NotRunning("the forwarder ended before it answered", hint="inv node.status  # then the same again")
    reply: dict[str, Any] = json.loads(answer)
    if "error" in reply:
        raise error_from_dict(reply["error"])
    return reply


def _read_line(line: socket.socket) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n") and len(data) < REPLY_MAX_BYTES:
        chunk = line.recv(65536)
        if not chunk:
            return b""
        data += chunk
    return bytes(data)


def _pid() -> str:
    try:
        return (runtime_dir() / "forwarder.lock").read_text().strip()
    except OSError:
        return ""
