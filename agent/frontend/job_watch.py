"""Watches the running workspaces that have jobs, so that their ends are known: one thread, one connection each.

What comes is the word of a workspace's login. So each connection is read at its own pace: so much text at once, so many
records a second. Whoever sends more waits, and whoever sends nonsense is asked again later and later.
"""

from __future__ import annotations

import errno
import selectors
import socket
import struct
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, List, Optional, Set

from agent.contract.records.job import Job
from agent.frontend import job_answers, runtime_state
from agent.frontend.job_records import JobRecords
from agent.frontend.runtime_client import JOBS_VALUES_MAX, PROTOCOL, REPLY_BYTES_MAX, VALUES_MAX, Runtimes
from agent.frontend.store import Store
from agent.shared import framing
from agent.shared.errors import AgentError, LimitReached

WATCHES_MAX = 512
CHUNK_BYTES = 1 << 16
# What has come and is no whole message yet, of all connections together.
PARTS_BYTES_MAX = 32 << 20
# The record of one job: the longest, and one that counts as two.
RECORD_BYTES_MAX, RECORD_BYTES = 32 << 10, 4 << 10
# For the first message, which names all jobs.
FIRST_S = 30.0
# Of one workspace: as many records at once as it has jobs, and so many a second in the long run.
BURST, RECORDS_PER_S = 2 * job_answers.JOBS_MAX, 20.0
# Whoever has used that up waits until there is room for so many: the store takes them in one piece.
AT_ONCE = 100
# Until the next try, after the first failure and at most; a connection that lasted begins anew.
RETRY_S, RETRY_MAX_S, LASTED_S = 0.1, 60.0, 60.0
# How long the end of a workspace's processes is waited for in what their supervisor still says.
SETTLE_S = 3.0
LOOK_S = 60.0


class Watched:
    """One workspace that is watched, connected or not."""

    def __init__(self, workspace: str) -> None:
        self.workspace = workspace
        self.connection: Optional[socket.socket] = None
        self.data = bytearray()
        self.is_first, self.is_paused = True, False
        self.since = self.deadline = self.retry_at = 0.0
        self.retry_s = RETRY_S
        self.budget, self.counted_at = float(BURST), time.monotonic()
        # Which of this name it is, and its jobs of which was known when it was asked for all.
        self.id: Optional[str] = None
        self.known: Set[str] = set()

    def refill(self, now: float) -> None:
        """Allow it the records of the time that has passed."""
        self.budget = min(BURST, self.budget + (now - self.counted_at) * RECORDS_PER_S)
        self.counted_at = now


