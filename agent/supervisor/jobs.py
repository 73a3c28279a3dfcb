"""The jobs of a workspace: starts, keeps and forgets them, and tells those who watch.

They lie with the login, in `.local/state/codesmith/jobs/ID`. The login may do to them what it wants: this process
takes what it finds there for no more than the login's word.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from typing import Any, Callable, Dict, List, Optional

from agent.shared.errors import InUse, InvalidParams, LimitReached, NotFound
from agent.supervisor import job_fields, log, output, record
from agent.supervisor.job import Channel, Pipes, signal_number
from agent.supervisor.loop import Loop
from agent.supervisor.record import Record
from agent.supervisor.running import Running
from agent.supervisor.settings import Settings
from agent.supervisor.start import NotStarted
from agent.supervisor.stream import AttachedStream, RunStream, Stream
from agent.supervisor.terminal import Terminal

JOBS_MAX, ENDED_MAX, STREAMS_MAX = 200, 256, 512
LOGS_BYTES_MAX = 256 << 20
LOG_READ_MAX = 1 << 19
# How long kept jobs have when the workspace is stopped.
STOP_GRACE_S = 1.0
STREAM_PIPE_BYTES = 1 << 18
# What a job has to save its work when its client is gone.
HANGUP_S = 0.5
Told = Callable[[Dict[str, Any]], object]


class Jobs:
    """The jobs of one workspace. `on_change` is called when one has ended, or a stream."""

    def __init__(self, loop: Loop, settings: Settings, running: Running, on_change: Callable[[], object]) -> None:
        self._loop, self._settings, self._running, self._on_change = loop, settings, running, on_change
        self._folder = f"{settings.state}/jobs"
        # The oldest first.
        self._records: Dict[str, Record] = {}
        self._streams: List[Stream] = []
        self._waiting: Dict[str, List[Callable[[], object]]] = {}
        # Who is told of each start and end, and which ends nobody was told of yet, and since when.
        self.watchers: List[Told] = []
        self._unseen: Dict[str, float] = {}
        self._load()

    @property
    def is_busy(self) -> bool:
        """Whether something keeps the supervisor: a stream, or an end that the front end does not know."""
        oldest = time.monotonic() - self._settings.unseen_s
        self._unseen = {name: at for name, at in self._unseen.items() if at > oldest}
        return bool(self._streams or self._unseen)

    def all(self, state: Optional[str] = None) -> List[Dict[str, Any]]:
        """Return all jobs, newest first; with `state` those in it."""
        found = [one.fields for one in self._records.values() if state is None or one.fields["state"] == state]
        return found[::-1]

    def has(self, identifier: str) -> bool:
        """Return whether there is such a job."""
        return identifier in self._records

    def get(self, identifier: object) -> Record:
        """Return a job; NotFound otherwise."""
        found = self._records.get(str(identifier))
        if found is None:
            problem = f"no job {str(identifier)[:64]!r} in workspace {self._settings.workspace!r}"
            raise NotFound(problem, hint=f"inv job.list {self._settings.workspace}")
        return found

    def run(self, descriptor: int, fields: Dict[str, Any]) -> None:
        """Start a job that lives with its stream, which takes the descriptor.

        After a refusal nothing was sent there: who asked tells the client.
        """
        stream = RunStream(self._loop, descriptor, self._settings, self._on_stream_end)
        self._streams.append(stream)
        try:
            started = self._new(fields, folder="")
            started.stream = stream
            self._start(started, fields, stream)
        except BaseException:
            stream.close()
            raise

    def start(self, fields: Dict[str, Any]) -> Record:
        """Start a job that is kept, with its log."""
        started = self._new(fields, folder=f"{self._folder}/{fields['id']}")
        try:
            os.makedirs(started.folder, 0o700)
            is_written = started.write()
        except OSError:
            is_written = False
        if not is_written:
            self._remove(started)
            problem = f"there is no room for the record of a job in {self._folder}, or it is not writable"
            raise LimitReached(problem, hint=f"inv workspace.exec {self._settings.workspace} -- df -h")
        try:
            self._start(started, fields, None)
        except BaseException:
            self._remove(started)
            raise
        return started

    def attach(self, descriptor: int, identifier: object, offset: Optional[int]) -> None:
        """Let a stream, which takes the descriptor, follow a job from an offset of its log on, or from now on."""
        try:
            found = self.get(identifier)
            if found.log is None:
                raise InUse(f"job {found.id!r} belongs to the stream that it was started with")
            self._check_streams()
        except BaseException:
            os.close(descriptor)
            raise
        total = found.log.totals[log.BOTH]
        offset = total if offset is None else min(offset, total)
        stream = AttachedStream(self._loop, descriptor, self._settings, self._on_stream_end, found.log, offset)
        if stream.is_closed:
            return
        self._streams.append(stream)
        found.followers.append(stream)
        stream.join(found.job, found.terminal)
        if not found.is_running:
            stream.end(_ended(found))

    def logs(self, identifier: object, stream: str, offset: int, limit: int) -> Dict[str, Any]:
        """Return a piece of a job's log, as text or base64."""
        found = self.get(identifier)
        if stream not in log.STREAMS:
            raise InvalidParams.of("stream", f"must be one of {', '.join(log.STREAMS)}")
        limit = min(max(limit, 1), LOG_READ_MAX)
        if found.log is None:
            return {"data": "", "encoding": "text", "offset": 0, "next_offset": 0, "eof": not found.is_running}
        total = found.log.totals[log.STREAMS[stream]]
        piece = log.read(found.log, log.STREAMS[stream], min(max(offset, 0), total), limit)
        is_last = not found.is_running and piece.offset + len(piece.data) == total
        data, encoding, size = output.encode_piece(piece.data, is_last=is_last, is_full=len(piece.data) >= limit)
        next_offset = piece.offset + size
        eof = not found.is_running and next_offset >= total
        return {"data": data, "encoding": encoding, "offset": piece.offset, "next_offset": next_offset, "eof": eof}

    def stop_all(self) -> None:
        """End all jobs because the workspace is stopped: kept ones with a short grace."""
        for one in list(self._records.values()):
            if one.job is not None and one.log is not None:
                one.job.stop(signal.SIGTERM, STOP_GRACE_S, "operator")
            elif one.job is not None:
                one.job.end("operator")

    def when_ended(self, found: Record, callback: Callable[[], object]) -> None:
        """Call back when a job has ended; at once when it has."""
        if found.is_running:
            self._waiting.setdefault(found.id, []).append(callback)
        else:
            callback()

    def stop(self, identifier: object, name: str, grace_s: float) -> Record:
        """Send a signal to a job, and end it after `grace_s`. One that has ended stays as it is."""
        found = self.get(identifier)
        number = signal_number(name)
        if number is None:
            raise InvalidParams.of("signal", "is no signal of this node")
        if found.job is not None:
            found.job.stop(number, max(grace_s, 0.0), "operator")
            if found.terminal is not None and found.terminal.is_open and found.job is not None:
                found.job.send_signal(number, found.terminal.foreground())
        return found

    def delete(self, identifier: object) -> None:
        """Forget a job that has ended, and its log."""
        found = self.get(identifier)
        if found.is_running:
            raise InUse(f"job {found.id!r} runs", hint=f"inv job.stop {self._settings.workspace} {found.id}")
        self._forget(found)

    def watch(self, told: Told) -> None:
        """Tell somebody of all jobs, and of each start and end from now on."""
        self.watchers.append(told)
        self._unseen.clear()
        told({"jobs": self.all()})

    def _new(self, fields: Dict[str, Any], folder: str) -> Record:
        job_fields.check(fields)
        identifier, argv = fields["id"], fields["argv"]
        if identifier in self._records or identifier in self._running:
            raise InUse(f"there is a job {identifier!r} already", hint="try again")
        if sum(one.is_running for one in self._records.values()) >= JOBS_MAX:
            hint = f"inv job.list {self._settings.workspace}"
            raise LimitReached(f"{JOBS_MAX} jobs run in this workspace already", hint=hint)
        if not folder:
            self._check_streams()
        kinds = {"tty": fields.get("tty") is not None, "ends_with_stream": not folder}
        return Record(record.new(identifier, argv, fields.get("name"), fields.get("by"), **kinds), folder)

    def _check_streams(self) -> None:
        if len(self._streams) > STREAMS_MAX:
            raise LimitReached(f"{STREAMS_MAX} streams are open in this workspace already", hint="try again")

    def _start(self, started: Record, fields: Dict[str, Any], stream: Optional[RunStream]) -> None:
        tty, env = fields.get("tty"), dict(fields.get("env") or {})
        channel: Channel
        if tty is not None:
            channel = started.terminal = Terminal(tty["rows"], tty["cols"])
            env.setdefault("TERM", str(tty.get("term") or "xterm"))
        else:
            size = 0 if stream is None else STREAM_PIPE_BYTES
            channel = Pipes(has_input=fields.get("stdin") == "stream", size_bytes=size)
        timeout_s = fields.get("timeout_s")
        try:
            started.job = self._running.start(
                started.id, fields["argv"], fields.get("cwd") or "", env, channel, started, timeout_s,
                lambda job: self._on_end(started, job.result()),
            )  # fmt: skip
        except NotStarted as problem:
            self._take(started)
            started.add(2, memoryview(f"{problem.problem}\n".encode("utf-8", "surrogateescape")))
            ended = {"exit_code": problem.exit_code, "signal": None, "killed_by": None, "duration_s": 0.0}
            self._on_end(started, ended)
            return
        if stream is not None:
            stream.join(started.job, started.terminal)
        self._take(started)

    def _take(self, started: Record) -> None:
        if started.log is not None:
            started.log.on_growth = self._make_room_for_logs
        self._records[started.id] = started
        self._tell(started)

    def _on_end(self, ended: Record, result: Dict[str, Any]) -> None:
        ended.end(result)
        self._unseen[ended.id] = time.monotonic()
        self._tell(ended)
        for callback in self._waiting.pop(ended.id, ()):
            callback()
        self._make_room()
        self._on_change()

    def _tell(self, changed: Record) -> None:
        for told in list(self.watchers):
            told({"job": changed.fields})
        if self.watchers:
            self._unseen.pop(changed.id, None)

    def _on_stream_end(self, stream: Stream) -> None:
        if stream in self._streams:
            self._streams.remove(stream)
        for one in self._records.values():
            if one.stream is stream:
                one.stream = None
                if one.job is not None:
                    one.job.resume()
                    one.job.stop(signal.SIGHUP, HANGUP_S, "disconnect")
                break
            if isinstance(stream, AttachedStream) and stream in one.followers:
                one.followers.remove(stream)
                break
        self._on_change()

    def _make_room(self) -> None:
        """Forget the oldest ended jobs beyond their number, and the logs of the oldest beyond their size."""
        ended = [one for one in self._records.values() if not one.is_running]
        for one in ended[: max(len(ended) - ENDED_MAX, 0)]:
            self._forget(one)
        self._make_room_for_logs()

    def _make_room_for_logs(self) -> None:
        logs = [(one.is_running, one.log) for one in self._records.values() if one.log is not None]
        size = sum(one.size_bytes for _, one in logs)
        if size <= LOGS_BYTES_MAX:
            return
        # Those of ended jobs first, the oldest first; then the longest.
        logs.sort(key=lambda pair: (pair[0], pair[0] and -pair[1].size_bytes))
        for _, one in logs:
            # Of one that runs the beginning stays, and what it writes now.
            while size > LOGS_BYTES_MAX and one.segments:
                segment = one.droppable() if one.is_open else one.segments[0]
                if segment is None:
                    break
                size -= segment.size
                one.drop(segment)

    def _forget(self, found: Record) -> None:
        del self._records[found.id]
        self._unseen.pop(found.id, None)
        for follower in list(found.followers):
            follower.close()
        self._remove(found)

    def _remove(self, found: Record) -> None:
        if found.folder:
            shutil.rmtree(found.folder, ignore_errors=True)

    def _load(self) -> None:
        """Take the records of earlier supervisors; what is none is left alone."""
        try:
            names = [name for name in os.listdir(self._folder) if record.ID.fullmatch(name)]
        except OSError:
            return
        found = [record.read(f"{self._folder}/{name}", name) for name in names[: 4 * ENDED_MAX]]
        there = [one for one in found if one is not None]
        for one in sorted(there, key=lambda one: str(one.fields["started_at"])):
            self._records[one.id] = one
        self._make_room()


def _ended(found: Record) -> Dict[str, Any]:
    return {name: found.fields[name] for name in ("state", "exit_code", "signal", "killed_by", "duration_s")}
