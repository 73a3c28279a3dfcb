"""The second carrier: a connection that the operator's own `ssh` holds, with the errors and channels of the first."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from codesmith import debug
from codesmith.errors import CodeSmithError
from codesmith.secrets import SHARED, SecretRequest, Secrets
from codesmith.ssh import connect_errors, hostkeys
from codesmith.ssh.authentication import ensure_usable_by_openssh
from codesmith.ssh.connection import OPENSSH
from codesmith.ssh.deadline import Deadline
from codesmith.ssh.fabric_connection import retry_while_dropped
from codesmith.ssh.hostkeys import HostKey
from codesmith.ssh.openssh import master, problems
from codesmith.ssh.openssh.askpass import AskPass
from codesmith.ssh.openssh.command import SshCommand
from codesmith.ssh.openssh.log import Log
from codesmith.ssh.openssh.master import HostKeyRefused, Master
from codesmith.ssh.openssh.master_folder import MasterFolder
from codesmith.ssh.target import Target

PROXY_S = 5.0


class OpenSshConnection:
    """An open connection through an ssh master; see `ssh.connection.Connection`."""

    carrier = OPENSSH

    def __init__(self, target: Target, opened: Master) -> None:
        self.target, self.secrets = target, SHARED
        self._master, self._why_lost = opened, ""
        self._tell: Callable[[str], None] = lambda _: None
        self.transport = opened.open(PROXY_S)
        opened.on_end(self._lose)

    def __enter__(self) -> OpenSshConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def why_lost(self) -> str:
        """Why the connection was lost; "" while it is open, or after `close`."""
        if not self._why_lost and not self.transport.is_active():
            self._master.wait_for_log()  # channels may end a moment before the log gives the reason
        return self._why_lost

    def on_lost(self, tell: Callable[[str], None]) -> None:
        """Call `tell` with the reason when the connection is lost, at once if it is lost already."""
        self._tell = tell
        if self._why_lost:
            tell(self._why_lost)

    def close(self) -> None:
        """End the connection and the ssh that holds it."""
        self._tell = lambda _: None
        self.transport.close()
        self._master.end()

    def _lose(self, why: str) -> None:
        self._why_lost = why
        self.transport.close()
        self._tell(why)


def is_installed() -> bool:
    """Return whether this machine has an ssh program."""
    return shutil.which("ssh") is not None


def connect(target: Target, *, timeout_s: float = 10.0, secrets: Secrets = SHARED) -> OpenSshConnection:
    """Return an open connection to `target`; promises and errors as of `fabric_connection.connect`."""
    connection = secrets.supply(lambda given: attempt(target, timeout_s, given))
    connection.secrets = secrets
    return connection


def attempt(target: Target, timeout_s: float, given: Mapping[SecretRequest, str]) -> OpenSshConnection:
    """Connect once with the `given` secrets; SecretNeeded names the secret that is missing."""
    if not is_installed():
        raise CodeSmithError(f"node {target}: there is no `ssh` on this machine", hint="apt-get install openssh-client")
    ensure_usable_by_openssh(target)
    with debug.shown("ssh", f"{target} connect by OpenSSH"):
        hops = master.hops_to(target)
        try:
            return retry_while_dropped(lambda _, deadline: _connect(hops, given, deadline), target, Deadline(timeout_s))
        except HostKeyRefused:
            raise _host_key_error(hops, timeout_s) from None


def _connect(hops: Sequence[Target], given: Mapping[SecretRequest, str], deadline: Deadline) -> OpenSshConnection:
    with connect_errors.translate_errors(hops[0], deadline.timeout_s):
        opened = Master(hops, given, deadline)
        try:
            return OpenSshConnection(hops[0], opened)
        except BaseException:
            opened.end()
            raise


def fetch_host_key(target: Target, *, timeout_s: float = 10.0) -> HostKey:
    """Return the host key that `target` presents now; no login is tried. Its gateways must be trusted already."""
    hops = master.hops_to(target)
    return SHARED.supply(lambda given: _fetch(hops, given, Deadline(timeout_s)))


def _fetch(hops: Sequence[Target], given: Mapping[SecretRequest, str], deadline: Deadline) -> HostKey:
    folder = MasterFolder()
    try:
        known = master.pin(folder, hops)
        known[0].write_text("")
        log = Log(folder.path / "log")
        with AskPass(folder, hops, given) as askpass, connect_errors.translate_errors(hops[0], deadline.timeout_s):
            command = SshCommand(hops, known, askpass.programs, log.path, deadline)
            master.run(command.fetch_host_key(), log, askpass, deadline)
            log.join(master.LOG_ENDS_WITHIN_S)
            key = _key_in(known[0].read_text())
            if key is None:
                raise problems.explain(hops, log.lines(), askpass, deadline.timeout_s)
            return key
    finally:
        folder.remove()


def _key_in(text: str) -> HostKey | None:
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 3:
            return HostKey(fields[1], base64.b64decode(fields[2]))
    return None


def _host_key_error(hops: Sequence[Target], timeout_s: float) -> CodeSmithError:
    """Return the error about the first hop, from here, whose host key is not pinned."""
    for hop in reversed(hops):
        try:
            hostkeys.verify(hop, fetch_host_key(hop, timeout_s=timeout_s), hostkeys.pins_for(hop))
        except CodeSmithError as error:
            return error
    return CodeSmithError(f"node {hops[0].name}: ssh refused its host key", hint=hops[0].ssh_line("ssh -v", "true"))
