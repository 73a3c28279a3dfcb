"""Runs one git command: fixed settings, an empty home, a time limit, and an end before the disk is full."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from typing import Any, Dict, NamedTuple, Optional, Tuple

from agent.git.errors import STDERR_MAX
from agent.git.way_out import WayOut
from agent.shared import free_space
from agent.shared.paths import JOB_MARK, JOB_PATH

OUTPUT_BYTES_MAX = CHUNK_BYTES = 65536
# No hooks, no submodules, no file system monitor, no credential helper that would store a credential.
SETTINGS = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.askPass=", "credential.helper=",
    "submodule.recurse=false", "gc.auto=0", "maintenance.auto=false", "advice.detachedHead=false",
)  # fmt: skip
COMMANDS = ("checkout", "clone", "fetch", "init", "merge", "push")


class GitFailed(Exception):
    """git ended with another exit code than 0."""

    def __init__(self, command: str, exit_code: int, stderr: str) -> None:
        super().__init__(command)
        self.command, self.exit_code, self.stderr = command, exit_code, stderr


class DiskShort(Exception):
    """git was ended because it would have filled the disk."""


class GitSetup(NamedTuple):
    """How git reaches a URL: its own settings, its ssh command, the path of the private key if given, the proxy.

    With `home` it runs as the login would run it: with the login's settings and hooks, and without ours.
    """

    settings: Tuple[str, ...] = ()
    ssh: str = ""
    key: str = ""
    home: str = ""
    way_out: Optional[WayOut] = None


NO_SETUP = GitSetup()


def git(
    *words: str,
    setup: GitSetup = NO_SETUP,
    timeout_s: Optional[float] = None,
    quiet_codes: Any = (),
    is_watched: bool = False,
) -> str:
    """Run git and return its standard output; GitFailed unless it exits with 0 or one of `quiet_codes`.

    Without the login's home, no setting of the login applies. With `is_watched` it ends with DiskShort before it fills
    the disk. TimeoutError after `timeout_s`.
    """
    environment = {
        "PATH": JOB_PATH,
        "HOME": setup.home or "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_LFS_SKIP_SMUDGE": "1",
        **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy") or name == JOB_MARK},
        **(setup.way_out.variables if setup.way_out else {}),
        # Without a URL to reach, no protocol: a repository can be configured to fetch what it misses.
        **({} if setup.home else {"GIT_ALLOW_PROTOCOL": "https:ssh" if setup.ssh else ""}),
        **({"GIT_SSH_COMMAND": setup.ssh} if setup.ssh else {}),
    }
    settings = setup.settings if setup.home else (*SETTINGS, *setup.settings)
    flags = [part for one in settings for part in ("-c", one)]
    with subprocess.Popen(
        ["git", *flags, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment, start_new_session=True,
    ) as child:  # fmt: skip
        output, errors = _communicate(child, timeout_s, is_watched)
    if child.returncode and child.returncode not in quiet_codes:
        command = next((word for word in words if word in COMMANDS), words[-1])
        raise GitFailed(f"git {command}", child.returncode, errors.decode("utf-8", "replace")[-STDERR_MAX:])
    return output.decode("utf-8", "replace").strip()


def _communicate(child: subprocess.Popen[bytes], timeout_s: Optional[float], is_watched: bool) -> Tuple[bytes, bytes]:
    """Return the last part of both outputs of a process; kill it and its children at a limit.

    The server decides how long the output is, so only its end is kept in memory.
    """
    deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
    kept: Dict[Any, bytearray] = {child.stdout: bytearray(), child.stderr: bytearray()}
    try:
        with selectors.DefaultSelector() as selector:
            for file in kept:
                selector.register(file, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select(free_space.WATCH_S):
                    data = os.read(key.fd, CHUNK_BYTES)
                    if not data:
                        selector.unregister(key.fileobj)
                    kept[key.fileobj] += data
                    del kept[key.fileobj][:-OUTPUT_BYTES_MAX]
                _check_limits(deadline, is_watched)
        child.wait()
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        raise
    return bytes(kept[child.stdout]), bytes(kept[child.stderr])


def _check_limits(deadline: float, is_watched: bool) -> None:
    """Raise DiskShort or TimeoutError when a limit is reached."""
    if is_watched and free_space.is_short("."):
        raise DiskShort
    if time.monotonic() > deadline:
        raise TimeoutError
