"""Jobs of a workspace on this process's standard streams: their logs, joining one, waiting for its end."""

from __future__ import annotations

import base64
import contextlib
import json as json_module
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codesmith.cli import output, terminal
from codesmith.errors import BadArgument, Interruption, StillRuns, UnknownName
from codesmith.sdk.api import Job, JobLogs, StartedJob
from codesmith.sdk.ended import Ended
from codesmith.workspace import console, denied_hosts, following

if TYPE_CHECKING:
    from codesmith.sdk.client import Client


# How much of its standard error is shown of a job that ended at once.
LAST_LINES = 10
RUNNING = following.RUNNING
AN_ID = re.compile("[0-9a-f]{12}")


@dataclass(frozen=True)
class Begin:
    """Where to begin in a log: at a byte, or with the last lines; of one stream, or of both."""

    stream: str = "both"
    offset: int | None = None
    tail: int | None = None

    def __post_init__(self) -> None:
        if self.offset is not None and self.tail is not None:
            raise BadArgument("--offset and --tail exclude each other")
        for option, number in (("--offset", self.offset), ("--tail", self.tail)):
            if number is not None and number < 0:
                raise BadArgument(f"{option} takes a whole number from 0, not {number}")

    def find(self, client: Client, job: Job) -> int:
        """Return the byte of the stream where to begin."""
        if self.tail is None:
            return self.offset or 0
        return following.tail_offset(client, job.workspace, job.id, self.stream, self.size(job), self.tail)

    def size(self, job: Job) -> int:
        """Return how much the stream has."""
        return {"stdout": job.stdout_bytes, "stderr": job.stderr_bytes}.get(self.stream, written_bytes(job))


def row(job: Job) -> dict[str, object]:
    """Return a job as people see it: its command as a shell takes it."""
    return {**job.to_dict(), "command": shlex.join(job.argv)}


def written_bytes(job: Job) -> int:
    """Return how many bytes a job has written."""
    return job.stdout_bytes + job.stderr_bytes


def job_of(started: StartedJob) -> Job:
    """Return the job that was started, without what concerns its stream."""
    return Job.from_dict(started.to_dict())


def of_workspace(client: Client, workspace: str, *, state: str | None = None, execs: bool = False) -> list[Job]:
    """Return the jobs of a workspace, newest first; `execs`: also the commands that ended with their stream."""
    return [job for job in client.job.list(workspace=workspace, state=state) if execs or not job.ends_with_stream]


def id_of(client: Client, workspace: str, word: str, *, unique: bool = False) -> str:
    """Return the id that a word means: 12 hexadecimal digits are one, else the newest job of that name has it.

    UnknownName if no job has that name; BadArgument if it must be `unique` and several have it.
    """
    if AN_ID.fullmatch(word):
        return word
    named = [job.id for job in of_workspace(client, workspace) if job.name == word]
    look = f"inv job.list {workspace}"
    if not named:
        raise UnknownName(f"no job {word!r} in workspace {workspace}", hint=look)
    if unique and len(named) > 1:
        raise BadArgument(f"{len(named)} jobs are called {word!r}: name one by its id", hint=look)
    return named[0]


def how_it_ended(job: Job) -> str:
    """Return how a job ended, in a few words."""
    if job.state == "lost":
        return "is lost: nobody saw its end"
    return f"has ended with exit code {job.exit_code}" + (f" ({job.signal})" if job.signal else "")


def say_started(client: Client, job: Job, complete: Callable[[str], str]) -> None:
    """Say how to follow a job, or how it ended if it has, after the last lines of its standard error."""
    if job.state in RUNNING:
        output.say(complete(f"follow it: inv job.logs {job.workspace} {job.id} --follow"))
        return
    with contextlib.suppress(console.NobodyReads):
        offset = Begin("stderr", tail=LAST_LINES).find(client, job)
        write = console.Outputs().write
        following.Follower(client, job.workspace, job.id).read("stderr", offset, write, until=job.stderr_bytes)
    output.say(f"job {job.id} {how_it_ended(job)}")


def logs(client: Client, workspace: str, job: str, begin: Begin, *, json: bool) -> JobLogs:
    """Show what a job has written up to now; return it."""
    known = client.job.get(workspace=workspace, id=job)
    offset, size = begin.find(client, known), begin.size(known)
    write: following.Show = nothing if json else console.Outputs(merged=True).write
    with contextlib.suppress(console.NobodyReads):
        log = following.Follower(client, workspace, job).read(begin.stream, offset, write, until=size)
        log.eof = known.state not in RUNNING and log.next_offset >= size
        if json:
            output.show(log, json=True)
        denied_hosts.say_of_job(client, known)
        return log
    return JobLogs(data="", encoding="text", offset=offset, next_offset=offset, eof=False)


