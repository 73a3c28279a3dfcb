"""The front end's client of the runtimes: one connection, one request, one answer, from inside a workspace.

What comes back is the word of the workspace's login: it is bounded and checked, and counts for this workspace alone.
"""

from __future__ import annotations

import math
import re
import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

from agent.frontend import runtime_state
from agent.frontend.commands import Commands
from agent.frontend.helper_client import Helper
from agent.shared import errors, framing
from agent.shared.errors import AgentError, CommandFailed, InUse, LimitReached, Unsupported
from agent.shared.names import RUNTIMES

PROTOCOL = 1
REPLY_TIMEOUT_S = 30.0
# Beyond the time limit of a job: for the start of the runtime, and the end of all that the job started.
REPLY_GRACE_S = 60.0
CONNECT_TIMEOUT_S = 60.0
# The git job of a call that was cut off ends within a few seconds.
WAIT_TIMEOUT_S = 15.0
# The longest answers; all others are short.
REPLY_BYTES_MAX = {"exec": framing.REPLY_MAX, "git": 1 << 20, "job_list": 4 << 20, "job_logs": 4 << 20}
SHORT_BYTES_MAX = 1 << 18
# How many values are in an answer; in a list of jobs each argument is one.
VALUES_MAX, JOBS_VALUES_MAX = 1 << 15, 1 << 19
# Of which there are so many at once, on the node and in one workspace.
COUNTED = ("exec", "git", "files")
# After these a runtime may have jobs; the others cost it no memory for jobs.
ABOUT_JOBS = (
    "run", "ssh", "job_attach", "job_delete", "job_get", "job_list", "job_logs", "job_start", "job_stop", "job_wait",
)  # fmt: skip
# Looks of one kind at one workspace at once, and all other short requests: a supervisor that never answers must not
# hold all threads of the front end.
LOOKS_MAX, TURNS_MAX = 16, 128
# Lists may be long.
LISTS_MAX = 4
TURN_WAIT_S = 10.0
# Of a supervisor that does not answer, workspace.get knows no more than that it runs.
STATUS_TIMEOUT_S = 2.0
TEXT_MAX = 4096
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
# The errors that a supervisor may answer; any other one is its login's invention.
KINDS = ("invalid_params", "not_found", "in_use", "unsupported", "command_failed", "limit")
ENDED = ("exit_code", "signal", "killed_by", "duration_s")
OUTPUTS = ("stdout", "stdout_encoding", "stderr", "stderr_encoding")
EXIT_CODE_MAX = 255
# A socket that is being made is root's alone for a moment.
ABSENT = (FileNotFoundError, ConnectionRefusedError, PermissionError)


class RuntimeSilent(CommandFailed):
    """The runtime ended before its answer: it is not known how far the request came."""

    is_pending = True


class NotRunning(Exception):
    """The runtime is not running, and is not started for this."""


