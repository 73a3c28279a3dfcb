"""The requests about jobs: run, job_* and watch."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from typing import Any, Callable, Dict, Optional

from agent.shared.errors import InvalidParams, LimitReached
from agent.supervisor.jobs import Jobs
from agent.supervisor.loop import Loop
from agent.supervisor.outbox import Outbox
from agent.supervisor.record import Record

WATCHERS_MAX = 8
# A watcher that does not read so much is let go.
WATCH_BYTES_MAX = 8 << 20
Answer = Callable[[socket.socket, Dict[str, Any]], object]


class JobRequests:
    """Answers requests about jobs. `answer` answers and closes; `keep` leaves a connection to us."""

    def __init__(self, loop: Loop, jobs: Jobs, answer: Answer, keep: Callable[[socket.socket], object]) -> None:
        self._loop, self._jobs, self._answer, self._keep = loop, jobs, answer, keep

    def take(self, connection: socket.socket, descriptor: Optional[int], fields: Dict[str, Any]) -> None:
        """Answer one request."""
        getattr(self, f"_{fields['request']}")(connection, descriptor, fields)

    def _run(self, connection: socket.socket, descriptor: Optional[int], fields: Dict[str, Any]) -> None:
        self._jobs.run(_own(descriptor), fields)
        self._answer(connection, {"result": {}})

    def _job_start(self, connection: socket.socket, _: Optional[int], fields: Dict[str, Any]) -> None:
        self._answer_job(connection, self._jobs.start(fields))

    def _job_attach(self, connection: socket.socket, descriptor: Optional[int], fields: Dict[str, Any]) -> None:
        offset = fields.get("offset")
        if offset is not None:
            _number(fields, "offset", 0)
        self._jobs.attach(_own(descriptor), fields.get("id"), offset)
        self._answer(connection, {"result": {}})

    def _job_get(self, connection: socket.socket, _: Optional[int], fields: Dict[str, Any]) -> None:
        self._answer_job(connection, self._jobs.get(fields.get("id")))

    def _job_list(self, connection: socket.socket, _: Optional[int], fields: Dict[str, Any]) -> None:
        self._answer(connection, {"result": {"jobs": self._jobs.all(fields.get("state"))}})

    def _job_logs(self, connection: socket.socket, _: Optional[int], fields: Dict[str, Any]) -> None:
        offset, limit = int(_number(fields, "offset", 0)), int(_number(fields, "limit", 1 << 19))
        piece = self._jobs.logs(fields.get("id"), str(fields.get("stream") or "both"), offset, limit)
        self._answer(connection, {"result": piece})

    def _job_wait(self, connection: socket.socket, _: Optional[int], fields: Dict[str, Any]) -> None:
        found = self._jobs.get(fields.get("id"))
        self._answer_when_ended(connection, found, _number(fields, "timeout_s", 60.0))

    def _job_stop(self, connection: socket.socket, _: Optional[int], fields: Dict[str, Any]) -> None:
        grace_s = _number(fields, "grace_s", 5.0)
        found = self._jobs.stop(fields.get("id"), str(fields.get("signal") or "SIGTERM"), grace_s)
        self._answer_when_ended(connection, found, None)

    def _job_delete(self, connection: socket.socket, _: Optional[int], fields: Dict[str, Any]) -> None:
        self._jobs.delete(fields.get("id"))
        self._answer(connection, {"result": {}})

    def _watch(self, connection: socket.socket, _: Optional[int], __: Dict[str, Any]) -> None:
        if len(self._jobs.watchers) >= WATCHERS_MAX:
            raise LimitReached(f"{WATCHERS_MAX} watch the jobs of this workspace already", hint="try again")

        def tell(message: Dict[str, Any]) -> None:
            body = json.dumps(message, separators=(",", ":")).encode()
            if outbox.size > WATCH_BYTES_MAX:
                close()
            else:
                outbox.send(struct.pack(">I", len(body)), body)

        def close() -> None:
            if tell in self._jobs.watchers:
                self._jobs.watchers.remove(tell)
            if connection.fileno() >= 0:
                self._loop.unwatch(connection.fileno())
                connection.close()

        outbox = Outbox(self._loop, connection, lambda: None, close)
        self._keep(connection)
        # It sends nothing: what can be read is its end.
        self._loop.watch(connection.fileno(), close)
        self._jobs.watch(tell)

    def _answer_job(self, connection: socket.socket, found: Record) -> None:
        self._answer(connection, {"result": {"job": found.fields}})

    def _answer_when_ended(self, connection: socket.socket, found: Record, timeout_s: Optional[float]) -> None:
        is_answered = False

        def answer() -> None:
            nonlocal is_answered
            if not is_answered:
                is_answered = True
                self._loop.cancel(timer)
                self._answer_job(connection, found)

        timer = -1
        if timeout_s is not None and found.is_running:
            timer = self._loop.at(time.monotonic() + timeout_s, answer)
        if found.is_running:
            # Who goes away does not wait any more.
            self._loop.watch(connection.fileno(), answer)
        self._jobs.when_ended(found, answer)


def _own(descriptor: Optional[int]) -> int:
    """Return a descriptor of our own for the connection that came with a request."""
    if descriptor is None:
        raise InvalidParams.of("descriptor", "is missing")
    return os.dup(descriptor)


def _number(fields: Dict[str, Any], name: str, default: float) -> float:
    value = fields.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1 << 53:
        raise InvalidParams.of(name, "must be a number")
    return value
