"""The socket that programs inside ask for jobs, by `codesmith-job`: in the login's state directory, for it alone.

Whoever asks is the login already. It may start, look at and end jobs; it says neither who it is nor a job's id.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Set

from agent.shared.errors import AgentError, InvalidParams, LimitReached, Unsupported
from agent.supervisor.loop import Loop
from agent.supervisor.settings import Settings

if TYPE_CHECKING:
    from agent.supervisor.jobs import Jobs

PROTOCOL = 1
REQUESTS = frozenset(
    ("job_attach", "job_delete", "job_get", "job_list", "job_logs", "job_start", "job_stop", "job_wait")
)
REQUEST_BYTES_MAX = 1 << 20
CHUNK_BYTES = 1 << 16
CONNECTIONS_MAX = 64
# Whoever connects asks at once, and reads its answer.
SLOW_S = 10.0
SCRIPT = """\
#!/bin/sh
# Background work in this workspace: codesmith-job --help
exec '{python}' -I -S '{release}' job '{socket}' "$@"
"""


class InnerSocket:
    """Listens for programs inside. `jobs` is called with the first request: until then nothing of jobs is needed."""

    def __init__(self, loop: Loop, settings: Settings, jobs: Callable[[], Jobs]) -> None:
        self._loop, self._jobs = loop, jobs
        self._connections: Set[socket.socket] = set()
        self._requests: Optional[Any] = None
        self._listening = _listen(settings)
        if self._listening is not None:
            loop.watch(self._listening.fileno(), self._accept)

    def close(self) -> None:
        """Take no more requests."""
        if self._listening is not None:
            self._loop.unwatch(self._listening.fileno())
            self._listening.close()
            self._listening = None

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()  # type: ignore[union-attr]
        except OSError:
            return
        if len(self._connections) >= CONNECTIONS_MAX:
            connection.close()
            return
        self._connections.add(connection)
        request = Request(self._loop, connection, self._take, self._close)
        self._loop.watch(connection.fileno(), request.receive)

    def _take(self, connection: socket.socket, message: Dict[str, Any], descriptor: Optional[int]) -> None:
        from agent.supervisor.job_requests import JobRequests  # memory that few workspaces need

        try:
            if message.get("protocol") != PROTOCOL:
                raise Unsupported("this runtime speaks another protocol", protocols=[PROTOCOL])
            if message.get("request") not in REQUESTS:
                raise InvalidParams.of("request", "is unknown")
            fields = {key: value for key, value in message.items() if key != "protocol"}
            if message["request"] == "job_start":
                fields.update(id=os.urandom(6).hex(), by=None)
            if self._requests is None:
                self._requests = JobRequests(self._loop, self._jobs(), self._answer, self._connections.discard)
            self._requests.take(connection, descriptor, fields)
        except AgentError as error:
            self._answer(connection, {"error": error.to_dict()})
        except Exception as error:  # the border to the login's programs
            refusal = LimitReached(f"the runtime failed: {type(error).__name__}: {error}"[:500])
            self._answer(connection, {"error": refusal.to_dict()})

    def _answer(self, connection: socket.socket, message: Dict[str, Any]) -> None:
        from agent.supervisor.outbox import Outbox

        if connection.fileno() < 0:
            return
        self._loop.unwatch(connection.fileno())

        def close() -> None:
            self._close(connection)

        outbox = Outbox(self._loop, connection, close, close)
        body = json.dumps(message, separators=(",", ":")).encode()
        outbox.send(struct.pack(">I", len(body)), body)
        if not outbox.size:
            close()
        else:
            self._loop.at(time.monotonic() + SLOW_S, close)

    def _close(self, connection: socket.socket) -> None:
        self._connections.discard(connection)
        if connection.fileno() >= 0:
            self._loop.unwatch(connection.fileno())
            connection.close()


class Request:
    """A request that comes piece by piece: whoever sends it slowly holds up nobody."""

    def __init__(
        self, loop: Loop, connection: socket.socket,
        take: Callable[[socket.socket, Dict[str, Any], Optional[int]], object],
        close: Callable[[socket.socket], object],
    ) -> None:  # fmt: skip
        self._loop, self._connection, self._take, self._close = loop, connection, take, close
        self._data = bytearray()
        self._descriptors: List[int] = []
        self._timer = loop.at(time.monotonic() + SLOW_S, self._end)

    def receive(self) -> None:
        """Read what has come, and have the request taken when it is whole."""
        try:
            room = socket.CMSG_SPACE(struct.calcsize("i"))
            data, notes, _, _ = self._connection.recvmsg(CHUNK_BYTES, room, socket.MSG_DONTWAIT)
            self._keep(notes)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._data += data
        size = int.from_bytes(self._data[:4], "big") if len(self._data) >= 4 else 0
        if not data or size > REQUEST_BYTES_MAX or len(self._descriptors) > 1:
            self._end()
        elif len(self._data) >= 4 and len(self._data) >= 4 + size:
            self._finish(bytes(self._data[4 : 4 + size]))

    def _keep(self, notes: List[Any]) -> None:
        for level, kind, data in notes:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found = struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
                for descriptor in found:
                    os.set_inheritable(descriptor, False)
                self._descriptors += found

    def _finish(self, body: bytes) -> None:
        self._loop.cancel(self._timer)
        self._loop.unwatch(self._connection.fileno())
        try:
            message = json.loads(body)
            is_message = isinstance(message, dict)
        except (ValueError, RecursionError):
            is_message = False
        try:
            if is_message:
                self._take(self._connection, message, self._descriptors[0] if self._descriptors else None)
            else:
                self._close(self._connection)
        finally:
            self._close_descriptors()

    def _end(self) -> None:
        self._loop.cancel(self._timer)
        self._close_descriptors()
        self._close(self._connection)

    def _close_descriptors(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())


def _listen(settings: Settings) -> Optional[socket.socket]:
    """Return the listening socket, with the program that asks it; None where the login has left no room for them."""
    path = f"{settings.state}/job.sock"
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        os.makedirs(settings.state, 0o700, exist_ok=True)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        listening.bind(path)
        listening.listen(CONNECTIONS_MAX)
        text = SCRIPT.format(python=sys.executable, release=settings.release, socket=path)
        _write_script(settings.programs, text.encode())
    except OSError:
        listening.close()
        return None
    return listening


def _write_script(folder: str, text: bytes) -> None:
    os.makedirs(folder, 0o700, exist_ok=True)
    temporary = f"{folder}/.{os.urandom(4).hex()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o700)
    try:
        os.write(descriptor, text)
    finally:
        os.close(descriptor)
    os.replace(temporary, f"{folder}/codesmith-job")
