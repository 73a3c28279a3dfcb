"""The `ssh` in the background that holds one connection: start it, watch it, end it."""

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
from codesmith.ssh.openssh import pins, problems
from codesmith.ssh.openssh.askpass import AskPass
from codesmith.ssh.openssh.command import ALIVE_COUNT, ALIVE_S, SshCommand
from codesmith.ssh.openssh.log import Log
from codesmith.ssh.openssh.master_folder import MasterFolder
from codesmith.ssh.openssh.mux import Control, MuxTransport
from codesmith.ssh.target import Target

CONTROL_S = 5.0
TERMINATE_S = 2.0
# The log of a killed ssh ends at once, unless another process shares its standard error.
LOG_ENDS_WITHIN_S = 1.0
UNANSWERED = "not responding"


class HostKeyRefused(Exception):
    """ssh refused the host key of a hop."""


class Master:
    """An ssh master that has logged in; the transport of `open` runs channels through it."""

    def __init__(self, hops: Sequence[Target], given: Mapping[SecretRequest, str], deadline: Deadline) -> None:
        self._folder = MasterFolder()
        self._log = Log(self._folder.path / "log")
        self._is_ended = False
        try:
            self._log_in(hops, given, deadline)
            with Control(str(self._folder.control), CONTROL_S) as control:
                self._pid = control.pid()
        except BaseException:
            self._log.close_writer()
            self._folder.remove()
            raise

    def open(self, timeout_s: float) -> MuxTransport:
        """Return a transport for channels through the master."""
        transport = MuxTransport(Control(str(self._folder.control), timeout_s).proxy())
        transport.start_client(timeout=timeout_s)
        return transport

    def on_end(self, tell: Callable[[str], None]) -> None:
        """Call `tell` with the reason when the master ends by itself."""
        self._log.on_end = lambda: None if self._is_ended else tell(self._reason())

    def wait_for_log(self) -> None:
        """Wait, for at most LOG_ENDS_WITHIN_S, until the log of an ssh that ends is read to its end."""
        self._log.join(LOG_ENDS_WITHIN_S)

    def end(self) -> None:
        """End the master and remove its folder; return once it has ended."""
        self._is_ended = True
        try:
            with Control(str(self._folder.control), TERMINATE_S) as control:
                control.terminate()
        except (ConnectionError, FileNotFoundError, EOFError):
            pass  # it has ended already
        except OSError:  # it hangs, so the process id is still its own
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        self.wait_for_log()
        self._folder.remove()

    def _log_in(self, hops: Sequence[Target], given: Mapping[SecretRequest, str], deadline: Deadline) -> None:
        known_hosts = pin(self._folder, hops)
        with AskPass(self._folder, hops, given) as askpass:
            command = SshCommand(hops, known_hosts, askpass.programs, self._log.path, deadline)
            status = run(command.master(self._folder.control), self._log, askpass, deadline)
            if status == 0:
                return
            self.wait_for_log()
            lines = self._log.lines()
            if problems.is_host_key(lines):
                raise HostKeyRefused
            raise problems.explain(hops, lines, askpass, deadline.timeout_s)

    def _reason(self) -> str:
        if any(UNANSWERED in line for line in problems.user_messages(self._log.lines())[-3:]):
            return f"no answer within {ALIVE_S * ALIVE_COUNT} s"
        return "closed by the node"


def hops_to(target: Target) -> list[Target]:
    """Return the target, then its gateways, the nearest to the target first."""
    hops = [target]
    while gateway := gateway_of(hops[-1]):
        hops.append(gateway)
    return hops


def pin(folder: MasterFolder, hops: Sequence[Target]) -> list[Path]:
    """Write a known_hosts file with the pins of each hop; return the paths. HostKeyUnknown if a file cannot be read."""
    for hop in hops:
        hostkeys.pins_for(hop)
    return [folder.write(f"known_hosts.{number}", pins.known_hosts(hop)) for number, hop in enumerate(hops)]


def run(command: Sequence[str], log: Log, askpass: AskPass, deadline: Deadline) -> int:
    """Run an ssh and return its exit status; TimeoutError, with the process killed, after the deadline."""
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
    """Kill ssh and what it started: gateways, a ProxyCommand, an askpass program."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
