"""What runs in the workspace: every job, of whatever request, and who may have left something behind."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, Optional

from agent.shared.paths import JOB_MARK
from agent.supervisor import processes
from agent.supervisor.job import Channel, Job, Sink
from agent.supervisor.loop import Loop
from agent.supervisor.settings import Settings
from agent.supervisor.start import start


class Running:
    """All jobs that run, by their mark. Nobody else starts one."""

    def __init__(self, loop: Loop, settings: Settings) -> None:
        self._loop, self._settings = loop, settings
        self._jobs: Dict[str, Job] = {}
        # How long each command may run that is started from now on.
        self.runtime_s = settings.runtime_s
        # SSH sessions: they may leave something running that belongs to no job.
        self.has_guests = False

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, mark: object) -> bool:
        return mark in self._jobs

    def __iter__(self) -> Any:
        return iter(list(self._jobs.values()))

    def start(
        self, mark: str, argv: List[str], cwd: str, env: Dict[str, str], channel: Channel, sink: Sink,
        timeout_s: Optional[float], on_end: Callable[[Job], None],
    ) -> Job:  # fmt: skip
        """Start a program as a job; NotStarted when it cannot be. The channel is closed then."""
        settings = self._settings
        try:
            directory = os.path.normpath(os.path.join(settings.path, cwd))
            environment = {**settings.environment(), **env, JOB_MARK: mark}
            environment.setdefault("PWD", directory)
            pid = start(argv, directory, environment, channel)
        except BaseException:
            channel.close_ours()
            raise
        finally:
            channel.close_theirs()
            os.chdir("/")
        return self.add(pid, mark, channel, sink, timeout_s, on_end)

    def add(
        self, pid: int, mark: str, channel: Channel, sink: Sink, timeout_s: Optional[float],
        on_end: Callable[[Job], None],
    ) -> Job:  # fmt: skip
        """Take a process that was just started as a job. The time of the sandbox limits it too."""
        processes.prefer_for_oom(pid)
        limits = [one for one in (timeout_s, self.runtime_s) if one is not None]

        def end(job: Job) -> None:
            del self._jobs[mark]
            on_end(job)

        job = Job(self._loop, pid, mark, channel, sink, min(limits, default=None), end, self._is_alone)
        self._jobs[mark] = job
        return job

    def _is_alone(self) -> bool:
        """Return whether at most one job is there, and nobody who may leave something running: an SSH session."""
        return len(self._jobs) <= 1 and not self.has_guests
