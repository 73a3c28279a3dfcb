"""One job: a process with all that it starts, its input, its outputs and its end."""

from __future__ import annotations

import functools
import os
import signal
import time
from typing import Any, Callable, Dict, Optional

from agent.shared import control_groups
from agent.supervisor import processes
from agent.supervisor.loop import Loop
from agent.supervisor.output import Output

CHUNK_BYTES = 65536
PAUSE_S = 0.005
# Against what forks while it is killed.
ROUNDS = 8
# How long a job's processes are killed anew before its answer is given all the same.
END_S = 10.0


class Pipes:
    """The three pipes of a job: our ends, and those that the job gets as descriptors 0, 1 and 2."""

    def __init__(self, *, has_input: bool) -> None:
        self.source, self.sink = os.pipe2(os.O_CLOEXEC) if has_input else (os.open(os.devnull, os.O_RDONLY), -1)
        self.stdout, self.to_stdout = os.pipe2(os.O_CLOEXEC)
        self.stderr, self.to_stderr = os.pipe2(os.O_CLOEXEC)

    def close_theirs(self) -> None:
        """Close the ends that the job has."""
        for descriptor in (self.source, self.to_stdout, self.to_stderr):
            os.close(descriptor)

    def close_ours(self) -> None:
        """Close the ends that we read and write, when the job could not be started."""
        for descriptor in (self.sink, self.stdout, self.stderr):
            if descriptor >= 0:
                os.close(descriptor)


class Job:
    """A job that runs. `on_end` is called once, when nothing of it is left.

    When it `is_alone`, whatever runs beside it in the workspace was left by it or by an earlier job.
    """

    def __init__(
        self, loop: Loop, pid: int, mark: str, pipes: Pipes, stdin: bytes, timeout_s: float,
        on_end: Callable[[Job], None], is_alone: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.mark, self.stdout, self.stderr = mark, Output(), Output()
        self._loop, self._pid, self._on_end, self._is_alone = loop, pid, on_end, is_alone
        self._begun = time.monotonic()
        self._status: Optional[int] = None
        self._end_by, self._looks = 0.0, 0
        self._cause: Optional[str] = None
        self._groups = control_groups.own()
        self._kills = control_groups.memory_kills(self._groups)
        self._outputs: Dict[int, Output] = {pipes.stdout: self.stdout, pipes.stderr: self.stderr}
        for descriptor in self._outputs:
            os.set_blocking(descriptor, False)
            loop.watch(descriptor, functools.partial(self._read, descriptor))
        self._sink, self._data = pipes.sink, memoryview(stdin)
        if self._sink >= 0:
            os.set_blocking(self._sink, False)
            loop.watch(self._sink, self._write, writing=True)
        self._timer = loop.at(self._begun + timeout_s, lambda: self.end("timeout"))
        loop.on_exit(pid, self._on_exit)

    def end(self, cause: Optional[str] = None) -> None:
        """Kill the job and all that it started."""
        if not self._end_by:
            self._cause = cause
            self._begin_end()
            self._sweep()

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
        if not self._end_by:
            self._begin_end()
        # Without orphans there is nothing of it left: what it started has become a child of this process.
        if processes.others(self._loop.leaders()):
            self._sweep()
        else:
            self._finish()

    def _begin_end(self) -> None:
        self._end_by = time.monotonic() + END_S
        self._loop.cancel(self._timer)

    def _sweep(self) -> None:
        self._loop.cancel(self._timer)
        for _ in range(ROUNDS):
            is_alone = self._is_alone()
            left = processes.everything() if is_alone else processes.of_job(self._pid, self.mark)
            if is_alone:
                processes.kill_everything()  # also what was missed by looking
            else:
                processes.kill(self._pid, left)
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
            while descriptor in self._outputs and self._read(descriptor):
                pass
            self._close_output(descriptor)
        self._close_sink()
        self._on_end(self)

    def _read(self, descriptor: int) -> bool:
        """Read one chunk; False when there is none now."""
        try:
            data = os.read(descriptor, CHUNK_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._outputs[descriptor].add(data)
        else:
            self._close_output(descriptor)
        return bool(data)

    def _close_output(self, descriptor: int) -> None:
        if self._outputs.pop(descriptor, None) is not None:
            self._loop.unwatch(descriptor)
            os.close(descriptor)

    def _write(self) -> None:
        try:
            self._data = self._data[os.write(self._sink, self._data[:CHUNK_BYTES]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._data = self._data[:0]
        if not self._data:
            self._close_sink()

    def _close_sink(self) -> None:
        if self._sink >= 0:
            self._loop.unwatch(self._sink)
            os.close(self._sink)
            self._sink = -1
