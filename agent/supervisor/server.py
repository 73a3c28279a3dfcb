"""Requests on a workspace's socket: one connection, one request, one answer; idle without requests and processes."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Any, Callable, Dict, Optional, Set

from agent.shared import framing
from agent.shared.errors import AgentError, InUse, InvalidParams, LimitReached, Unsupported
from agent.shared.paths import JOB_MARK
from agent.supervisor import fork, processes
from agent.supervisor.job import Job, Pipes
from agent.supervisor.loop import Loop
from agent.supervisor.output import Output, parse_input
from agent.supervisor.settings import Settings
from agent.supervisor.start import NotStarted, start

PROTOCOL = 1
REQUESTS_MAX = 128
# The front end writes its request and reads the answer at once.
SLOW_S = 10.0
# How often a running workspace is looked at until it has been idle for its time.
LOOKS, TICK_S, CALLER_S = 10, 0.01, 1.0
# How long what runs may take to end when the runtime is stopped.
STOP_S = 2.0
# Of which a clone's supervisor takes no other.
FOR_CLONES = ("git", "status", "wait")


class Server:
    """Serves one workspace."""

    def __init__(self, loop: Loop, listening: socket.socket, settings: Settings) -> None:
        self._loop, self._listening, self._settings = loop, listening, settings
        self._jobs: Dict[str, Job] = {}
        self._connections: Set[socket.socket] = set()
        self._waiting: Dict[str, Set[socket.socket]] = {}
        self._since, self._begun = time.time(), time.monotonic()
        # A supervisor that is only looked at ends at once: looking starts no runtime.
        self._used_at: Optional[float] = None
        self._is_over = self._is_stopping = self._has_guests = False
        self._requests: Dict[str, Callable[[socket.socket, Optional[int], Dict[str, Any]], None]] = {
            "exec": self._exec, "files": self._files, "git": self._git, "ssh": self._ssh,
            "ssh_host_keys": self._ssh_host_keys, "start": self._start, "status": self._status, "wait": self._wait,
        }  # fmt: skip
        loop.watch(listening.fileno(), self._accept)
        loop.on_signal(signal.SIGTERM, self._stop)
        self._look()

    def serve(self) -> None:
        """Serve until nothing was used for a while, or SIGTERM."""
        while not self._is_over:
            self._loop.step()

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except OSError:  # no memory or descriptor for it now: it stays in the queue
            return
        connection.settimeout(SLOW_S)
        descriptor = None
        self._connections.add(connection)
        try:
            try:
                message, descriptor = framing.receive_with_descriptor(connection, framing.REQUEST_MAX)
            except OSError:
                self._close(connection)
                return
            self._begin(connection, message, descriptor)
        except AgentError as error:
            self._answer(connection, {"error": error.to_dict()})
        except Exception as error:  # the border to the front end, which logs it
            text = f"{type(error).__name__}: {error}"[:500]
            data = {"kind": "command_failed", "command": "supervisor", "exit_code": None, "stderr": text}
            self._answer(connection, {"error": {"code": 1007, "message": f"the runtime failed: {text}", "data": data}})
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _begin(self, connection: socket.socket, message: Dict[str, Any], descriptor: Optional[int]) -> None:
        if message.get("protocol") != PROTOCOL:
            raise Unsupported("this runtime speaks another protocol", hint="inv workspace.stop", protocols=[PROTOCOL])
        request = str(message.get("request"))
        function = self._requests.get(request)
        if function is None:
            raise InvalidParams.of("request", "is unknown")
        if self._settings.for_clone and request not in FOR_CLONES:
            problem = "a repository is being cloned into this workspace, which has no network for anything else"
            raise InUse(problem, hint="try again", for_clone=True)
        if len(self._connections) > REQUESTS_MAX:
            raise LimitReached(f"{REQUESTS_MAX} requests run in this workspace already", hint="try again")
        fields = {key: value for key, value in message.items() if key not in ("protocol", "request")}
        if request not in ("status", "wait"):
            self._used_at = time.monotonic()
        function(connection, descriptor, fields)

    def _exec(self, connection: socket.socket, _: Optional[int], fields: Dict[str, Any]) -> None:
        settings, encoding = self._settings, fields["encoding"]
        data = parse_input(fields["stdin"], encoding)
        mark = os.urandom(8).hex()
        environment = {**settings.environment(), **fields["env"], JOB_MARK: mark}
        directory = os.path.normpath(os.path.join(settings.path, fields["cwd"]))
        environment.setdefault("PWD", directory)
        pipes = Pipes(has_input=bool(data))
        try:
            pid = start(fields["argv"], directory, environment, pipes)
        except NotStarted as problem:
            pipes.close_ours()
            self._answer(connection, {"result": _not_started(problem, encoding)})
            return
        except BaseException:
            pipes.close_ours()
            raise
        finally:
            pipes.close_theirs()
            os.chdir("/")
        self._run(connection, pid, mark, pipes, data, fields["timeout_s"], lambda job: _executed(job, encoding))

    def _git(self, connection: socket.socket, descriptor: Optional[int], fields: Dict[str, Any]) -> None:
        self._fork(fork.GIT, connection, descriptor, fields)

    def _files(self, connection: socket.socket, descriptor: Optional[int], fields: Dict[str, Any]) -> None:
        """Carry out a request that lies in the memory of `descriptor`; the answer is put there too."""
        if descriptor is None:
            raise InvalidParams.of("descriptor", "is missing")
        self._fork(fork.FILES, connection, descriptor, {**fields, "job_request": {}})

    def _fork(self, room: str, connection: socket.socket, descriptor: Optional[int], fields: Dict[str, Any]) -> None:
        mark, pipes = str(fields.get("job") or os.urandom(8).hex()), Pipes(has_input=False)
        if mark in self._jobs:
            raise InUse("a job of this name runs already", hint="try again")
        environment = {**self._settings.proxies, JOB_MARK: mark}
        try:
            pid = fork.fork(room, fields["job_request"], descriptor, self._settings.path, environment, pipes)
        except BaseException:
            pipes.close_ours()
            raise
        finally:
            pipes.close_theirs()
        self._run(connection, pid, mark, pipes, b"", fields["timeout_s"], _answered)

    def _run(
        self, connection: socket.socket, pid: int, mark: str, pipes: Pipes, data: bytes, timeout_s: float,
        describe: Callable[[Job], Dict[str, Any]],
    ) -> None:  # fmt: skip
        processes.prefer_for_oom(pid)
        timeout_s = min(timeout_s, self._settings.runtime_s or timeout_s)

        def on_end(job: Job) -> None:
            del self._jobs[mark]
            self._used_at = time.monotonic()
            self._answer(connection, {"result": {**job.result(), **describe(job)}})
            for waiting in self._waiting.pop(mark, set()):
                self._answer(waiting, {"result": {}})
            self._is_over = self._is_over or (self._is_stopping and not self._jobs)

        self._jobs[mark] = Job(self._loop, pid, mark, pipes, data, timeout_s, on_end, self._is_alone)
        self._loop.watch(connection.fileno(), lambda: self._left(connection, mark))

    def _is_alone(self) -> bool:
        """Return whether at most one job is there, and nobody who may leave something running: an SSH session."""
        return len(self._jobs) <= 1 and not self._has_guests

    def _left(self, connection: socket.socket, mark: str) -> None:
        """End a job whose caller went away; it must not send anything else."""
        self._loop.unwatch(connection.fileno())
        self._jobs[mark].end()

    def _ssh(self, connection: socket.socket, descriptor: Optional[int], fields: Dict[str, Any]) -> None:
        from agent.supervisor import ssh  # 2 MB of memory, and few workspaces need it

        if descriptor is None:
            raise InvalidParams.of("descriptor", "is missing")
        self._has_guests = True
        pid = ssh.serve(descriptor, fields.get("public_key"), self._settings.environment())
        processes.prefer_for_oom(pid)
        self._loop.on_exit(pid, self._on_session_end)
        self._answer(connection, {"result": {}})

    def _on_session_end(self, _: int) -> None:
        self._used_at = time.monotonic()

    def _ssh_host_keys(self, connection: socket.socket, _: Optional[int], fields: Dict[str, Any]) -> None:
        from agent.supervisor import ssh

        self._answer(connection, {"result": {"host_keys": ssh.host_keys()}})

    def _start(self, connection: socket.socket, descriptor: Optional[int], fields: Dict[str, Any]) -> None:
        self._status(connection, descriptor, fields)

    def _status(self, connection: socket.socket, _: Optional[int], __: Dict[str, Any]) -> None:
        count = processes.count()
        idle_stop_at = None
        if not count and not self._jobs:
            used_at = self._begun if self._used_at is None else self._used_at
            idle_stop_at = _time(time.time() + used_at + self._settings.idle_stop_s - time.monotonic())
        result = {"since": _time(self._since), "processes": count, "idle_stop_at": idle_stop_at}
        self._answer(connection, {"result": result})

    def _wait(self, connection: socket.socket, _: Optional[int], fields: Dict[str, Any]) -> None:
        """Answer when the job of this name has ended."""
        if fields["job"] in self._jobs:
            self._waiting.setdefault(fields["job"], set()).add(connection)
        else:
            self._answer(connection, {"result": {}})

    def _answer(self, connection: socket.socket, message: Dict[str, Any]) -> None:
        try:
            framing.send(connection, message)
        except OSError:
            pass  # its caller went away
        self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        self._loop.unwatch(connection.fileno())
        connection.close()
        self._connections.discard(connection)
        if self._used_at is None or not self._settings.idle_stop_s:
            self._is_over = self._is_over or not self._is_busy()

    def _is_busy(self) -> bool:
        return bool(self._jobs or self._connections or processes.count())

    def _look(self) -> None:
        """Look from time to time whether this workspace is idle, and end after idle_stop_s without a use."""
        now, idle_s, is_busy = time.monotonic(), self._settings.idle_stop_s, self._is_busy()
        if is_busy:
            self._used_at = now
        # Its first caller waits at the socket already.
        idle_at = self._begun + max(idle_s, CALLER_S) if self._used_at is None else self._used_at + idle_s
        self._is_over = self._is_over or (now >= idle_at and not is_busy)
        self._loop.at(min(max(idle_at, now), now + max(idle_s, CALLER_S) / LOOKS) + TICK_S, self._look)

    def _stop(self) -> None:
        """End what runs, answer, and end."""
        self._is_stopping = True
        self._loop.unwatch(self._listening.fileno())
        for job in list(self._jobs.values()):
            job.end()
        self._loop.at(time.monotonic() + STOP_S, self._end)
        self._is_over = self._is_over or not self._jobs

    def _end(self) -> None:
        self._is_over = True


def _not_started(problem: NotStarted, encoding: str) -> Dict[str, Any]:
    stderr = Output()
    stderr.add(f"{problem.problem}\n".encode("utf-8", "surrogateescape"))
    ended = {"exit_code": problem.exit_code, "signal": None, "killed_by": None, "duration_s": 0.0}
    return {**ended, **_outputs(Output(), stderr, encoding)}


def _executed(job: Job, encoding: str) -> Dict[str, Any]:
    return _outputs(job.stdout, job.stderr, encoding)


def _answered(job: Job) -> Dict[str, Any]:
    return {"answer": job.stdout.text(), "has_lost_memory": job.has_lost_memory()}


def _outputs(stdout: Output, stderr: Output, encoding: str) -> Dict[str, Any]:
    fields: Dict[str, Any] = {"omitted_bytes": 0}
    for name, output in (("stdout", stdout), ("stderr", stderr)):
        fields[name], fields[f"{name}_encoding"], omitted_bytes = output.encode(encoding)
        fields["omitted_bytes"] += omitted_bytes
    return {**fields, "truncated": fields["omitted_bytes"] > 0}


def _time(seconds: float) -> str:
    """Return a time as RFC 3339 in UTC; datetime would cost memory."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03}Z"
