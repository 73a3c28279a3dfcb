"""One `ssh` in the background that holds the connection: started, watched, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from codesmith.secrets import SecretRequest
from codesmith.ssh import hostkeys
from codesmith.ssh.deadline import Deadline
from codesmith.ssh.gateway import gateway_of
from codesmith.ssh.openssh import options, pins, problems
from codesmith.ssh.openssh.askpass import AskPass
from codesmith.ssh.openssh.folder import Folder
from codesmith.ssh.openssh.log import Log
from codesmith.ssh.openssh.mux import Control, MuxTransport
from codesmith.ssh.target import Target

CONTROL_S = 5.0
TERMINATE_S = 2.0
# The end of what a killed ssh has said comes at once, unless somebody else has its standard error.
LAST_WORDS_S = 1.0
UNANSWERED = "not responding"


class HostKeyRefused(Exception):
    """ssh refused the host key of some place on the way."""


class Master:
    """An ssh master, logged in."""

    def __init__(self, places: Sequence[Target], given: Mapping[SecretRequest, str], deadline: Deadline) -> None:
        self._folder = Folder()
        self._log = Log(self._folder.path / "log")
        self._is_ended = False
        try:
            self._log_in(places, given, deadline)
            with Control(str(self._folder.control), CONTROL_S) as control:
                self._pid = control.pid()
        except BaseException:
            self._log.close_writer()
            self._folder.remove()
            raise

    def open(self, timeout_s: float) -> MuxTransport:
        """Return a transport for channels through it."""
        transport = MuxTransport(Control(str(self._folder.control), timeout_s).proxy())
        transport.start_client(timeout=timeout_s)
        return transport

    def on_end(self, tell: Callable[[str], None]) -> None:
        """Have `tell` called with the reason when it ends by itself."""
        self._log.on_end = lambda: None if self._is_ended else tell(self._why())

    def end(self) -> None:
        """End it, and return when it has gone."""
        self._is_ended = True
        try:
            with Control(str(self._folder.control), TERMINATE_S) as control:
                control.terminate()
        except (ConnectionError, FileNotFoundError, EOFError):
            pass  # it has gone already
        except OSError:  # it hangs; so it is there, and the process id still its own
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        self._log.join(LAST_WORDS_S)
        self._folder.remove()

    def _log_in(self, places: Sequence[Target], given: Mapping[SecretRequest, str], deadline: Deadline) -> None:
        known_hosts = pin(self._folder, places)
        with AskPass(self._folder, places, given) as askpass:
            way = options.Way(places, known_hosts, askpass.programs, self._log.path, deadline)
            status = run(way.master(self._folder.control), self._log, askpass, deadline)
            if status == 0:
                return
            self._log.join(LAST_WORDS_S)
            lines = self._log.lines()
            if problems.is_host_key(lines):
                raise HostKeyRefused
            raise problems.explain(places, lines, askpass, deadline.timeout_s)

    def _why(self) -> str:
        if any(UNANSWERED in line for line in problems.spoken(self._log.lines())[-3:]):
            return f"no answer within {options.ALIVE_S * options.ALIVE_COUNT} s"
        return "closed by the node"


def places_on_the_way(target: Target) -> list[Target]:
    """Return the target, the gateway before it, the one before that, and so on."""
    places = [target]
    while gateway := gateway_of(places[-1]):
        places.append(gateway)
    return places


def pin(folder: Folder, places: Sequence[Target]) -> list[Path]:
    """Write the host keys that are pinned for each place; HostKeyUnknown where a file cannot be read."""
    for place in places:
        hostkeys.pins(place)
    return [folder.write(f"known_hosts.{number}", pins.known_hosts(place)) for number, place in enumerate(places)]


def run(command: Sequence[str], log: Log, askpass: AskPass, deadline: Deadline) -> int:
    """Return the status of an ssh; TimeoutError, and no process, when it is late."""
    environment = {**os.environ, **askpass.environment}
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log.writer, env=environment,
            start_new_session=True,
        )  # fmt: skip
    finally:
        log.close_writer()
    askpass.stop = partial(_kill, process)
    with _killed_unless_done(process):
        try:
            return process.wait(deadline.left_s())
        except subprocess.TimeoutExpired:
            raise TimeoutError from None


@contextlib.contextmanager
def _killed_unless_done(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        _kill(process)
        process.wait()
        raise


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End ssh with what it started: gateways, a ProxyCommand, a question."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
