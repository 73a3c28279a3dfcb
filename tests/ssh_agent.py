"""A real ssh agent on this machine, with one key in it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 20.0


class SshAgent:
    """An agent that can be halted, to look at who waits for it, and ended."""

    def __init__(self, process: subprocess.Popen[bytes], path: Path) -> None:
        self._process, self.path = process, path

    def add(self, key: str) -> None:
        """Give it a private key, which then is in no file."""
        subprocess.run(["ssh-add", "-q", "-"], input=key.encode(), env=self.environment, check=True)

    def listed(self) -> str:
        """Return the fingerprints of its keys."""
        return subprocess.run(["ssh-add", "-l"], env=self.environment, capture_output=True, text=True).stdout

    def halt(self) -> None:
        """Let it take requests and answer none."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    @property
    def environment(self) -> dict[str, str]:
        """What its clients need."""
        return {**os.environ, "SSH_AUTH_SOCK": str(self.path)}


@contextmanager
def running_agent() -> Iterator[SshAgent]:
    """Run an agent."""
    with tempfile.TemporaryDirectory(prefix="cs-") as folder:
        path = Path(folder, "agent")
        process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
        agent = SshAgent(process, path)
        try:
            deadline = time.monotonic() + START_S
            # Status 2: no connection. The socket's file is there a moment before the agent listens.
            while subprocess.run(["ssh-add", "-l"], env=agent.environment, capture_output=True).returncode == 2:
                assert time.monotonic() < deadline, "ssh-agent did not start"
            yield agent
        finally:
            agent.end()
