"""Requests on a workspace's socket: one connection, one request, one answer; idle without requests and processes."""

from __future__ import annotations

import math
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Set

from agent.shared import framing
from agent.shared.errors import AgentError, InUse, InvalidParams, LimitReached, Unsupported
from agent.shared.paths import JOB_MARK
from agent.supervisor import fork, processes
from agent.supervisor.inner_socket import InnerSocket
from agent.supervisor.job import Job, Pipes
from agent.supervisor.loop import Loop
from agent.supervisor.output import Outputs, parse_input
from agent.supervisor.running import Running
from agent.supervisor.settings import Settings
from agent.supervisor.start import NotStarted

if TYPE_CHECKING:
    from agent.supervisor.jobs import Jobs

PROTOCOL = 1
REQUESTS_MAX = 128
STOP_HINT = "inv workspace.stop {0.workspace}"
# The front end writes its request and reads the answer at once.
SLOW_S = 10.0
# How often a running workspace is looked at until it has been idle for its time.
LOOKS, TICK_S, CALLER_S = 10, 0.01, 1.0
# How long what runs may take to end when the runtime is stopped.
STOP_S = 2.0
# Of which a clone's supervisor takes no other: own_git runs what the login has configured, and that has no network.
FOR_CLONES = ("git", "limits", "status", "wait")
# Of jobs, in job_requests.py.
JOB_REQUESTS = (
    "run", "job_attach", "job_delete", "job_get", "job_list", "job_logs", "job_start", "job_stop", "job_wait", "watch",
)  # fmt: skip
# Who only looks does not use the workspace.
LOOKS_ON = ("limits", "status", "wait", "job_get", "job_list", "job_logs", "job_wait", "watch")


