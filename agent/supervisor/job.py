"""One job: a process with all that it starts, its input, its outputs and its end."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import signal
import time
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from agent.shared import control_groups
from agent.supervisor import processes
from agent.supervisor.loop import Loop

CHUNK_BYTES = 65536
READ_BYTES = 1 << 18
# What is read at a job's end at most: a pipe holds no more, and something that hides may write on and on.
REST_BYTES = 1 << 20
# An input that holds so much takes no more.
INPUT_BYTES = 1 << 16
PAUSE_S, GRACE_PAUSE_S = 0.005, 0.02
# Against what forks while it is killed.
ROUNDS = 8
# How long a job's processes are killed anew before its answer is given all the same.
END_S = 10.0
STDOUT, STDERR = 1, 2
# All reading goes through this one: a job's sink, or input, copies what it keeps.
BUFFER = memoryview(bytearray(READ_BYTES))


def signal_number(name: object) -> Optional[signal.Signals]:
    """Return the signal of this name; None when there is none."""
    return signal.Signals.__members__.get(str(name))


class Channel:
    """What joins a job and us: our ends, which are -1 when there is none, and how the job gets its own."""

    sink: int
    stdout: int
    stderr: int

    def file_actions(self) -> List[Tuple[Any, ...]]:
        """Return how posix_spawn() gives the job its ends as descriptors 0, 1 and 2."""
        raise NotImplementedError

    def close_theirs(self) -> None:
        """Close the ends that the job has."""

    def close_ours(self) -> None:
        """Close the ends that we read and write, when the job could not be started."""

    def close_kept(self) -> None:
        """Close what was kept for as long as the job runs."""


class Pipes(Channel):
    """The three pipes of a job: our ends, and those that the job gets as descriptors 0, 1 and 2."""

    def __init__(self, *, has_input: bool, size_bytes: int = 0) -> None:
        self.source, self.sink = os.pipe2(os.O_CLOEXEC) if has_input else (os.open(os.devnull, os.O_RDONLY), -1)
        self.stdout, self.to_stdout = os.pipe2(os.O_CLOEXEC)
        self.stderr, self.to_stderr = os.pipe2(os.O_CLOEXEC)
        for descriptor in (self.stdout, self.sink)[: 1 + has_input] if size_bytes else ():
            try:
                fcntl.fcntl(descriptor, 1031, size_bytes)  # F_SETPIPE_SZ, which has no name before Python 3.10
            except OSError:
                pass  # the login has as many pages in pipes as it may

    def file_actions(self) -> List[Tuple[Any, ...]]:
        """Return how posix_spawn() gives the job its ends as descriptors 0, 1 and 2."""
        streams = ((self.source, 0), (self.to_stdout, 1), (self.to_stderr, 2))
        return [(os.POSIX_SPAWN_DUP2, theirs, number) for theirs, number in streams]

    def close_theirs(self) -> None:
        """Close the ends that the job has."""
        for descriptor in (self.source, self.to_stdout, self.to_stderr):
            os.close(descriptor)

    def close_ours(self) -> None:
        """Close the ends that we read and write, when the job could not be started."""
        for descriptor in (self.sink, self.stdout, self.stderr):
            if descriptor >= 0:
                os.close(descriptor)


class Sink:
    """Takes what a job writes, 1 for stdout and 2 for stderr; the bytes are only there during the call."""

    def add(self, stream: int, data: memoryview) -> None:
        """Take a chunk."""


class Input:
    """What a job reads: written to it as it reads, bounded by who asks `is_full` before he writes more."""

    def __init__(self, loop: Loop, descriptor: int) -> None:
        self._loop, self._descriptor, self._data = loop, descriptor, bytearray()
        self._is_ended = False
        self._waiting: List[Callable[[], None]] = []
        if descriptor >= 0:
            os.set_blocking(descriptor, False)

    @property
    def is_full(self) -> bool:
        """Return whether more should wait."""
        return len(self._data) >= INPUT_BYTES

    def when_there_is_room(self, callback: Callable[[], None]) -> None:
        """Call back once, when it is full no more."""
        self._waiting.append(callback)

    def add(self, data: Union[bytes, memoryview]) -> None:
        """Write, or keep for later. What comes after the end, or to a job that does not read any more, is lost."""
        if self._descriptor < 0 or self._is_ended or not data:
            return
        if self._data:
            self._data += data
            return
        written = 0
        with contextlib.suppress(OSError):  # it reads later, or no more: who waits for it finds out
            written = os.write(self._descriptor, data)
        if written < len(data):
            self._data += data[written:]
            self._loop.watch(self._descriptor, self._write, writing=True)

    def end(self) -> None:
        """Close it when all is written."""
        self._is_ended = True
        if not self._data:
            self.close()

    def close(self) -> None:
        """Close it now."""
        if self._descriptor >= 0:
            self._loop.unwatch(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        self._data.clear()
        self._tell()

    def _write(self) -> None:
        try:
            with memoryview(self._data) as view:
                written = os.write(self._descriptor, view[:CHUNK_BYTES])
        except BlockingIOError:
            return
        except OSError:  # it reads no more
            self.close()
            return
        del self._data[:written]
        if not self._data:
            if self._is_ended:
                self.close()
            else:
                self._loop.unwatch(self._descriptor)
        self._tell()

    def _tell(self) -> None:
        if not self.is_full:
            waiting, self._waiting = self._waiting, []
            for callback in waiting:
                callback()


class Job:
    """A job that runs. `on_end` is called once, when nothing of it is left.

    When it `is_alone`, whatever runs beside it in the workspace was left by it or by an earlier job.
    """

    def __init__(
        self, loop: Loop, pid: int, mark: str, channel: Channel, sink: Sink, timeout_s: Optional[float],
        on_end: Callable[[Job], None], is_alone: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.mark, self.pid = mark, pid
        self._loop, self._on_end, self._is_alone = loop, on_end, is_alone
        self._channel, self._sink = channel, sink
        self._begun = time.monotonic()
        self._status: Optional[int] = None
        self._end_by, self._looks, self._grace_by = 0.0, 0, 0.0
        self._cause: Optional[str] = None
        self._groups = control_groups.own()
        self._kills = control_groups.memory_kills(self._groups)
        self._is_paused = False
        pairs = ((channel.stdout, STDOUT), (channel.stderr, STDERR))
        self._outputs = {descriptor: stream for descriptor, stream in pairs if descriptor >= 0}
        for descriptor in self._outputs:
            os.set_blocking(descriptor, False)
            loop.watch(descriptor, functools.partial(self._read, descriptor))
        self.input = Input(loop, channel.sink)
        self._timer = -1 if timeout_s is None else loop.at(self._begun + timeout_s, lambda: self.end("timeout"))
        loop.on_exit(pid, self._on_exit)

    def end(self, cause: Optional[str] = None) -> None:
        """Kill the job and all that it started."""
        if not self._end_by:
            self._cause = self._cause or cause
            self._begin_end()
            self._sweep()

    def stop(self, number: int, grace_s: float, cause: str) -> None:
        """Send a signal to the job's process group, and end it with all it started when it is there after `grace_s`.

        What it started has the same time: the job has not ended before. A second call can only shorten it.
        """
        if self._end_by:
            return
        self._cause = self._cause or cause
        self.send_signal(number)
        self._loop.cancel(self._timer)
        now = time.monotonic()
        self._grace_by = min(self._grace_by or now + grace_s, now + grace_s)
        self._timer = self._loop.at(now, self._wait_for_grace)

    def send_signal(self, number: int, group: int = 0) -> None:
        """Send a signal to a process group of the job, its leader's if none is given."""
        if not self._end_by:
            try:
                os.killpg(group or self.pid, number)
            except OSError:
                pass  # nothing of it is there

    def pause(self) -> None:
        """Let the job wait where it writes."""
        if not self._is_paused:
            self._is_paused = True
            for descriptor in self._outputs:
                self._loop.unwatch(descriptor)

    def resume(self) -> None:
        """Read on what it writes."""
        if self._is_paused:
            self._is_paused = False
            for descriptor in self._outputs:
                self._loop.watch(descriptor, functools.partial(self._read, descriptor))

    def result(self) -> Dict[str, Any]:
        """Return exit_code, signal, killed_by and duration_s of a job that has ended."""
        status = 0 if self._status is None else self._status
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = 128 + number if number else os.WEXITSTATUS(status)
        if code and self._cause is None and self.has_lost_memory():
            self._cause = "memory"
        name = (signal.Signals(number).name if number in set(signal.Signals) else f"SIG{number}") if number else None
        duration_s = round(time.monotonic() - self._begun, 4)
        return {"exit_code": code, "signal": name, "killed_by": self._cause, "duration_s": duration_s}

    def has_lost_memory(self) -> bool:
        """Return whether the kernel has ended a process of the workspace for lack of memory while the job ran."""
        return control_groups.memory_kills(self._groups) > self._kills

    def _on_exit(self, status: int) -> None:
        self._status = status
        if self._grace_by and not self._end_by:
            return  # what it started has its time too
        if not self._end_by:
            self._begin_end()
        # Without orphans there is nothing of it left: what it started has become a child of this process.
        if processes.others(self._loop.leaders()):
            self._sweep()
        else:
            self._finish()

    def _wait_for_grace(self) -> None:
        is_over = time.monotonic() >= self._grace_by
        if is_over or (self._status is not None and not processes.of_job(self.pid, self.mark)):
            self._begin_end()
            self._sweep()
        else:
            self._timer = self._loop.at(time.monotonic() + GRACE_PAUSE_S, self._wait_for_grace)

    def _begin_end(self) -> None:
        self._end_by = time.monotonic() + END_S
        self._loop.cancel(self._timer)

    def _sweep(self) -> None:
        self._loop.cancel(self._timer)
        for _ in range(ROUNDS):
            is_alone = self._is_alone()
            left = processes.everything() if is_alone else processes.of_job(self.pid, self.mark)
            if is_alone:
                processes.kill_everything()  # also what was missed by looking
            else:
                processes.kill(self.pid, left)
            if not left:
                break
        # A program that is just being started has no environment: it is looked for a second time.
        self._looks = 0 if left else self._looks + 1
        if (self._status is not None and self._looks > 1) or time.monotonic() > self._end_by:
            self._finish()
        else:
            self._timer = self._loop.at(time.monotonic() + PAUSE_S, self._sweep)

    def _finish(self) -> None:
        self._loop.cancel(self._timer)
        for descriptor in list(self._outputs):
            rest = REST_BYTES
            while rest > 0 and descriptor in self._outputs:
                size = self._read(descriptor)
                rest = rest - size if size else 0
            self._close_output(descriptor)
        self.input.close()
        self._channel.close_kept()
        self._on_end(self)

    def _read(self, descriptor: int) -> int:
        """Read one chunk and return its size; 0 when there is none now."""
        try:
            size = os.readv(descriptor, [BUFFER])
        except BlockingIOError:
            return 0
        except OSError:  # of a terminal, whose other side is gone
            size = 0
        if size:
            self._sink.add(self._outputs[descriptor], BUFFER[:size])
        else:
            self._close_output(descriptor)
        return size

    def _close_output(self, descriptor: int) -> None:
        if self._outputs.pop(descriptor, None) is not None:
            self._loop.unwatch(descriptor)
            os.close(descriptor)