class Runtimes:
    """Sends requests to the runtimes of workspaces, and has the helper make those that are not there."""

    def __init__(self, helper: Helper, folder: str = RUNTIMES) -> None:
        self._helper, self._folder = helper, folder
        self._commands, self._lock = Commands(), threading.Lock()
        self._turns, self._taken = threading.Condition(), Counter[str]()
        # How many requests last in a workspace: those for clones, and all others.
        self._lasting: Counter[Tuple[str, bool]] = Counter()
        self._looks: Counter[Tuple[str, str]] = Counter()
        # Called with each workspace whose runtime answered a request about jobs, or let somebody in.
        self.when_used: Callable[[str], None] = lambda _: None

    def call(
        self, workspace: str, request: str, *, descriptor: Optional[int] = None,
        reply_timeout_s: float = REPLY_TIMEOUT_S, for_clone: bool = False, patience_s: Optional[float] = None,
        **fields: Any,
    ) -> Dict[str, Any]:  # fmt: skip
        """Return the result of a request, which starts the runtime if need be; AgentError otherwise.

        `for_clone`: the runtime of a workspace without network gets one, and runs this git request alone. It waits
        `patience_s` for what needs another runtime; short requests end soon, so a clone waits, and clones take long.
        """
        if patience_s is None:
            patience_s = TURN_WAIT_S if for_clone else 0.0
        place = self._commands.counted(workspace) if request in COUNTED else self._turn(workspace)
        with place, self._kept_apart(workspace, patience_s, for_clone=for_clone):
            result = self._call(workspace, request, fields, descriptor, reply_timeout_s, for_clone=for_clone)
        if request in ABOUT_JOBS:
            self.when_used(workspace)
        return result

    def _call(
        self, workspace: str, request: str, fields: Dict[str, Any], descriptor: Optional[int], reply_timeout_s: float,
        *, for_clone: bool,
    ) -> Dict[str, Any]:  # fmt: skip
        message = {"protocol": PROTOCOL, "request": request, **fields}
        try:
            if for_clone:
                self._helper.call("runtime.start", workspace=workspace, for_clone=True)
            try:
                return self._ask(workspace, message, descriptor, reply_timeout_s)
            except ABSENT:
                self._helper.call("runtime.start", workspace=workspace, for_clone=for_clone)
                return self._ask(workspace, message, descriptor, reply_timeout_s)
            except InUse as refusal:
                if not refusal.data.get("for_clone"):
                    raise
                self._helper.call("runtime.start", workspace=workspace, for_clone=for_clone)
                return self._ask(workspace, message, descriptor, reply_timeout_s)
        except OSError as error:
            raise _silent(workspace, error) from None

    def ask(self, workspace: str, request: str, *, reply_timeout_s: float, **fields: Any) -> Dict[str, Any]:
        """Return the result of a request that starts nothing; NotRunning when there is no runtime to ask."""
        if not runtime_state.is_running(workspace):
            raise NotRunning(workspace)
        with self._one_look(workspace, request) as is_free:
            if not is_free:
                raise LimitReached(f"{LOOKS_MAX} requests to workspace {workspace!r} wait already", hint="try again")
            try:
                message = {"protocol": PROTOCOL, "request": request, **fields}
                result = self._ask(workspace, message, None, reply_timeout_s)
            except ABSENT:
                raise NotRunning(workspace) from None
            except OSError as error:
                raise _silent(workspace, error) from None
        if request in ABOUT_JOBS:
            self.when_used(workspace)
        return result

    def path(self, workspace: str) -> str:
        """Return the path of the socket of a workspace's runtime."""
        return f"{self._folder}/{workspace}.sock"

    def status(self, workspace: str) -> Dict[str, Any]:
        """Return since and idle_stop_at of a runtime, as its supervisor says; {} when it does not run."""
        if not runtime_state.is_running(workspace):
            return {}
        with self._one_look(workspace, "status") as is_free:
            if not is_free:
                return {}
            try:
                found = self._ask(workspace, {"protocol": PROTOCOL, "request": "status"}, None, STATUS_TIMEOUT_S)
            except (OSError, AgentError):
                return {}
        return check_status(found)

    @contextmanager
    def _turn(self, workspace: str) -> Iterator[None]:
        """Wait for one of the requests that a workspace answers at once; LimitReached when none ends in time."""
        with self._turns:
            if not self._turns.wait_for(lambda: self._taken[workspace] < TURNS_MAX, TURN_WAIT_S):
                raise LimitReached(f"{TURNS_MAX} requests to workspace {workspace!r} wait already", hint="try again")
            self._taken[workspace] += 1
        try:
            yield
        finally:
            with self._turns:
                self._taken[workspace] -= 1
                self._taken += Counter()  # drops those that are zero
                self._turns.notify_all()

    @contextmanager
    def _kept_apart(self, workspace: str, patience_s: float, *, for_clone: bool) -> Iterator[None]:
        """Count a request while it lasts; InUse while others last that a start of its runtime would end.

        The helper sees what runs in a runtime, but not who waits for one that starts.
        """
        with self._turns:
            if not self._turns.wait_for(lambda: not self._lasting[workspace, not for_clone], patience_s):
                what = "it is in use" if for_clone else "a repository is being cloned into it"
                hint = "; or run git as a command, for hosts that it may reach" if for_clone else ""
                problem = f"workspace {workspace!r} has not the whole network, and {what}"
                raise InUse(problem, hint=f"try again{hint}")
            self._lasting[workspace, for_clone] += 1
        try:
            yield
        finally:
            with self._turns:
                self._lasting[workspace, for_clone] -= 1
                self._lasting += Counter()  # drops those that are zero
                self._turns.notify_all()

    @contextmanager
    def _one_look(self, workspace: str, request: str) -> Iterator[bool]:
        """Count looks of one kind at a workspace while they last; False when there are too many."""
        with self._lock:
            is_free = self._looks[workspace, request] < (LISTS_MAX if request == "job_list" else LOOKS_MAX)
            self._looks[workspace, request] += is_free
        try:
            yield is_free
        finally:
            with self._lock:
                self._looks[workspace, request] -= is_free
                self._looks += Counter()  # drops those that are zero

    def wait(self, workspace: str, job: str) -> None:
        """Return when a job runs no more; a runtime that does not run is not started for it."""
        if runtime_state.is_running(workspace):
            try:
                self._ask(workspace, {"protocol": PROTOCOL, "request": "wait", "job": job}, None, WAIT_TIMEOUT_S)
            except (OSError, AgentError):
                pass  # it has ended meanwhile, or its login has taken it over: a job of it harms itself alone

    def _ask(
        self, workspace: str, message: Dict[str, Any], descriptor: Optional[int], timeout_s: float
    ) -> Dict[str, Any]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(min(CONNECT_TIMEOUT_S, timeout_s))
            connection.connect(self.path(workspace))
            connection.settimeout(timeout_s)
            deadline = time.monotonic() + timeout_s
            framing.send(connection, message, descriptor)
            size_max = REPLY_BYTES_MAX.get(message["request"], SHORT_BYTES_MAX)
            count_max = JOBS_VALUES_MAX if message["request"] == "job_list" else VALUES_MAX
            reply = framing.receive(connection, size_max, deadline, count_max)
        if isinstance(reply.get("result"), dict):
            result: Dict[str, Any] = reply["result"]
            return result
        raise _refusal(workspace, reply.get("error"))


