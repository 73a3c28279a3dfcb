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
from codesmith.ssh.carrier import OPENSSH
from codesmith.ssh.connection import persist
from codesmith.ssh.deadline import Deadline
from codesmith.ssh.hostkeys import HostKey
from codesmith.ssh.identities import ensure_usable_by_openssh
from codesmith.ssh.openssh import master, options, problems
from codesmith.ssh.openssh.askpass import AskPass
from codesmith.ssh.openssh.folder import Folder
from codesmith.ssh.openssh.log import Log
from codesmith.ssh.openssh.master import HostKeyRefused, Master
from codesmith.ssh.target import Target

PROXY_S = 5.0


class OpenSshConnection:
    """An open connection through an ssh master; see `carrier.Carrier`."""

    carrier = OPENSSH

    def __init__(self, target: Target, opened: Master) -> None:
        self.target, self.secrets = target, SHARED
        self._master, self.why_lost = opened, ""
        self._tell: Callable[[str], None] = lambda _: None
        self.transport = opened.open(PROXY_S)
        opened.on_end(self._lose)

    def __enter__(self) -> OpenSshConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def on_lost(self, tell: Callable[[str], None]) -> None:
        """Have `tell` called with the reason when the connection is given up."""
        self._tell = tell
        if self.why_lost:
            tell(self.why_lost)

    def close(self) -> None:
        """End the connection, and the ssh that holds it."""
        self._tell = lambda _: None
        self.transport.close()
        self._master.end()

    def _lose(self, why: str) -> None:
        self.why_lost = why
        self.transport.close()
        self._tell(why)


def is_installed() -> bool:
    """Return whether there is an ssh to use."""
    return shutil.which("ssh") is not None


def connect(target: Target, *, timeout_s: float = 10.0, secrets: Secrets = SHARED) -> OpenSshConnection:
    """Return an open connection to `target`, as `remote.connection.connect` does."""
    connection = secrets.supply(lambda given: attempt(target, timeout_s, given))
    connection.secrets = secrets
    return connection


def attempt(target: Target, timeout_s: float, given: Mapping[SecretRequest, str]) -> OpenSshConnection:
    """Connect once, with the secrets that are `given`; SecretNeeded names one that is wanted."""
    if not is_installed():
        raise CodeSmithError(f"node {target}: there is no `ssh` on this machine", hint="apt-get install openssh-client")
    ensure_usable_by_openssh(target)
    with debug.shown("ssh", f"{target} connect by OpenSSH"):
        places = master.places_on_the_way(target)
        try:
            return persist(lambda _, deadline: _connect(places, given, deadline), target, Deadline(timeout_s))
        except HostKeyRefused:
            raise _refused_host_key(places, timeout_s) from None


def _connect(places: Sequence[Target], given: Mapping[SecretRequest, str], deadline: Deadline) -> OpenSshConnection:
    with connect_errors.translated(places[0], deadline.timeout_s):
        opened = Master(places, given, deadline)
        try:
            return OpenSshConnection(places[0], opened)
        except BaseException:
            opened.end()
            raise


def fetch_host_key(target: Target, *, timeout_s: float = 10.0) -> HostKey:
    """Return the host key that `target` shows now; no login is tried. Gateways have to be trusted."""
    places = master.places_on_the_way(target)
    return SHARED.supply(lambda given: _fetch(places, given, Deadline(timeout_s)))


def _fetch(places: Sequence[Target], given: Mapping[SecretRequest, str], deadline: Deadline) -> HostKey:
    folder = Folder()
    try:
        known = master.pin(folder, places)
        known[0].write_text("")
        log = Log(folder.path / "log")
        with AskPass(folder, places, given) as askpass, connect_errors.translated(places[0], deadline.timeout_s):
            way = options.Way(places, known, askpass.programs, log.path, deadline)
            master.run(way.host_key(), log, askpass, deadline)
            log.join(master.LAST_WORDS_S)
            key = _key_in(known[0].read_text())
            if key is None:
                raise problems.explain(places, log.lines(), askpass, deadline.timeout_s)
            return key
    finally:
        folder.remove()


def _key_in(text: str) -> HostKey | None:
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 3:
            return HostKey(fields[1], base64.b64decode(fields[2]))
    return None


def _refused_host_key(places: Sequence[Target], timeout_s: float) -> CodeSmithError:
    """Return the error about the place whose key is not the pinned one, the first on the way."""
    for place in reversed(places):
        try:
            hostkeys.verify(place, fetch_host_key(place, timeout_s=timeout_s), hostkeys.pins(place))
        except CodeSmithError as error:
            return error
    return CodeSmithError(f"node {places[0].name}: ssh refused its host key", hint=places[0].ssh_line("ssh -v", "true"))