class JobWatch:
    """Watches workspaces; safe to use from many threads."""

    def __init__(self, runtimes: Runtimes, records: JobRecords, store: Store) -> None:
        self._runtimes, self._records, self._store = runtimes, records, store
        self._changed = threading.Condition()
        self._watched: Dict[str, Watched] = {}
        self._wanted: Set[str] = set()
        self._ending: Set[str] = set()
        self._thread: Optional[threading.Thread] = None
        self._is_over = False

    def watch(self, workspace: str) -> None:
        """Watch a workspace that is in use, until its runtime ends."""
        with self._changed:
            if workspace in self._watched or workspace in self._wanted or self._is_over:
                return
            if len(self._watched) + len(self._wanted) >= WATCHES_MAX:
                return
            self._wanted.add(workspace)
            self._start()

    def resume(self, workspaces: Iterable[str], running: Dict[str, List[str]]) -> None:
        """Watch those of these workspaces that run; the jobs that were `running` in those that do not run are lost."""
        for workspace in workspaces:
            if runtime_state.is_running(workspace):
                self.watch(workspace)
            elif workspace in running:
                self._records.end_all(workspace, None, running[workspace])

    @contextmanager
    def while_ending(self, workspaces: Iterable[str]) -> Iterator[None]:
        """End all that runs in workspaces within this context: jobs whose supervisor does not say so were killed.

        They are marked until the change around it is written: before that the store lets in who may not enter any more.
        """
        names = set(workspaces)
        with self._changed:
            self._ending |= names
        try:
            # Not later: a new runtime may have begun meanwhile, and its jobs go on.
            running = {name: self._records.running(name) for name in names}
            yield
            for name, jobs in running.items():
                if jobs:
                    self._end_unreported(name, jobs)
        finally:
            self._store.when_written(lambda: self._unmark(names))

    def is_ending(self, workspace: str) -> bool:
        """Return whether all that runs in a workspace is being ended."""
        with self._changed:
            return workspace in self._ending

    def _unmark(self, names: Set[str]) -> None:
        with self._changed:
            self._ending -= names

    def close(self) -> None:
        """End the thread and all connections."""
        with self._changed:
            self._is_over = True
            if self._thread is None:
                return
            self._poke()
        self._thread.join()
        for watched in list(self._watched.values()):
            self._disconnect(watched)
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def _end_unreported(self, workspace: str, jobs: List[str]) -> None:
        """Wait until all is read that the supervisor said; end those of these jobs that it said nothing of."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_connected(workspace), SETTLE_S)
        self._records.end_all(workspace, "operator", jobs)

    def _is_connected(self, workspace: str) -> bool:
        watched = self._watched.get(workspace)
        return workspace in self._wanted or (watched is not None and watched.connection is not None)

    def _start(self) -> None:
        if self._thread is None:
            self._selector = selectors.DefaultSelector()
            self._wake, self._woken = socket.socketpair()
            for end in (self._wake, self._woken):
                end.setblocking(False)
            self._selector.register(self._woken, selectors.EVENT_READ)
            self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
            self._thread.start()
        self._poke()

    def _poke(self) -> None:
        try:
            self._wake.send(b".")
        except BlockingIOError:
            pass  # it will wake up

    def _run(self) -> None:
        while not self._is_over:
            try:
                self._step()
            except Exception:  # one failure must not end the watch of all others
                print(f"the watch of jobs failed\n{traceback.format_exc()}", file=sys.stderr, flush=True)
                time.sleep(RETRY_S)

    def _step(self) -> None:
        for key, _ in self._selector.select(self._pause_s()):
            if key.data is None:
                self._woken.recv(CHUNK_BYTES)
            else:
                self._guarded(self._read, key.data)
        with self._changed:
            new, self._wanted = self._wanted, set()
            for workspace in new:
                self._watched.setdefault(workspace, Watched(workspace))
        now = time.monotonic()
        for watched in list(self._watched.values()):
            if watched.connection is None and watched.retry_at <= now:
                self._guarded(self._connect, watched)
            elif watched.is_paused:
                self._guarded(self._go_on, watched)
            elif watched.connection is not None and watched.is_first and watched.deadline <= now:
                self._retry_later(watched)

    def _guarded(self, work: Any, watched: Watched) -> None:
        """Do something for one workspace: whatever it sends, or the store refuses, is its own failure."""
        try:
            work(watched)
        except Exception as error:
            if not isinstance(error, (OSError, AgentError)):
                traceback.print_exc()
            self._retry_later(watched)

    def _pause_s(self) -> float:
        now, times = time.monotonic(), [LOOK_S]
        for watched in self._watched.values():
            if watched.connection is None:
                times.append(watched.retry_at - now)
            elif watched.is_paused:
                times.append(watched.counted_at + (AT_ONCE - watched.budget) / RECORDS_PER_S - now)
            elif watched.is_first:
                times.append(watched.deadline - now)
        return max(min(times), 0.0)

    def _connect(self, watched: Watched) -> None:
        """Ask a runtime for its jobs; one that does not run has none any more."""
        if not runtime_state.is_running(watched.workspace):
            self._drop(watched)
            return
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        watched.connection, watched.data, watched.is_first, watched.is_paused = connection, bytearray(), True, False
        watched.since, watched.known = time.monotonic(), self._records.ids(watched.workspace)
        watched.deadline, watched.id = watched.since + FIRST_S, self._store.id_of(watched.workspace)
        error = connection.connect_ex(self._runtimes.path(watched.workspace))
        if error:
            raise OSError(error, errno.errorcode.get(error, ""))
        framing.send(connection, {"protocol": PROTOCOL, "request": "watch"})
        self._selector.register(connection, selectors.EVENT_READ, watched)

    def _read(self, watched: Watched) -> None:
        if watched.connection is None:  # it was ended meanwhile
            return
        try:
            chunk = watched.connection.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        if not chunk:
            raise ConnectionError("it has ended")
        watched.data += chunk
        if sum(len(other.data) for other in self._watched.values()) > PARTS_BYTES_MAX:
            self._retry_later(max(self._watched.values(), key=lambda other: len(other.data)))
        self._take(watched)

    def _go_on(self, watched: Watched) -> None:
        watched.refill(time.monotonic())
        if watched.budget >= min(AT_ONCE, BURST) and watched.connection is not None:
            watched.is_paused = False
            self._selector.register(watched.connection, selectors.EVENT_READ, watched)
            self._take(watched)

    def _take(self, watched: Watched) -> None:
        """Take the whole messages that have come, as many as it may send now."""
        watched.refill(time.monotonic())
        told: List[Job] = []
        try:
            self._parse(watched, told)
        finally:
            if told:
                self._records.learn(watched.workspace, told, of=watched.id)

    def _parse(self, watched: Watched, told: List[Job]) -> None:
        while watched.connection is not None and len(watched.data) >= 4:
            (size,) = struct.unpack_from(">I", watched.data)
            if size > (REPLY_BYTES_MAX["job_list"] if watched.is_first else RECORD_BYTES_MAX):
                raise ConnectionError("a message is too long")
            if len(watched.data) < 4 + size:
                return
            if watched.budget < 1:
                watched.is_paused = True
                self._selector.unregister(watched.connection)
                return
            count_max = JOBS_VALUES_MAX if watched.is_first else VALUES_MAX
            message = framing.parse(bytes(watched.data[4 : 4 + size]), count_max)
            watched.budget -= 0 if watched.is_first else size // RECORD_BYTES
            del watched.data[: 4 + size]
            self._hear(watched, message.get("result", message), told)

    def _hear(self, watched: Watched, message: Any, told: List[Job]) -> None:
        if not isinstance(message, dict):
            raise ConnectionError("not a record")
        if watched.is_first and "error" in message:
            error = message["error"]
            if isinstance(error, dict) and error.get("code") == LimitReached.code:
                raise ConnectionError("it has too many watchers")
            # A runtime of an older agent, or one for a clone alone: the next use of the workspace asks again.
            self._forget(watched)
            return
        watched.budget -= 1
        if not watched.is_first:
            told.append(job_answers.check_job(watched.workspace, message.get("job")))
            return
        jobs = job_answers.check_jobs(watched.workspace, message.get("jobs"))
        watched.budget -= len(jobs)
        self._records.learn(watched.workspace, jobs, of=watched.id, all_of=watched.known)
        watched.is_first = False

    def _retry_later(self, watched: Watched) -> None:
        """Try again, later each time; at once when it had lasted."""
        lasted = watched.connection is not None and time.monotonic() - watched.since > LASTED_S
        watched.retry_s = RETRY_S if lasted else min(2 * watched.retry_s, RETRY_MAX_S)
        watched.retry_at = time.monotonic() + watched.retry_s
        self._disconnect(watched)
        if not runtime_state.is_running(watched.workspace):
            self._drop(watched)

    def _drop(self, watched: Watched) -> None:
        """Forget a workspace that does not run."""
        with self._changed:
            killed_by = "operator" if watched.workspace in self._ending else None
        self._records.end_all(watched.workspace, killed_by)
        self._forget(watched)

    def _forget(self, watched: Watched) -> None:
        self._disconnect(watched)
        with self._changed:
            self._watched.pop(watched.workspace, None)

    def _disconnect(self, watched: Watched) -> None:
        connection, watched.connection, watched.data = watched.connection, None, bytearray()
        if connection is not None:
            if not watched.is_paused and connection.fileno() in self._selector.get_map():
                self._selector.unregister(connection)
            connection.close()
        watched.is_paused = False
        with self._changed:
            self._changed.notify_all()
