"""Follow a job of a workspace across cut connections: read on where the last one stopped, to the end of the job."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from codesmith.cli import output
from codesmith.errors import AgentRefused, Hanging, NotPrepared, Unreachable
from codesmith.sdk.api import Job, JobLogs
from codesmith.workspace import console
from codesmith.workspace.console import Source

if TYPE_CHECKING:
    from codesmith.sdk.client import Client

T = TypeVar("T")
# How long to wait between attempts to reach the node again; the last one repeats.
WAITS_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
# What an outage looks like; while an agent is upgraded, nothing listens for a moment.
OUTAGE = (Unreachable, NotPrepared, Hanging)
PIECE_BYTES = 1 << 19
WAIT_S = 600.0
RUNNING = ("waiting", "running")
Show = Callable[[str, "memoryview | bytes"], None]


class Follower:
    """Follows one job of a workspace."""

    def __init__(self, client: Client, workspace: str, job: str) -> None:
        self._client, self._workspace, self._job = client, workspace, job
        # Where to read on, of both streams.
        self._offset: int | None = None
        self._was_attached = False

    def follow(self, offset: int | None, show: Show, source: Source, *, has_tty: bool = False) -> Job:
        """Show what the job writes from `offset` on (None: from now on) until it ends, and return it then.

        A cut connection is told on stderr, and replaced until Ctrl-C. What is typed goes to the job.
        """
        self._offset = offset
        while True:
            try:
                return self._follow_once(show, source, has_tty=has_tty)
            except OUTAGE as lost:
                if not self._was_attached:
                    raise
                output.say(f"note: {lost.problem}; connecting again (Ctrl-C stops this, the job goes on)")
            self._retry(lambda: self._client.job.get(workspace=self._workspace, id=self._job))
            output.say(f"note: {self._client.node_name} answers again")

    def wait(self, timeout_s: float | None) -> Job:
        """Return the job when it has ended, or as it is after `timeout_s`; cut connections do not matter."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = WAIT_S if deadline is None else max(0.001, min(WAIT_S, deadline - time.monotonic()))
            try:
                job = self._client.job.wait(workspace=self._workspace, id=self._job, timeout_s=left)
            except Unreachable as lost:
                output.say(f"note: {lost.problem}; connecting again (Ctrl-C stops this, the job goes on)")
                job = self._retry(lambda: self._client.job.get(workspace=self._workspace, id=self._job))
            if job.state not in RUNNING or (deadline is not None and time.monotonic() >= deadline):
                return job

    def read(self, stream: str, offset: int, show: Show, until: int | None = None) -> JobLogs:
        """Show what is in the log of a stream from `offset` to its end, or to `until`; return all of it as one piece.

        `until` is needed for a job that runs: it may write as fast as it is read.
        """
        data, encoding, begin, end, eof = b"", "text", offset, offset, False
        for piece, part in self._show_pieces(stream, offset, show, until):
            begin = begin if data else piece.offset
            encoding = "base64" if piece.encoding == "base64" else encoding
            data, end, eof = data + part, piece.next_offset, piece.eof
        text = base64.b64encode(data).decode() if encoding == "base64" else data.decode("utf-8", "replace")
        return JobLogs(data=text, encoding=encoding, offset=begin, next_offset=end, eof=eof)

    def _show_pieces(
        self, stream: str, offset: int, show: Show, until: int | None = None
    ) -> Iterator[tuple[JobLogs, bytes]]:
        """Yield the pieces of a log, with their bytes, each after it was shown."""
        while until is None or offset < until:
            limit = PIECE_BYTES if until is None else min(PIECE_BYTES, until - offset)
            piece = self._client.job.logs(
                workspace=self._workspace, id=self._job, stream=stream, offset=offset, limit=limit
            )
            if piece.offset > offset:
                console.say_omitted(piece.offset - offset, show)
            part = base64.b64decode(piece.data) if piece.encoding == "base64" else piece.data.encode()
            if part:
                show(stream if stream in ("stdout", "stderr") else "stdout", part)
            yield piece, part
            if piece.eof or not part:
                return
            offset = piece.next_offset

    def _follow_once(self, show: Show, source: Source, *, has_tty: bool) -> Job:
        try:
            stream = self._client.attach(self._workspace, self._job, offset=self._offset)
        except AgentRefused as refusal:
            return self._read_to_end(refusal, show)
        self._was_attached = True
        with stream:
            try:
                console.join(stream, source, has_tty=has_tty, show=show)
            except AgentRefused as refusal:
                return self._read_to_end(refusal, show)
            finally:
                self._offset = stream.offset
        return self._client.job.get(workspace=self._workspace, id=self._job)

    def _read_to_end(self, refusal: AgentRefused, show: Show) -> Job:
        """Return a job that has ended meanwhile, after the rest of its log; raise the refusal if it runs."""
        job = self._client.job.get(workspace=self._workspace, id=self._job)
        if job.state in RUNNING:
            raise refusal
        if self._offset is not None:
            for piece, _ in self._show_pieces("both", self._offset, show):
                self._offset = piece.next_offset  # at each one: the next cut may come before the last
        return job

    def _retry(self, ask: Callable[[], T]) -> T:
        """Return what `ask` returns as soon as the node answers; only Ctrl-C ends the attempts."""
        waits = list(WAITS_S)
        while True:
            time.sleep(waits.pop(0) if len(waits) > 1 else waits[0])
            try:
                return ask()
            except OUTAGE:
                continue


def tail_offset(client: Client, workspace: str, job: str, stream: str, size: int, lines: int) -> int:
    """Return where the last `lines` lines begin in the first `size` bytes of a log."""
    begin, known = size, b""
    while begin > 0 and known.count(b"\n", 0, max(0, len(known) - 1)) < lines:
        offset = max(0, begin - PIECE_BYTES)
        piece = client.job.logs(workspace=workspace, id=job, stream=stream, offset=offset, limit=begin - offset)
        if piece.offset >= begin:  # left out, down to the beginning that is kept
            break
        part = base64.b64decode(piece.data) if piece.encoding == "base64" else piece.data.encode()
        known, begin = part[: begin - piece.offset] + known, piece.offset
        if piece.offset > offset:
            break
    wanted = known.splitlines(keepends=True)[-lines:] if lines else []
    return begin + len(known) - sum(map(len, wanted))
