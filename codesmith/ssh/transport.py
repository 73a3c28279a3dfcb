"""paramiko's transport with four guards, and with the channel that it lacks: one to a Unix socket on the node.

The guards (see SPECIFICATIONS.md): no message of a channel follows its CLOSE; only sshd starts a re-key; small packets
leave at once, and AES-GCM is preferred; its own thread notices that the node does not answer any more.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import paramiko
from paramiko.common import MSG_CHANNEL_CLOSE, MSG_CHANNEL_EOF, MSG_DISCONNECT, MSG_USERAUTH_BANNER, cMSG_GLOBAL_REQUEST

from codesmith.ssh import heartbeat
from codesmith.ssh.heartbeat import Heartbeat, NoAnswer
from codesmith.ssh.pieces import keep_pieces

STREAMLOCAL = "direct-streamlocal@openssh.com"
PRINTABLE_MAX = 300
BANNERS_MAX = 64
READER_ENDS_WITHIN_S = 0.5
FREE_WAIT_S, FREE_POLL_S = 2.0, 0.05
NO_REASON = "Unable to open channel."

# paramiko logs a traceback for each failed connection, and without a handler Python prints it.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class _CloseGuard:
    """Stands between a channel and its transport: sends no message of the channel after its CLOSE.

    paramiko builds a message under the channel's lock and sends it after releasing the lock. So EOF, DATA or
    WINDOW_ADJUST of one thread can follow the CLOSE that the transport's thread sends. sshd then drops the whole
    connection, or the bytes reach the next channel with that number (paramiko issues 1115, 1584, 1705). Holding a lock
    during the send is safe only if this side never starts a re-key (issue 822): see NodePacketizer.
    """

    def __init__(self, transport: NodeTransport) -> None:
        self._transport = transport
        self._sending = threading.Lock()
        self._is_closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _send_user_message(self, message: paramiko.Message) -> None:
        with self._sending:
            if self._is_closed:
                return
            kind = message.asbytes()[0]
            self._is_closed = kind == MSG_CHANNEL_CLOSE
            try:
                self._transport._send_user_message(message)
            except EOFError:
                if kind not in (MSG_CHANNEL_EOF, MSG_CHANNEL_CLOSE):  # nobody is left to be told of an end
                    raise


class NodeChannel(paramiko.Channel):
    """A channel that tells when the far end ends it."""

    def on_end(self, tell: Callable[[], None]) -> None:
        """Call `tell`, which must be quick, once the far end sends no more or the channel is closed."""
        self.in_buffer.set_event(_End(self, tell))  # type: ignore[arg-type]


class _End:
    """What paramiko takes for the event of a buffer; it is set by data too."""

    def __init__(self, channel: NodeChannel, tell: Callable[[], None]) -> None:
        # Its buffer holds this object: with a plain reference only the collector would end the two.
        self._channel, self._tell = weakref.ref(channel), tell

    def set(self) -> None:
        """Tell, if no more data will come."""
        channel = self._channel()
        if channel is None or channel.eof_received or channel.closed:
            self._tell()

    def clear(self) -> None:
        """Do nothing: this is no state."""


class NodePacketizer(paramiko.packet.Packetizer):
    """Leaves re-keying to sshd, which does it after 64 GiB or 2^31 packets (AES): the limits here are higher.

    paramiko's own re-key, by default every 512 MiB, deadlocks with a CLOSE in flight (issue 822).
    """

    REKEY_BYTES = 2**37
    REKEY_PACKETS = 3 * 2**30

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self._sock = sock
        self._heartbeat = Heartbeat()
        # Sends a question to the node; None until the connection is watched.
        self.ask: Callable[[], None] | None = None
        self.why_lost = ""
        self.greeting_lines: list[str] = []
        # Messages of sshd, or of PAM through it, for a person: during the login, and at the end of the connection.
        self.banners: list[str] = []
        self.disconnect_reason = ""

    def start_handshake(self, timeout: float) -> None:
        """Start no timer: Deadline limits the handshake, and paramiko's timer would leave a thread for 15 s."""

    def readline(self, timeout: float) -> str:
        """Return a line of the greeting, and keep it: sshd gives its reason there if it drops the connection."""
        try:
            line = str(super().readline(timeout))
        except UnicodeDecodeError as error:  # lines before the SSH banner may be in any encoding
            line = error.object.decode(errors="replace")
        self.greeting_lines.append(line)
        return line

    def read_message(self) -> tuple[int, paramiko.Message]:
        """Return the next message; its text need not be UTF-8."""
        kind, message = super().read_message()
        self.hear()
        message.__class__ = AnyMessage
        self._keep_text(kind, message.asbytes())
        return kind, message

    def hear(self) -> None:
        """Note a message of the node."""
        self._heartbeat.hear()

    def write_all(self, out: Any) -> None:
        """Send all bytes; EOFError when the connection ends, or nothing goes out and nothing comes in for too long."""
        while out:
            try:
                sent = self._sock.send(out)
            except TimeoutError:
                if self.closed:
                    raise EOFError from None
                self._is_question_due()
                continue
            except OSError as error:
                raise EOFError from error
            if sent == 0:
                raise EOFError
            out = out[sent:]

    def _check_keepalive(self) -> None:
        """Ask the node for an answer; paramiko calls this when nothing has arrived for the socket's timeout."""
        if self._is_question_due() and self.ask is not None:
            self.ask()

    def _is_question_due(self) -> bool:
        if self.ask is None:
            return False
        try:
            return self._heartbeat.beat()
        except NoAnswer as error:
            self.why_lost = str(error)
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                self._sock.shutdown(socket.SHUT_RDWR)  # another thread may read, or send
            raise

    def _keep_text(self, kind: int, data: bytes) -> None:
        message = AnyMessage(data)
        if kind == MSG_USERAUTH_BANNER and len(self.banners) < BANNERS_MAX:
            self.banners.append(message.get_text())
        elif kind == MSG_DISCONNECT:
            message.get_int()
            self.disconnect_reason = message.get_text()


