"""One round trip to a node: a POSIX script and its input go in, its output and status come back.

The login shell sees one constant, single-quoted command that reads alike in sh, bash, zsh, fish and tcsh. The script
travels as base64 on standard input; its output stands between random markers, its status is data between them. So a
login shell's dialect, its rc files, a MOTD, `set -C`, an odd umask or locale do not matter.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import paramiko

from codesmith import debug
from codesmith.errors import AuthenticationFailed, CodeSmithError, Unreachable
from codesmith.secrets import SHARED, SecretRequest, Secrets
from codesmith.ssh import sudo
from codesmith.ssh.endings import LOG
from codesmith.ssh.exec_channel import Exchange
from codesmith.ssh.sudo import Sudo
from codesmith.ssh.target import target_of
from codesmith.ssh.transport import shown

if TYPE_CHECKING:
    from codesmith.ssh.carrier import Carrier

# Hold no quote, backslash, exclamation mark or line break inside the quotes: the same to every login shell. `read`
# takes its line byte by byte, so what follows on standard input is left to the script. An rc file that reads a line or
# some gets those of GAP, which mean nothing.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
READ = 's=; while [ -z "$s" ]; do IFS= read -r s || exit 1; done'
GAP = b"\n" * 16
READER = f'PATH={PATH}; export PATH; {READ}; eval "$(printf %s "$s" | base64 -d)"'
COMMAND = f"/bin/sh -c '{READER}'"
# Far more than a line of ours has: a node that never ends one would fill this machine's memory.
LINE_MAX = 4 << 20
# What sshd says instead of running a command.
EXPIRED = ("Password change required", "password has expired")
# The status of sshd's own process for a session that it does not open.
NO_SESSION = 254
# What paramiko says when sshd cannot start a session's command.
CLOSED_AT_ONCE = "Channel closed."
# As much of a script stands in a line of CODESMITH_DEBUG=ssh.
SHOWN_MAX = 60

# The outer script: a known environment, root if asked for, and the markers. The first marker is printed by who runs the
# script, as root if that was wanted: what sudo said stands before it. $s is used up by READER.
FRAME = """set +eufCvx
umask 022
LC_ALL=C
export LC_ALL
cd / || cd "$HOME"
login=$(id -un)
set -- env -i PATH=%(path)s LC_ALL=C.UTF-8 HOME=%(home)s LOGIN="$login" /bin/sh -c '%(begin)s; %(reader)s'
%(root)s
printf '\\n%%s\\n' %(marker)s >&2
"$@"
status=$?
printf '\\n%%s %%s\\n' %(marker)s "$status"
printf '\\n%%s\\n' %(marker)s >&2
exit 0
"""
BEGIN = "echo %(marker)s; { echo; echo %(marker)s; } >&2"
AS_ROOT = '[ "$(id -u)" = 0 ] || set -- %(sudo)s "$@"'


class ScriptTimeout(CodeSmithError):
    """A script on a node did not end in time."""


class ScriptGarbled(CodeSmithError):
    """What came back from a node is not what the script frame prints."""


@dataclass(frozen=True)
class ScriptResult:
    """What a script left: its exit status and what it wrote."""

    status: int
    stdout: bytes
    stderr: str


def run_script(
    connection: Carrier,
    script: str,
    payload: bytes = b"",
    *,
    root: bool = False,
    timeout_s: float = 60.0,
    on_line: Callable[[bytes], None] | None = None,
    silence_s: float | None = None,
) -> ScriptResult:
    """Run a POSIX script on the node in one exec channel, `payload` on its standard input.

    The script's environment holds PATH, LC_ALL, HOME and LOGIN (who logged in, also under sudo) only. A status other
    than 0 is not an error here. `on_line` gets each line of standard output as it arrives.

    With `silence_s` the script may run for ever: it is lost when it says nothing for so long, its input ends when we
    do, and only `on_line` gets what it prints.
    """
    job = _Job(connection, script, payload, silence_s or timeout_s, on_line, is_endless=silence_s is not None)
    if not root:
        return job.run(None)
    asked = sudo.wanted(connection, name_of(connection))

    def attempt(given: Mapping[SecretRequest, str]) -> ScriptResult:
        return job.run(Sudo(given.get(asked, "")))

    known: Secrets = getattr(connection, "secrets", SHARED)
    return known.supply(attempt)


@dataclass(frozen=True)
class _Job:
    """What is to run where, for each attempt to run it."""

    connection: Any
    script: str
    payload: bytes
    timeout_s: float
    on_line: Callable[[bytes], None] | None
    is_endless: bool

    def run(self, root: Sudo | None) -> ScriptResult:
        """Run it once, as root if a way to become root is given."""
        target = target_of(self.connection)
        words = self.script.strip().partition("\n")[0][:SHOWN_MAX]
        what = f"{target} script {'as root ' if root else ''}{words!r}, {len(self.payload)} bytes of input"
        with debug.shown("ssh", what) as told:
            done = self._run(root)
            told.append(f"status {done.status}, {len(done.stdout)} bytes")
        return done

    def _run(self, root: Sudo | None) -> ScriptResult:
        marker = secrets.token_hex(16)
        with _lost_is_unreachable(self.connection, self.timeout_s):
            feed = _line_reader(marker, self.on_line)
            with Exchange(self.connection.transport, COMMAND, self.timeout_s, feed) as exchange:
                self._talk(exchange, marker, root)
                if b"\n%b " % marker.encode() not in exchange.stdout and not exchange.has_status():
                    raise EOFError("it ended before the script did")
                said = _Said(bytes(exchange.stdout), bytes(exchange.stderr), exchange.status)
        return _parse(self.connection, marker, said, root)

    def _talk(self, exchange: Exchange, marker: str, root: Sudo | None) -> None:
        frame, rest = GAP + _encode(_frame(marker, root)), _encode(self.script) + self.payload
        if root and root.password:
            name = name_of(self.connection)
            sudo.check(root.password, name)
            exchange.send(frame)
            try:
                is_root = root.enter(exchange, marker.encode())
            except TimeoutError:
                said = exchange.stderr.decode(errors="replace").rpartition(f"{marker}\n")[2]
                raise sudo.silence(self.connection, name, root, said) from None
            frame, rest = b"", rest if is_root else b""
        exchange.send(frame + rest)
        if self.is_endless:
            exchange.hear(marker.encode() + b"\n", self.timeout_s)
        else:
            exchange.end_input()
            exchange.read_to_end()


def _frame(marker: str, root: Sudo | None) -> str:
    return FRAME % {
        "path": PATH,
        "home": "/root" if root else '"$HOME"',
        "begin": BEGIN % {"marker": marker},
        "reader": READER,
        "root": AS_ROOT % {"sudo": root.words} if root else "",
        "marker": marker,
    }


def _encode(script: str) -> bytes:
    return base64.b64encode(script.encode()) + b"\n"


def _line_reader(marker: str, on_line: Callable[[bytes], None] | None) -> Callable[[bytes], None]:
    mark, buffer = marker.encode(), bytearray()
    begun = False

    def feed(chunk: bytes) -> None:
        nonlocal begun
        if on_line is None:
            return
        buffer.extend(chunk)
        if b"\n" in chunk:
            *lines, rest = bytes(buffer).split(b"\n")
            buffer[:] = rest
            for line in lines:
                if not begun:  # noise of the login shell may stand before it, also on its line
                    begun = line.endswith(mark)
                elif not line.startswith(mark):
                    on_line(line)
        if len(buffer) > LINE_MAX:
            raise EOFError(f"it printed a line of more than {LINE_MAX >> 20} MiB")

    return feed


@dataclass(frozen=True)
class _Said:
    """All that the login shell printed, and how it ended."""

    stdout: bytes
    stderr: bytes
    status: int


def _parse(connection: Any, marker: str, said: _Said, root: Sudo | None) -> ScriptResult:
    mark = marker.encode()
    body, found, tail = said.stdout.rpartition(b"\n" + mark + b" ")
    errors = _last_part(said.stderr, b"\n" + mark + b"\n").decode(errors="replace").strip()
    status = tail.split(b"\n", 1)[0]
    if not found or not status.isdigit():
        raise _garbled(connection, said)
    _, begun, output = body.rpartition(mark + b"\n")
    if not begun and root:
        raise sudo.refusal(connection, name_of(connection), root, errors)
    if not begun:
        raise _garbled(connection, said)
    return ScriptResult(int(status), output, errors)


def _last_part(text: bytes, mark: bytes) -> bytes:
    """Return what stands between the last two marks: before them login shell and sudo spoke, after them a logout."""
    parts = text.split(mark)
    return parts[-2] if len(parts) > 2 else text


def _garbled(connection: Any, said: _Said) -> CodeSmithError:
    """Return the error for a session that runs something else than the script, or nothing."""
    target = target_of(connection)
    words = shown(f"{said.stdout.decode(errors='replace')}\n{said.stderr.decode(errors='replace')}") or "nothing"
    if any(sign in words for sign in EXPIRED):
        problem = f"node {target.name}: the password of {target.user} has expired, nothing runs before it is changed"
        return AuthenticationFailed(f"{problem}; it said: {words}", hint=target.ssh_line("ssh -t"))
    if said.status == NO_SESSION:
        problem = f"node {target.name}: its sshd opens no session for {target.user} (a rule of PAM, or /etc/nologin)"
        return AuthenticationFailed(f"{problem}; it said: {words}", hint=LOG)
    problem = (
        f"node {target.name}: its login shell did not run the script; it said: {words}, and ended with status "
        f"{said.status} (or a ForceCommand in sshd_config, or command= in authorized_keys, ran instead)"
    )
    return ScriptGarbled(problem, hint=target.ssh_line("ssh", "echo works"))


def name_of(connection: Any) -> str:
    """Return how people call what this connection leads to."""
    return target_of(connection).name


@contextlib.contextmanager
def _lost_is_unreachable(connection: Any, timeout_s: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        problem = f"node {name_of(connection)}: the script did not end within {timeout_s:.0f} s"
        raise ScriptTimeout(problem, hint=f"inv node.logs --node {name_of(connection)}") from error
    except paramiko.ChannelException as error:
        problem = (
            f"node {name_of(connection)}: its sshd gives no session (MaxSessions in its sshd_config): {error.text}"
        )
        raise Unreachable(problem, hint="on the node, as root: sshd -T | grep -i maxsessions") from error
    except (OSError, EOFError, paramiko.SSHException) as error:
        if str(error) == CLOSED_AT_ONCE and connection.transport.is_active():
            problem = (
                f"node {name_of(connection)}: its sshd starts no session: its log says why (a limit of processes?)"
            )
            raise Unreachable(problem, hint=LOG) from error
        why = getattr(connection, "why_lost", "") or str(error) or type(error).__name__
        problem = f"node {name_of(connection)}: the connection was lost: {why}"
        raise Unreachable(problem, hint=f"inv node.status --node {name_of(connection)}") from error