def logs_to_the_end(client: Client, workspace: str, job_id: str, begin: Begin, *, json: bool) -> Job:
    """Show what a job has written and writes until it ends, on standard output; return the job."""
    job = client.job.get(workspace=workspace, id=job_id)
    offset = begin.find(client, job)
    show = JsonLines(offset) if json else console.Outputs(merged=True).write
    try:
        if begin.stream != "both":  # its own offsets lead only through its own log; from there on, through both
            following.Follower(client, workspace, job_id).read(begin.stream, offset, show, until=begin.size(job))
            offset = written_bytes(job)
        return follow(client, job, offset, Passing(show, begin.stream))
    except console.NobodyReads:
        return job


@dataclass(frozen=True)
class Passing:
    """What of a job's output is shown, and what it reads from here."""

    show: following.Show
    stream: str = "both"
    source: int | None = None

    def __call__(self, name: str, data: memoryview | bytes) -> None:
        """Show a piece, if it is wanted."""
        if self.stream in (name, "both"):
            self.show(name, data)

    def skip(self, count: int) -> None:
        """Tell what counts bytes that some are missing: of which stream is known only where both are shown."""
        if isinstance(self.show, JsonLines):
            self.show.skip(count if self.stream == "both" else None)


def attach(
    client: Client, job: Job, offset: int | None, *, takes_input: bool, json: bool, complete: Callable[[str], str]
) -> Job:
    """Join the standard streams with a job until it ends; return it then, or as it is for a person who detached.

    With `json` standard output has the job alone, and what the job writes goes to standard error. `complete` makes a
    command ready to paste.
    """
    source = terminal.descriptor_of(sys.stdin) if takes_input else None
    is_raw = job.tty and terminal.is_terminal(source)
    if job.state in RUNNING:
        output.say(f"attached to job {job.id}; to leave it running: {'Enter ~ .' if is_raw else 'Ctrl-C'}")
    passing = Passing(console.Outputs(to_stderr=json).write, source=source)
    try:
        ended = follow(client, job, offset, passing)
    except console.Detached:
        ended = job
        output.say(complete(f"detached: job {job.id} goes on; again: inv job.attach {job.workspace} {job.id}"))
    if json:
        output.show(ended, json=True)
    return ended


def follow(client: Client, job: Job, offset: int | None, passing: Passing) -> Job:
    """Follow a job until it ends, and say what ended it; Ctrl-C stops following, and the job goes on."""
    has_tty = job.tty and passing.source is not None
    source = console.Source(passing.source, ends=False)
    try:
        ended = following.Follower(client, job.workspace, job.id).follow(offset, passing, source, has_tty=has_tty)
    except console.NobodyReads:
        return job
    except KeyboardInterrupt:
        raise goes_on(job.workspace, job.id) from None
    say_end(ended)
    denied_hosts.say_of_job(client, ended)
    return ended


def wait(client: Client, workspace: str, job_id: str, timeout_s: float | None) -> Job:
    """Return a job when it has ended; StillRuns if it runs on after `timeout_s`."""
    try:
        job = following.Follower(client, workspace, job_id).wait(timeout_s)
    except KeyboardInterrupt:
        raise goes_on(workspace, job_id) from None
    if job.state in RUNNING:
        look = f"inv job.logs {workspace} {job_id} --tail 20"
        raise StillRuns(f"job {job_id} still runs after {timeout_s:g} s", hint=look)
    say_end(job)
    denied_hosts.say_of_job(client, job)
    return job


def say_end(job: Job) -> None:
    """Warn of what ended a job, if it was not its own end."""
    if job.state == "lost":
        output.warn([f"job {job.id} is lost: nobody saw its end, as when the node was switched off"])
    console.say_why(Ended(job.exit_code, job.signal, job.killed_by, state=job.state))


def goes_on(workspace: str, job: str) -> Interruption:
    """Return the Ctrl-C of somebody who only looked at a job."""
    return Interruption(f"job {job} goes on", hint=f"inv job.logs {workspace} {job} --follow")


def nothing(_name: str, _data: memoryview | bytes) -> None:
    """Show nothing."""


class JsonLines:
    """Prints each piece as one line of JSON; its offset is where it begins in what is shown, None if nobody knows."""

    def __init__(self, offset: int) -> None:
        self._offset: int | None = offset

    def __call__(self, name: str, data: memoryview | bytes) -> None:
        """Print a piece."""
        piece: dict[str, object] = {"stream": name, "offset": self._offset}
        try:
            piece.update(data=bytes(data).decode(), encoding="text")
        except UnicodeDecodeError:
            piece.update(data=base64.b64encode(data).decode(), encoding="base64")
        self.skip(len(data))
        if not output.print_line(json_module.dumps(piece)):
            raise console.NobodyReads

    def skip(self, count: int | None) -> None:
        """Go on so many bytes further; None: nobody knows how many."""
        self._offset = None if self._offset is None or count is None else self._offset + count
