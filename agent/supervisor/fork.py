"""Jobs of our own code, agent.git and agent.files: a fork of the supervisor, without anything that it has open."""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import Any, Dict, Optional

from agent.supervisor.job import Pipes

DESCRIPTOR = 3
DESCRIPTORS_MAX = 4096
GIT, FILES = "git", "files"


def fork(
    room: str, request: Dict[str, Any], descriptor: Optional[int], directory: str, environment: Dict[str, str],
    pipes: Pipes,
) -> int:  # fmt: skip
    """Start a job, GIT or FILES, and return its pid; it writes its answer to standard output, or to `descriptor`."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _prepare(descriptor, directory, environment, pipes)
        _run(room, request, None if descriptor is None else DESCRIPTOR)
        code = 0
    except BaseException:
        # What the module traceback prints; to import it would slow down each start of a runtime.
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _run(room: str, request: Dict[str, Any], descriptor: Optional[int]) -> None:
    # In the child alone: they would double the supervisor's memory.
    if room == GIT:
        from agent.git import job as git

        git.run(request, descriptor)
    else:
        from agent.files import job as files

        files.run(request, descriptor)


def _prepare(descriptor: Optional[int], directory: str, environment: Dict[str, str], pipes: Pipes) -> None:
    signal.set_wakeup_fd(-1)
    for default in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(default, signal.SIG_DFL)
    os.setsid()
    streams = [pipes.source, pipes.to_stdout, pipes.to_stderr, *([] if descriptor is None else [descriptor])]
    # Away from the numbers that they get.
    for number, copy in enumerate([os.dup(stream) for stream in streams]):
        os.dup2(copy, number, inheritable=number < DESCRIPTOR)
    os.closerange(len(streams), DESCRIPTORS_MAX)
    os.environ.clear()
    os.environ.update(environment)
    # git keeps in memory what a server sends.
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    resource.setrlimit(resource.RLIMIT_DATA, (half, half))
    os.chdir(directory)