class AnyMessage(paramiko.Message):
    """A message whose text, such as PAM's questions, may be in any encoding; paramiko would end the connection."""

    def get_text(self) -> str:
        """Return the text; bytes that are not UTF-8 become replacement characters."""
        return bytes(self.get_string()).decode(errors="replace")


class NodeTransport(paramiko.Transport):
    """A paramiko.Transport for a node. It asks for `host_key_types` first."""

    # AEAD first: without a separate HMAC a packet costs half the Python work.
    _preferred_ciphers = (
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "aes128-ctr",
        "aes192-ctr",
        "aes256-ctr",
    )
    # How often the idle reader wakes to check whether it should end. close() wakes it at once, so it may sleep long.
    _active_check_timeout = 1.0

    def __init__(self, sock: Any, *args: Any, host_key_types: Sequence[str] = (), **kwargs: Any) -> None:
        _send_at_once(sock)
        self._streamlocal = threading.local()
        self._tell_end: Callable[[], None] = lambda: None
        self._has_ended = False
        kwargs.setdefault("packetizer_class", NodePacketizer)
        super().__init__(sock, *args, **kwargs)
        options = self.get_security_options()
        # Only the order changes: types that paramiko does not accept stay out.
        first = [name for name in host_key_types if name in options.key_types]
        options.key_types = (*first, *(name for name in options.key_types if name not in first))

    @property
    def pre_banner_text(self) -> str:
        """What sshd sent in place of its SSH banner, printable."""
        return printable("; ".join(line.strip() for line in self._packets.greeting_lines[:3]))

    @property
    def server_messages(self) -> str:
        """sshd's last messages during the login, printable: its last banner, and its reason for ending the login."""
        texts = (*self._packets.banners[-1:], self.disconnect_reason)
        return printable("; ".join(text for text in texts if text.strip()))

    @property
    def disconnect_reason(self) -> str:
        """sshd's reason for ending the connection, printable; "" if it gave none."""
        return printable(self._packets.disconnect_reason)

    @property
    def _packets(self) -> NodePacketizer:
        return self.packetizer  # type: ignore[return-value]

    @property
    def why_lost(self) -> str:
        """Why the connection was lost; "" while it is open."""
        reason = self.disconnect_reason
        return self._packets.why_lost or (reason and f"its sshd said: {reason}")

    def watch(self) -> None:
        """Have a network that is gone end the connection: see `heartbeat`."""
        self.sock.settimeout(heartbeat.HEARTBEAT_S)
        self._packets.ask = self._ask

    def on_end(self, tell: Callable[[], None]) -> None:
        """Call `tell`, which must be quick, when the connection has ended; at once if it has already."""
        self._tell_end = tell
        if self._has_ended:
            tell()

    def run(self) -> None:
        """Read until the connection ends."""
        try:
            super().run()
        finally:
            self._has_ended = True
            self._tell_end()

    def _ask(self) -> None:
        """Ask sshd for an answer, but wait for no thread that sends and no end of a re-key: this thread reads."""
        if not self.clear_to_send.is_set() or not self.clear_to_send_lock.acquire(blocking=False):
            return
        try:
            question = paramiko.Message()
            question.add_byte(cMSG_GLOBAL_REQUEST)
            question.add_string("keepalive@openssh.com")
            question.add_boolean(True)
            self._send_message(question)  # type: ignore[attr-defined]
        finally:
            self.clear_to_send_lock.release()

    def start_client(self, event: threading.Event | None = None, timeout: float | None = None) -> None:
        """Negotiate; TimeoutError after `timeout` seconds, where paramiko itself just returns."""
        super().start_client(event, timeout)
        if event is None and not self.initial_kex_done:
            raise TimeoutError

    def open_channel(self, *args: Any, **kwargs: Any) -> NodeChannel:
        """Open a channel as paramiko does, with the guard; ChannelException if sshd refuses."""
        try:
            channel: Any = super().open_channel(*args, **kwargs)
        except paramiko.SSHException as error:
            # paramiko keeps one reason for all threads: if two are refused at once, one finds none, and still works.
            if str(error) == NO_REASON and self.is_active():
                raise paramiko.ChannelException(0, "refused") from error
            raise
        channel.__class__ = NodeChannel
        channel.transport = _CloseGuard(self)
        keep_pieces(channel)
        opened: NodeChannel = channel
        return opened

    def open_session_when_free(self, timeout: float) -> paramiko.Channel:
        """Open a session; if MaxSessions is reached, try for up to 2 s: sshd counts an ended one a little longer."""
        deadline = time.monotonic() + min(timeout, FREE_WAIT_S)
        while True:
            try:
                return self.open_session(timeout=timeout)
            except paramiko.ChannelException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(FREE_POLL_S)

    def open_streamlocal(self, path: str, timeout: float = 10.0, window_size: int | None = None) -> paramiko.Channel:
        """Open a channel to the Unix socket `path` on the node; ChannelException if sshd or the socket refuses."""
        self._streamlocal.path = path
        try:
            return self.open_channel(STREAMLOCAL, timeout=timeout, window_size=window_size)
        finally:
            self._streamlocal.path = None

    def close(self) -> None:
        """End the connection and wake the reader, which may be asleep."""
        with contextlib.suppress(AttributeError, OSError, EOFError):
            self.sock.shutdown(socket.SHUT_RDWR)
        # First the reader: of a descriptor that is closed meanwhile it may not be told, and wait for its timeout.
        if self.is_alive() and self is not threading.current_thread():
            self.join(READER_ENDS_WITHIN_S)
        super().close()

    def _send_user_message(self, data: paramiko.Message) -> None:
        path = getattr(self._streamlocal, "path", None)
        if path is not None:  # the CHANNEL_OPEN of open_streamlocal: paramiko does not know the fields of this kind
            self._streamlocal.path = None
            data.add_string(path)  # OpenSSH's PROTOCOL file, 2.4: path, reserved string, reserved number
            data.add_string("")
            data.add_int(0)
        super()._send_user_message(data)  # type: ignore[misc]


def printable(text: str) -> str:
    """Return a foreign text as one line without control characters; only its last 300 characters if it is longer."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return plain if len(plain) <= PRINTABLE_MAX else f"...{plain[-PRINTABLE_MAX:]}"


def _send_at_once(sock: Any) -> None:
    # Impossible on the channel of a gateway and on the socket pair of a ProxyCommand.
    with contextlib.suppress(AttributeError, OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
