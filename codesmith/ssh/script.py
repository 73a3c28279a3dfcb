"""Run a POSIX script with input on a node in one exec channel; return its output and status.

The login shell gets one constant, single-quoted command that sh, bash, zsh, fish and tcsh read alike. The script comes
as base64 on standard input. Random markers enclose its output; its status is data between them. So the dialect of a
login shell, its rc files, a MOTD, `set -C`, an odd umask or locale do not matter.
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
from codesmith.ssh.connect_errors import SSHD_LOG_HINT
from codesmith.ssh.exec_channel import ExecChannel
from codesmith.ssh.sudo import Sudo
from codesmith.ssh.target import target_of
from codesmith.ssh.transport import printable

if TYPE_CHECKING:
    from codesmith.ssh.connection import Connection

# READER has no single quote, backslash, exclamation mark or line break, so every login shell reads COMMAND alike.
# `read` takes its line byte by byte and leaves the rest of standard input to the script. An rc file that reads lines
# gets the empty lines of GAP.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
READ = 's=; while [ -z "$s" ]; do IFS= read -r s || exit 1; done'
GAP = b"\n" * 16
READER = f'PATH={PATH}; export PATH; {READ}; eval "$(printf %s "$s" | base64 -d)"'
COMMAND = f"/bin/sh -c '{READER}'"
# Far longer than any line of CodeSmith. A node that never ends a line would fill this machine's memory.
LINE_MAX_BYTES = 4 << 20
# sshd prints this instead of running a command.
EXPIRED = ("Password change required", "password has expired")
# The exit status of sshd's own process for a session that it does not open.
NO_SESSION = 254
# paramiko's message if sshd cannot start a session's command.
CLOSED_AT_ONCE = "Channel closed."
# How much of a script CODESMITH_DEBUG=ssh shows.
SHOWN_MAX = 60

# The outer script sets a known environment, becomes root if asked to, and prints the markers. The process that runs the
# script prints the first marker, as root if that was asked for, so sudo's messages come before it. READER uses up $s.
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
    """The output of a node is not what the script frame prints: something else ran."""


@dataclass(frozen=True)
class ScriptResult:
    """A script's exit status and output."""

    status: int
    stdout: bytes
    stderr: str


def run_script(
    connection: Connection,
    script: str,
    payload: bytes = b"",
    *,
    root: bool = False,
    timeout_s: float = 60.0,
    on_line: Callable[[bytes], None] | None = None,
    silence_s: float | None = None,
) -> ScriptResult:
    """Run a POSIX script on the node in one exec channel, `payload` on its standard input.

    The script's environment has only PATH, LC_ALL, HOME and LOGIN (who logged in, also under sudo). A status other
    than 0 is not an error here. `on_line` gets each line of standard output as it arrives.

    With `silence_s` the script may run for ever. It counts as lost if it prints nothing for that long; its input ends
    when this process does; only `on_line` gets its output.

    ScriptTimeout after `timeout_s`, Unreachable if the connection is lost, ScriptGarbled or AuthenticationFailed if the
    node runs something else; SecretNeeded or SecretRefused if sudo needs a password.
    """
    run = _Run(connection, script, payload, silence_s or timeout_s, on_line, is_endless=silence_s is not None)
    if not root:
        return run.once(None)
    request = sudo.password_request(connection, name_of(connection))

    def attempt(given: Mapping[SecretRequest, str]) -> ScriptResult:
        return run.once(Sudo(given.get(request, "")))

    known: Secrets = getattr(connection, "secrets", SHARED)
    return known.supply(attempt)