class Server:
    """Serves one workspace."""

    def __init__(self, loop: Loop, listening: socket.socket, settings: Settings) -> None:
        self._loop, self._listening, self._settings = loop, listening, settings
        self._running = Running(loop, settings)
        self._jobs: Optional[Jobs] = None
        self._connections: Set[socket.socket] = set()
        self._waiting: Dict[str, Set[socket.socket]] = {}
        self._since, self._begun = time.time(), time.monotonic()
        # A supervisor that is only looked at ends at once: looking starts no runtime.
        self._used_at: Optional[float] = None
        self._is_over = self._is_stopping = False
        self._requests: Dict[str, Callable[[socket.socket, Optional[int], Dict[str, Any]], None]] = {
            "exec": self._exec, "files": self._files, "git": self._git, "limits": self._limits,
            "own_git": self._git, "ssh": self._ssh,
            "ssh_host_keys": self._ssh_host_keys, "start": self._start, "status": self._status, "wait": self._wait,
        }  # fmt: skip
        self._requests.update(dict.fromkeys(JOB_REQUESTS, self._job_request))
        self._inner = None if settings.for_clone else InnerSocket(loop, settings, self._get_jobs)
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
            raise Unsupported(
                "this runtime speaks another protocol", hint=STOP_HINT.format(self._settings), protocols=[PROTOCOL]
            )
        request = str(message.get("request"))
        function = self._requests.get(request)
        if function is None:
            raise Unsupported(f"this runtime knows no request {request[:32]!r}", hint=STOP_HINT.format(self._settings))
        if self._settings.for_clone and request not in FOR_CLONES:
            problem = "a repository is being cloned into this workspace, which has no network for anything else"
            raise InUse(problem, hint="try again", for_clone=True)
        if len(self._connections) > REQUESTS_MAX:
            raise LimitReached(f"{REQUESTS_MAX} requests run in this workspace already", hint="try again")
        kept = ("protocol", *(() if request in JOB_REQUESTS else ("request",)))
        fields = {key: value for key, value in message.items() if key not in kept}
        if request not in LOOKS_ON:
            self._used_at = time.monotonic()
        function(connection, descriptor, fields)

    def _exec(self, connection: socket.socket, _: Optional[int], fields: Dict[str, Any]) -> None:
        encoding, outputs = fields["encoding"], Outputs()
        data = parse_input(fields["stdin"], encoding)
        argv, cwd, env, timeout_s = (fields[name] for name in ("argv", "cwd", "env", "timeout_s"))
        on_end = self._answer_at_end(connection, lambda _: _encoded(outputs, encoding))
        mark, pipes = os.urandom(8).hex(), Pipes(has_input=bool(data))
        try:
            job = self._running.start(mark, argv, cwd, env, pipes, outputs, timeout_s, on_end)
        except NotStarted as problem:
            self._answer(connection, {"result": _not_started(problem, encoding)})
            return
        if data:
            job.input.add(data)
            job.input.end()
        self._loop.watch(connection.fileno(), lambda: self._end_abandoned(connection, job))

    def _git(self, connection: socket.socket, descriptor: Optional[int], fields: Dict[str, Any]) -> None:
        self._fork(fork.GIT, connection, descriptor, fields)

    def _files(self, connection: socket.socket, descriptor: Optional[int], fields: Dict[str, Any]) -> None:
        """Carry out a request that lies in the memory of `descriptor`; the answer is put there too."""
        if descriptor is None:
            raise InvalidParams.of("descriptor", "is missing")
        self._fork(fork.FILES, connection, descriptor, {**fields, "job_request": {}})

    def _fork(self, room: str, connection: socket.socket, descriptor: Optional[int], fields: Dict[str, Any]) -> None:
        mark, pipes = str(fields.get("job") or os.urandom(8).hex()), Pipes(has_input=False)
        if mark in self._running:
            raise InUse("a job of this name runs already", hint="try again")
        environment = {**self._settings.proxies, JOB_MARK: mark}
        try:
            pid = fork.fork(room, fields["job_request"], descriptor, self._settings.path, environment, pipes)
        except BaseException:
            pipes.close_ours()
            raise
        finally:
            pipes.close_theirs()
        outputs = Outputs()
        on_end = self._answer_at_end(connection, lambda job: _answered(job, outputs))
        job = self._running.add(pid, mark, pipes, outputs, fields["timeout_s"], on_end)
        self._loop.watch(connection.fileno(), lambda: self._end_abandoned(connection, job))

    def _answer_at_end(
        self, connection: socket.socket, describe: Callable[[Job], Dict[str, Any]]
    ) -> Callable[[Job], None]:
        """Return what answers when a job has ended: how it ended, and what `describe` says of it."""

        def on_end(job: Job) -> None:
            self._answer(connection, {"result": {**job.result(), **describe(job)}})
            for waiting in self._waiting.pop(job.mark, set()):
                self._answer(waiting, {"result": {}})
            self._on_job_end()

        return on_end

    def _on_job_end(self) -> None:
        self._used_at = time.monotonic()
        self._is_over = self._is_over or (self._is_stopping and not self._running)

    def _end_abandoned(self, connection: socket.socket, job: Job) -> None:
        """End a job whose caller went away; it must not send anything else."""
        self._loop.unwatch(connection.fileno())
        job.end()

    def _job_request(self, connection: socket.socket, descriptor: Optional[int], fields: Dict[str, Any]) -> None:
        from agent.supervisor.job_requests import JobRequests

        JobRequests(self._loop, self._get_jobs(), self._answer, self._keep).take(connection, descriptor, fields)

    def _get_jobs(self) -> Jobs:
        if self._jobs is None:
            from agent.supervisor.jobs import Jobs  # memory that few workspaces need

            self._jobs = Jobs(self._loop, self._settings, self._running, self._on_job_end)
        return self._jobs

    def _keep(self, connection: socket.socket) -> None:
        """Leave a connection to who watches jobs: looking on is no use of the workspace."""
        self._connections.discard(connection)

    def _ssh(self, connection: socket.socket, descriptor: Optional[int], fields: Dict[str, Any]) -> None:
        from agent.supervisor import ssh  # 2 MB of memory, and few workspaces need it

        if descriptor is None:
            raise InvalidParams.of("descriptor", "is missing")
        self._running.has_guests = True
        # The door's request has all keys of a user, that of an operator one.
        public_keys = fields.get("public_keys") or [fields.get("public_key")]
        pid = ssh.serve(descriptor, public_keys, self._settings.environment())
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
        if not count and not self._running and not (self._jobs and self._jobs.is_busy):
            used_at = self._begun if self._used_at is None else self._used_at
            idle_stop_at = _time(time.time() + used_at + self._settings.idle_stop_s - time.monotonic())
        result = {"since": _time(self._since), "processes": count, "idle_stop_at": idle_stop_at}
        self._answer(connection, {"result": result})

    def _limits(self, connection: socket.socket, _: Optional[int], fields: Dict[str, Any]) -> None:
        """Set how long each command may run that is started from now on; null: as long as its call says."""
        runtime_s = fields.get("runtime_s")
        is_time = isinstance(runtime_s, (int, float)) and not isinstance(runtime_s, bool) and 0 < runtime_s < math.inf
        if runtime_s is not None and not is_time:
            raise InvalidParams.of("runtime_s", "must be a number above 0, or null")
        self._running.runtime_s = runtime_s
        self._answer(connection, {"result": {}})

    def _wait(self, connection: socket.socket, _: Optional[int], fields: Dict[str, Any]) -> None:
        """Answer when the job of this name has ended."""
        if fields["job"] in self._running:
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
        is_kept = self._jobs is not None and self._jobs.is_busy
        return bool(self._running or self._connections or is_kept or processes.count())

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
        if self._inner is not None:
            self._inner.close()
        if self._jobs is not None:
            self._jobs.stop_all()
        for job in self._running:
            if self._jobs is None or not self._jobs.has(job.mark):
                job.end()
        self._loop.at(time.monotonic() + STOP_S, self._end)
        self._is_over = self._is_over or not self._running

    def _end(self) -> None:
        self._is_over = True


def _not_started(problem: NotStarted, encoding: str) -> Dict[str, Any]:
    outputs = Outputs()
    outputs.stderr.add(f"{problem.problem}\n".encode("utf-8", "surrogateescape"))
    ended = {"exit_code": problem.exit_code, "signal": None, "killed_by": None, "duration_s": 0.0}
    return {**ended, **_encoded(outputs, encoding)}


def _answered(job: Job, outputs: Outputs) -> Dict[str, Any]:
    return {"answer": outputs.stdout.text(), "has_lost_memory": job.has_lost_memory()}


def _encoded(outputs: Outputs, encoding: str) -> Dict[str, Any]:
    fields: Dict[str, Any] = {"omitted_bytes": 0}
    for name, output in (("stdout", outputs.stdout), ("stderr", outputs.stderr)):
        fields[name], fields[f"{name}_encoding"], omitted_bytes = output.encode(encoding)
        fields["omitted_bytes"] += omitted_bytes
    return {**fields, "truncated": fields["omitted_bytes"] > 0}


def _time(seconds: float) -> str:
    """Return a time as RFC 3339 in UTC; datetime would cost memory."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03}Z"
