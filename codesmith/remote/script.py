"""One round trip to a node: a POSIX script and its input go in, its output and status come back.

The login shell sees one constant, single-quoted command that reads alike in sh, bash, zsh, fish and tcsh. The script
travels as base64 on standard input; its output stands between random markers, its status is data between them. So a
login shell's dialect, its rc files, a MOTD, `set -C`, an odd umask or locale do not matter.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import paramiko

from codesmith.errors import AuthenticationFailed, CodeSmithError, Unreachable

if TYPE_CHECKING:
    import fabric

# Holds no quote, backslash, exclamation mark or line break inside the quotes: the same to every login shell. `read`
# takes its line byte by byte, so what follows on standard input is left to the script.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
READER = f'PATH={PATH}; export PATH; IFS= read -r s; eval "$(printf %s "$s" | base64 -d)"'
COMMAND = f"/bin/sh -c '{READER}'"
CHUNK = 65536
STATUS_WITHIN_S = 2.0
# More than any script of ours prints; a node that prints on would otherwise fill this machine's memory.
OUTPUT_MAX = 16 << 20

# The outer script: a known environment, root if asked for, and the markers. $s is used up by READER.
FRAME = """set +eufCvx
umask 022
LC_ALL=C
export LC_ALL
cd / || cd "$HOME"
login=$(id -un)
set -- env -i PATH=%(path)s LC_ALL=C.UTF-8 HOME=%(home)s LOGIN="$login" /bin/sh -c '%(reader)s'
%(root)s
printf '\\n%%s\\n' %(marker)s >&2
"$@"
status=$?
printf '\\n%%s %%s\\n' %(marker)s "$status"
printf '\\n%%s\\n' %(marker)s >&2
exit 0
"""
AS_ROOT = '[ "$(id -u)" = 0 ] || set -- sudo -n -- "$@"'


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
    connection: fabric.Connection,
    script: str,
    payload: bytes = b"",
    *,
    root: bool = False,
    timeout_s: float = 60.0,
    on_line: Callable[[bytes], None] | None = None,
) -> ScriptResult:
    """Run a POSIX script on the node in one exec channel, `payload` on its standard input.

    The script's environment holds PATH, LC_ALL, HOME and LOGIN (who logged in, also under sudo) only. A status other
    than 0 is not an error here. `on_line` gets each line of standard output as it arrives.
    """
    marker = secrets.token_hex(16)
    data = _encode(_frame(marker, root)) + _encode(f"echo {marker}\n{script}") + payload
    stdout, stderr = _exchange(connection, data, marker.encode(), timeout_s, _line_reader(marker, on_line))
    return _parse(connection, marker, stdout, stderr, root)


def _frame(marker: str, root: bool) -> str:
    home = "/root" if root else '"$HOME"'
    return FRAME % {"path": PATH, "reader": READER, "root": AS_ROOT if root else "", "marker": marker, "home": home}


def _encode(script: str) -> bytes:
    return base64.b64encode(script.encode()) + b"\n"


def _exchange(
    connection: fabric.Connection, data: bytes, mark: bytes, timeout_s: float, feed: Callable[[bytes], None]
) -> tuple[bytes, bytes]:
    deadline = time.monotonic() + timeout_s
    with _lost_is_unreachable(connection, timeout_s):
        channel = connection.transport.open_session(timeout=timeout_s)
        try:
            channel.exec_command(COMMAND)
            found = _converse(channel, data, deadline, feed)
            # A shell that ends by itself has a status: without one it was killed, or the connection with it.
            if b"\n" + mark + b" " not in found[0] and not _has_status(channel):
                raise EOFError("it ended before the script did")
            return found
        finally:
            channel.close()


def _converse(
    channel: paramiko.Channel, data: bytes, deadline: float, feed: Callable[[bytes], None]
) -> tuple[bytes, bytes]:
    stdout, stderr = bytearray(), bytearray()
    channel.settimeout(max(deadline - time.monotonic(), 0.001))
    # The whole input fits sshd's window or the script reads it first: nothing has to be read meanwhile.
    try:
        channel.sendall(data)
        channel.shutdown_write()
    except OSError:
        if not channel.closed and not channel.eof_received:
            raise
    ready = channel.fileno()
    while not (channel.eof_received and not channel.recv_ready() and not channel.recv_stderr_ready()):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if not channel.recv_ready() and not channel.recv_stderr_ready():
            _wait(ready, left)
        if channel.recv_ready():
            chunk = channel.recv(CHUNK)
            stdout += chunk
            feed(chunk)
        if channel.recv_stderr_ready():
            stderr += channel.recv_stderr(CHUNK)
        if len(stdout) + len(stderr) > OUTPUT_MAX:
            raise EOFError(f"it printed more than {OUTPUT_MAX >> 20} MiB")
        if channel.closed and not channel.recv_ready() and not channel.recv_stderr_ready():
            break
    return bytes(stdout), bytes(stderr)


def _has_status(channel: paramiko.Channel) -> bool:
    channel.status_event.wait(STATUS_WITHIN_S)  # set by the status, or by the end of the channel
    return channel.exit_status >= 0


def _wait(descriptor: int, timeout_s: float) -> None:
    poll = select.poll()  # select() itself refuses descriptors above 1023
    poll.register(descriptor, select.POLLIN)
    poll.poll(min(timeout_s, 60.0) * 1000)


def _line_reader(marker: str, on_line: Callable[[bytes], None] | None) -> Callable[[bytes], None]:
    mark, buffer = marker.encode(), bytearray()
    begun = False

    def feed(chunk: bytes) -> None:
        nonlocal begun
        if on_line is None:
            return
        buffer.extend(chunk)
        while b"\n" in buffer:
            line, _, rest = bytes(buffer).partition(b"\n")
            buffer[:] = rest
            if not begun:  # noise of the login shell may stand before it, also on its line
                begun = line.endswith(mark)
            elif not line.startswith(mark):
                on_line(line)

    return feed


def _parse(connection: Any, marker: str, stdout: bytes, stderr: bytes, root: bool) -> ScriptResult:
    mark = marker.encode()
    body, found, tail = stdout.rpartition(b"\n" + mark + b" ")
    errors = _between(stderr, b"\n" + mark + b"\n").decode(errors="replace").strip()
    if not found:
        raise _garbled(connection, stdout, stderr)
    status = int(tail.split(b"\n", 1)[0])
    _, begun, output = body.rpartition(mark + b"\n")
    if not begun and root:
        raise _no_root(connection, errors)
    if not begun:
        raise _garbled(connection, stdout, stderr)
    return ScriptResult(status, output, errors)


def _between(text: bytes, mark: bytes) -> bytes:
    parts = text.split(mark)
    return parts[1] if len(parts) > 1 else text


def _garbled(connection: Any, stdout: bytes, stderr: bytes) -> ScriptGarbled:
    said = (stderr or stdout).decode(errors="replace").strip()[-300:]
    name = name_of(connection)
    return ScriptGarbled(f"node {name}: its login shell did not run the script; it said: {said or 'nothing'}")


def _no_root(connection: Any, said: str) -> AuthenticationFailed:
    user, name = connection.user, name_of(connection)
    problem = f"node {name}: {user} cannot become root without a password; sudo said: {said or 'nothing'}"
    hint = f"on the node, as root: echo '{user} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{user}; or log in as root"
    return AuthenticationFailed(problem, hint=hint)


def name_of(connection: Any) -> str:
    """Return how people call what this connection leads to."""
    target = getattr(connection, "target", None)
    return str(target.name if target else connection.host)


@contextlib.contextmanager
def _lost_is_unreachable(connection: Any, timeout_s: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        problem = f"node {name_of(connection)}: the script did not end within {timeout_s:.0f} s"
        raise ScriptTimeout(problem) from error
    except (OSError, EOFError, paramiko.SSHException) as error:
        problem = f"node {name_of(connection)}: the connection was lost: {str(error) or type(error).__name__}"
        raise Unreachable(problem) from error
