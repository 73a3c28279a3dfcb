"""The record of a job: what is known of it, and what of that is written down."""

from __future__ import annotations

import json
import os
import re
import stat
import time
from typing import Any, Dict, List, Optional

from agent.supervisor.frames import STDERR, STDOUT
from agent.supervisor.job import Job, Sink
from agent.supervisor.log import BOTH, LOOK, Log
from agent.supervisor.stream import AttachedStream, RunStream
from agent.supervisor.terminal import Terminal

ID = re.compile("[0-9a-f]{12}")
ARGUMENTS_MAX, WORDS_MAX = 4096, 1024
RECORD_MAX = 1 << 16
FIELDS = (
    "id", "name", "argv", "state", "exit_code", "signal", "killed_by", "tty", "ends_with_stream", "started_at",
    "ended_at", "stdout_bytes", "stderr_bytes", "by", "duration_s",
)  # fmt: skip


class Record(Sink):
    """One job, running or ended. A kept one has a log, and those who follow it; another has its stream."""

    def __init__(self, fields: Dict[str, Any], folder: str = "") -> None:
        self.id: str = fields["id"]
        self.fields, self.folder = fields, folder
        self.log: Optional[Log] = Log(folder) if folder else None
        self.job: Optional[Job] = None
        self.terminal: Optional[Terminal] = None
        self.stream: Optional[RunStream] = None
        self.followers: List[AttachedStream] = []

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return bool(self.fields["state"] == "running")

    def add(self, stream: int, data: memoryview) -> None:
        """Take what the job writes: it goes to its log, or to its stream."""
        self.fields["stdout_bytes" if stream == STDOUT else "stderr_bytes"] += len(data)
        if self.log is not None:
            self.log.add(stream, data)
            for follower in self.followers:
                follower.follow()
        elif self.stream is not None:
            self.stream.add(stream, data)

    def end(self, result: Dict[str, Any]) -> None:
        """Write down how it ended, and tell those who follow."""
        is_killed = result["killed_by"] is not None or result["signal"] is not None
        self.fields.update(result, state="killed" if is_killed else "exited", ended_at=to_time(time.time()))
        self.job = None
        if self.log is not None:
            self.log.close()
            self.write()
        ended = {name: self.fields[name] for name in ("state", "exit_code", "signal", "killed_by", "duration_s")}
        for follower in self.followers:
            follower.end(ended)
        if self.stream is not None:
            self.stream.end(ended)

    def write(self) -> bool:
        """Write the record whole or not at all; return whether there was room."""
        temporary = f"{self.folder}/.record.{os.urandom(4).hex()}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                data = json.dumps(self.fields).encode()
                is_whole = os.write(descriptor, data) == len(data)
            finally:
                os.close(descriptor)
            if is_whole:
                os.replace(temporary, f"{self.folder}/record.json")
                return True
        except OSError:
            pass
        try:
            os.unlink(temporary)
        except OSError:
            pass
        return False


def new(identifier: str, argv: List[str], name: Optional[str], by: Optional[str], **kinds: bool) -> Dict[str, Any]:
    """Return the fields of a job that starts now; `kinds` are tty and ends_with_stream."""
    return {
        "id": identifier, "name": name, "argv": shortened(argv), "state": "running", "exit_code": None, "signal": None,
        "killed_by": None, **kinds, "started_at": to_time(time.time()), "ended_at": None, "stdout_bytes": 0,
        "stderr_bytes": 0, "by": by, "duration_s": None,
    }  # fmt: skip


def read(folder: str, identifier: str) -> Optional[Record]:
    """Return the record of an earlier supervisor; None when there is none. What still ran then is lost."""
    try:
        descriptor = os.open(f"{folder}/record.json", LOOK)
        try:
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            fields = json.loads(os.read(descriptor, RECORD_MAX)) if is_file else None
        finally:
            os.close(descriptor)
        if not isinstance(fields, dict) or set(fields) != set(FIELDS) or fields["id"] != identifier:
            return None
        record = Record(fields, folder)
        if record.log is not None:
            record.log.load()
        _complete(record)
    except (OSError, ValueError, RecursionError, OverflowError):
        return None
    return record


def _complete(record: Record) -> None:
    fields, log = record.fields, record.log
    if log is None:
        return
    if fields["state"] == "running":
        log.count_last_segment()
        fields.update(
            state="lost",
            ended_at=max(to_time(_last_change(record.folder)), str(fields["started_at"])),
            stdout_bytes=log.totals[STDOUT],
            stderr_bytes=log.totals[STDERR],
        )
        record.write()
    else:
        counts = [fields[name] if isinstance(fields[name], int) else 0 for name in ("stdout_bytes", "stderr_bytes")]
        log.totals.update({BOTH: sum(counts), STDOUT: counts[0], STDERR: counts[1]})


def _last_change(folder: str) -> float:
    """Return when something was last written there, by a clock that is a little behind: until then the job ran."""
    found = [os.stat(folder).st_mtime]
    found += [os.lstat(f"{folder}/{name}").st_mtime for name in os.listdir(folder)]
    return max(0.0, *(min(one, time.time()) for one in found))


def shortened(argv: List[str]) -> List[str]:
    """Return the arguments up to 4 KiB together."""
    kept: List[str] = []
    room = ARGUMENTS_MAX
    for word in argv:
        room -= len(word) + 1
        if room < 0 or len(kept) == WORDS_MAX:
            break
        kept.append(word)
    return kept


def to_time(seconds: float) -> str:
    """Return a time as RFC 3339 in UTC; datetime would cost memory."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03}Z"
