"""Starts programs: looked up in the caller's PATH, without a shell, each in a session of its own."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from typing import Dict, Iterator, List

from agent.supervisor.job import Channel

# Python ignores two of them, and who started us may have ignored others; a program expects their defaults.
DEFAULT_SIGNALS = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
SHELL = "/bin/sh"
# Soft limits: of programs, and of this process.
DESCRIPTORS, DESCRIPTORS_OWN = 1024, 4096


class NotStarted(Exception):
    """A program could not be started; the exit code is the one that a shell would have."""

    def __init__(self, problem: str, exit_code: int) -> None:
        super().__init__(problem)
        self.problem, self.exit_code = problem, exit_code


def start(argv: List[str], directory: str, environment: Dict[str, str], channel: Channel) -> int:
    """Start a program in `directory` and return its pid; NotStarted when there is no such program or directory.

    This process's own directory is `directory` afterwards: posix_spawn() has none to give.
    """
    try:
        os.chdir(directory)
    except OSError as error:
        raise NotStarted(f"{directory}: {error.strerror}", 2) from None
    path = _find(argv[0], environment.get("PATH", ""))
    try:
        return _spawn(path, argv, environment, channel)
    except OSError as error:
        if error.errno == errno.ENOEXEC:  # a script without #!, which the shell runs
            return _spawn(SHELL, [SHELL, path, *argv[1:]], environment, channel)
        code = 127 if isinstance(error, FileNotFoundError) else 126
        raise NotStarted(f"{argv[0]}: {error.strerror}", code) from None


def _spawn(path: str, argv: List[str], environment: Dict[str, str], channel: Channel) -> int:
    with usual_descriptors():
        return os.posix_spawn(
            path, argv, environment, file_actions=channel.file_actions(),
            setsid=True, setsigdef=DEFAULT_SIGNALS, setsigmask=(),
        )  # fmt: skip


@contextlib.contextmanager
def usual_descriptors() -> Iterator[None]:
    """Give programs the usual limit of descriptors: many cannot select(2) above 1024, and this process needs more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, DESCRIPTORS), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def allow_descriptors() -> None:
    """Allow this process as many descriptors as 200 jobs and their readers need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < DESCRIPTORS_OWN:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS_OWN, hard), hard))


def _find(program: str, path: str) -> str:
    """Return the path of a program, as execvp(3) finds it; NotStarted when there is none."""
    if "/" in program:
        return program
    found = 127
    for folder in path.split(":"):
        candidate = os.path.join(folder or ".", program)
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
        found = 126 if os.path.exists(candidate) else found
    raise NotStarted(f"{program}: {'Permission denied' if found == 126 else 'not found'}", found)
