"""A stand-in for the supervisor of one workspace: it says what a test tells it to say about jobs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.shared import framing
from agent.shared.errors import NotFound
from tests.agent.conftest import Rpc

STARTED_AT = "2026-11-23T00:00:00.000Z"
ENDED = {"state": "exited", "exit_code": 0, "ended_at": "2026-11-23T00:00:02.500Z"}


def record(job: str, **fields: Any) -> dict[str, Any]:
    """Return the record of a job as a supervisor sends it."""
    return {
        "id": job, "name": None, "argv": ["make", "all"], "state": "running", "exit_code": None, "signal": None,
        "killed_by": None, "tty": False, "ends_with_stream": False, "started_at": STARTED_AT, "ended_at": None,
        "stdout_bytes": 0, "stderr_bytes": 0, "by": "root", "duration_s": None, **fields,
    }  # fmt: skip


class StandInJobs:
    """Starts jobs that end when the test says so, and tells them to whoever watches."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[dict[str, Any]] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        # Answers of a hostile one: instead of its own, by request.
        self.answers: dict[str, Callable[[socket.socket, dict[str, Any]], None]] = {}
        self.streams: list[int] = []
        self._watching: list[socket.socket] = []
        self._lock = threading.Lock()
        self.changed = threading.Condition()
        self._listening = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        self._listening.bind(str(path))
        self._listening.listen(256)
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def close(self) -> None:
        if self._listening.fileno() < 0:
            return
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.path.unlink(missing_ok=True)
        with self._lock:
            for connection in self._watching:
                connection.close()
        for thread in self._threads:
            thread.join(10)

    def tell(self, job: str, **fields: Any) -> None:
        """Change a job, and tell it to whoever watches."""
        with self._lock:
            self.jobs[job] = {**self.jobs.get(job, record(job)), **fields}
            for connection in self._watching:
                with suppress(BrokenPipeError):  # it asks again, and gets all
                    framing.send(connection, {"job": self.jobs[job]})

    def wait_for_watch(self) -> None:
        """Return when somebody watches."""
        with self.changed:
            assert self.changed.wait_for(lambda: self._watching, 10)

    def say(self, data: bytes) -> None:
        """Send bytes to whoever watches."""
        for connection in self._watching:
            connection.sendall(data)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._answer, args=(connection,)))
            self._threads[-1].start()

    def _answer(self, connection: socket.socket) -> None:
        try:
            message, descriptor = framing.receive_with_descriptor(connection, framing.REQUEST_MAX)
        except OSError:
            connection.close()
            return
        self.requests.append(message)
        request = message["request"]
        if descriptor is not None:
            self.streams.append(descriptor)
        if request in self.answers:
            with connection:
                try:
                    self.answers[request](connection, message)
                except OSError:
                    pass
        elif request == "watch":
            with self._lock:  # what is told from now on comes behind it
                framing.send(connection, {"jobs": list(self.jobs.values())})
                self._watching.append(connection)
            with self.changed:
                self.changed.notify_all()
        else:
            with connection:
                framing.send(connection, self._reply(request, message))

    def _reply(self, request: str, message: dict[str, Any]) -> dict[str, Any]:
        if request in ("run", "job_start"):
            started = {key: message[key] for key in ("argv", "name", "by")}
            self.tell(message["id"], **started, ends_with_stream=request == "run")
            return {"result": {} if request == "run" else {"job": self.jobs[message["id"]]}}
        if request == "job_list":
            return {"result": {"jobs": list(self.jobs.values())}}
        if request in ("job_get", "job_wait", "job_stop", "job_delete", "job_attach", "job_logs"):
            if message["id"] not in self.jobs:
                return {"error": NotFound(f"no job {message['id']}").to_dict()}
            if request == "job_stop":
                self.tell(message["id"], **ENDED | {"state": "killed", "exit_code": 143, "killed_by": "operator"})
            if request == "job_delete":
                del self.jobs[message["id"]]
                return {"result": {}}
            if request == "job_logs":
                log = {"data": "one\n", "encoding": "text", "offset": 0, "next_offset": 4, "eof": False}
                return {"result": log}
            return {"result": {"job": self.jobs[message["id"]]}}
        return {"result": {}}


def end_runtime(supervisor: StandInJobs, runs: set[str]) -> None:
    runs.discard("demo")
    supervisor.close()


def ends(rpc: Rpc) -> list[dict[str, Any]]:
    return [line for line in rpc.audited() if line["method"] == "job.end"]


def start(rpc: Rpc, *argv: str, **params: Any) -> dict[str, Any]:
    job: dict[str, Any] = rpc.call("job.start", workspace="demo", argv=list(argv) or ["make", "all"], **params)
    return job