@dataclass(frozen=True)
class _Run:
    """A script, its input and where to run it, for each attempt."""

    connection: Any
    script: str
    payload: bytes
    timeout_s: float
    on_line: Callable[[bytes], None] | None
    is_endless: bool

    def once(self, root: Sudo | None) -> ScriptResult:
        """Run it once, as root if `root` is given."""
        target = target_of(self.connection)
        first_line = self.script.strip().partition("\n")[0][:SHOWN_MAX]
        what = f"{target} script {'as root ' if root else ''}{first_line!r}, {len(self.payload)} bytes of input"
        with debug.shown("ssh", what) as details:
            result = self._once(root)
            details.append(f"status {result.status}, {len(result.stdout)} bytes")
        return result

    def _once(self, root: Sudo | None) -> ScriptResult:
        marker = secrets.token_hex(16)
        with _lost_is_unreachable(self.connection, self.timeout_s):
            feed = _line_reader(marker, self.on_line)
            with ExecChannel(self.connection.transport, COMMAND, self.timeout_s, feed) as channel:
                self._send(channel, marker, root)
                if b"\n%b " % marker.encode() not in channel.stdout and not channel.has_status():
                    raise EOFError("it ended before the script did")
                output = _Output(bytes(channel.stdout), bytes(channel.stderr), channel.status)
        return _parse(self.connection, marker, output, root)

    def _send(self, channel: ExecChannel, marker: str, root: Sudo | None) -> None:
        """Send frame, password, script and input, each once the step before it succeeded; read the output."""
        frame, rest = GAP + _encode(_frame(marker, root)), _encode(self.script) + self.payload
        if root and root.password:
            name = name_of(self.connection)
            sudo.check_password(root.password, name)
            channel.send(frame)
            try:
                is_root = root.authenticate(channel, marker.encode())
            except TimeoutError:
                output = channel.stderr.decode(errors="replace").rpartition(f"{marker}\n")[2]
                raise sudo.unexpected_question(self.connection, name, root, output) from None
            frame, rest = b"", rest if is_root else b""
        channel.send(frame + rest)
        if self.is_endless:
            channel.follow(marker.encode() + b"\n", self.timeout_s)
        else:
            channel.end_input()
            channel.read_to_end()


def _frame(marker: str, root: Sudo | None) -> str:
    return FRAME % {
        "path": PATH,
        "home": "/root" if root else '"$HOME"',
        "begin": BEGIN % {"marker": marker},
        "reader": READER,
        "root": AS_ROOT % {"sudo": root.command} if root else "",
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
                if not begun:  # the login shell may print before the marker, also on its line
                    begun = line.endswith(mark)
                elif not line.startswith(mark):
                    on_line(line)
        if len(buffer) > LINE_MAX_BYTES:
            raise EOFError(f"it printed a line of more than {LINE_MAX_BYTES >> 20} MiB")

    return feed


@dataclass(frozen=True)
class _Output:
    """Everything that the login shell printed, and its exit status."""

    stdout: bytes
    stderr: bytes
    status: int


def _parse(connection: Any, marker: str, output: _Output, root: Sudo | None) -> ScriptResult:
    mark = marker.encode()
    body, end, tail = output.stdout.rpartition(b"\n" + mark + b" ")
    stderr = _last_part(output.stderr, b"\n" + mark + b"\n").decode(errors="replace").strip()
    status = tail.split(b"\n", 1)[0]
    if not end or not status.isdigit():
        raise _garbled(connection, output)
    _, begun, stdout = body.rpartition(mark + b"\n")
    if not begun and root:
        raise sudo.refusal(connection, name_of(connection), root, stderr)
    if not begun:
        raise _garbled(connection, output)
    return ScriptResult(int(status), stdout, stderr)


def _last_part(text: bytes, mark: bytes) -> bytes:
    """Return the text between the last two marks: before them login shell and sudo print, after them a logout file."""
    parts = text.split(mark)
    return parts[-2] if len(parts) > 2 else text


def _garbled(connection: Any, output: _Output) -> CodeSmithError:
    """Return the error for a session that ran something else than the script, or nothing."""
    target = target_of(connection)
    text = printable(f"{output.stdout.decode(errors='replace')}\n{output.stderr.decode(errors='replace')}") or "nothing"
    if any(phrase in text for phrase in EXPIRED):
        problem = f"node {target.name}: the password of {target.user} has expired, nothing runs before it is changed"
        return AuthenticationFailed(f"{problem}; it said: {text}", hint=target.ssh_line("ssh -t"))
    if output.status == NO_SESSION:
        problem = f"node {target.name}: its sshd opens no session for {target.user} (a rule of PAM, or /etc/nologin)"
        return AuthenticationFailed(f"{problem}; it said: {text}", hint=SSHD_LOG_HINT)
    problem = (
        f"node {target.name}: its login shell did not run the script; it said: {text}, and ended with status "
        f"{output.status} (or a ForceCommand in sshd_config, or command= in authorized_keys, ran instead)"
    )
    return ScriptGarbled(problem, hint=target.ssh_line("ssh", "echo works"))


def name_of(connection: Any) -> str:
    """Return the name of the node that this connection leads to."""
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
            raise Unreachable(problem, hint=SSHD_LOG_HINT) from error
        why = getattr(connection, "why_lost", "") or str(error) or type(error).__name__
        problem = f"node {name_of(connection)}: the connection was lost: {why}"
        raise Unreachable(problem, hint=f"inv node.status --node {name_of(connection)}") from error