def check_ended(result: Dict[str, Any]) -> Dict[str, Any]:
    """Return how a job ended; CommandFailed when the answer does not say it."""
    ended: Dict[str, Any] = {key: result.get(key) for key in ENDED}
    code, duration_s, name = ended["exit_code"], ended["duration_s"], ended["signal"]
    if not (
        (is_count(code) and code <= EXIT_CODE_MAX)
        and (isinstance(duration_s, (int, float)) and 0 <= duration_s < math.inf)
        and (name is None or re.fullmatch("SIG[A-Z0-9]{1,12}", str(name)))
        and ended["killed_by"] in (None, "timeout", "memory")
    ):
        raise nonsense()
    return ended


def check_status(result: Dict[str, Any]) -> Dict[str, Any]:
    """Return the times of a runtime; none where the answer has no time."""
    times = {key: result.get(key) for key in ("since", "idle_stop_at")}
    return {key: time if isinstance(time, str) and re.fullmatch(TIME, time) else None for key, time in times.items()}


def check_execution(result: Dict[str, Any]) -> Dict[str, Any]:
    """Return the record of a command that has ended; CommandFailed when the answer is not one."""
    outputs = {key: result.get(key) for key in OUTPUTS}
    omitted: Any = result.get("omitted_bytes")
    encodings = (outputs["stdout_encoding"], outputs["stderr_encoding"])
    is_known = all(isinstance(text, str) for text in outputs.values()) and set(encodings) <= {"text", "base64"}
    if not is_known or not is_count(omitted):
        raise nonsense()
    return {**check_ended(result), **outputs, "omitted_bytes": omitted, "truncated": omitted > 0}


def is_count(value: Any) -> bool:
    """Return whether a value is a whole number, not negative."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _silent(workspace: str, error: OSError) -> RuntimeSilent:
    text = f"the runtime of workspace {workspace!r} ended before its answer ({error})"
    return RuntimeSilent(text, hint="try again", command="supervisor", exit_code=None, stderr="")


def _refusal(workspace: str, error: Any) -> AgentError:
    """Return the error that a supervisor answered, or one that says that its answer is none."""
    error = error if isinstance(error, dict) else {}
    data = error.get("data")
    kind = data.get("kind") if isinstance(data, dict) else None
    if kind not in KINDS or not isinstance(data, dict) or not isinstance(error.get("message"), str):
        return nonsense()
    message = error["message"][:TEXT_MAX]
    if kind == "invalid_params":
        if message == "request: is unknown":
            problem = f"the runtime of workspace {workspace!r} is of an older agent, which could not do this"
            return Unsupported(problem, hint=f"inv workspace.stop {workspace}; what runs in it ends")
        field, _, problem = message.partition(": ")
        return errors.InvalidParams.of(field, problem)
    refusal = errors.by_kind(kind)(message)
    hint, for_clone = data.get("hint"), data.get("for_clone")
    refusal.data.update({"hint": errors.printable(hint[:TEXT_MAX])} if isinstance(hint, str) else {})
    refusal.data.update({"for_clone": True} if for_clone is True else {})
    if kind == "command_failed":
        refusal.data.update(command="supervisor", exit_code=None, stderr=message)
    return refusal


def nonsense() -> CommandFailed:
    """Return the error that says that an answer is none."""
    return CommandFailed("the runtime answered nonsense", command="supervisor", exit_code=None, stderr="")
