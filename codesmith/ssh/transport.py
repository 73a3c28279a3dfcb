"""Paramiko's transport, guarded, with the one channel it lacks: a Unix socket on the node.

Three guards (see SPECIFICATIONS.md): nothing of a channel follows its CLOSE; re-keying is sshd's; small packets leave
at once and AES-GCM comes first.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import paramiko
from paramiko.common import MSG_CHANNEL_CLOSE, MSG_DISCONNECT, MSG_USERAUTH_BANNER

STREAMLOCAL = "direct-streamlocal@openssh.com"
SAID_MAX = 300
NOTES_MAX = 64
FREE_WAIT_S, FREE_POLL_S = 2.0, 0.05
NO_REASON = "Unable to open channel."

# Paramiko logs a traceback for every connection that fails; without a handler Python would print it. We raise instead.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class _Guard:
    """Stands between a channel and its transport: nothing of the channel leaves after its CLOSE.

    Paramiko builds a message under the channel's lock and sends it after releasing it, so EOF, DATA or WINDOW_ADJUST
    of one thread can follow the CLOSE that the transport's thread sends. sshd then drops the whole connection, or the
    bytes reach the next channel of that number (paramiko issues 1115, 1584, 1705). Holding a lock over the send is
    safe only while this side never starts a re-key (issue 822): see NodePacketizer.
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
            self._is_closed = message.asbytes()[0] == MSG_CHANNEL_CLOSE
            self._transport._send_user_message(message)


class NodePacketizer(paramiko.packet.Packetizer):
    """Leaves re-keying to sshd, which does it after 64 GiB or 2^31 packets (AES): our limits lie above its own.

    Paramiko's own re-key, by default every 512 MiB, dead-locks with a CLOSE in flight (issue 822).
    """

    REKEY_BYTES = 2**37
    REKEY_PACKETS = 3 * 2**30

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.lines: list[str] = []
        # What sshd, or PAM through it, said to a person: before a login is over, and when it ends the connection.
        self.banners: list[str] = []
        self.farewell = ""
        self.heard = time.monotonic()

    def start_handshake(self, timeout: float) -> None:
        """Start no clock: our own deadline holds, and a thread would be left behind for the 15 s of this one."""

    def readline(self, timeout: float) -> str:
        """Return a line of the greeting, and keep it: sshd gives its reason there when it turns us away."""
        try:
            line = str(super().readline(timeout))
        except UnicodeDecodeError as error:  # what stands before the greeting may be in any encoding
            line = error.object.decode(errors="replace")
        self.lines.append(line)
        return line

    def read_message(self) -> tuple[int, paramiko.Message]:
        """Return the next message; its text need not be UTF-8."""
        kind, message = super().read_message()
        self.heard = time.monotonic()
        message.__class__ = AnyMessage
        self._note(kind, message.asbytes())
        return kind, message

    def _note(self, kind: int, data: bytes) -> None:
        message = AnyMessage(data)
        if kind == MSG_USERAUTH_BANNER and len(self.banners) < NOTES_MAX:
            self.banners.append(message.get_text())
        elif kind == MSG_DISCONNECT:
            message.get_int()
            self.farewell = message.get_text()


class AnyMessage(paramiko.Message):
    """A message whose words, as PAM's questions, may be in any encoding: paramiko would end the connection for it."""

    def get_text(self) -> str:
        """Return text, with what is no UTF-8 marked in it."""
        return bytes(self.get_string()).decode(errors="replace")


class NodeTransport(paramiko.Transport):
    """A paramiko.Transport for a node. `host_key_types` are asked for first."""

    # AEAD first: half the Python work per packet, because no separate HMAC is computed.
    _preferred_ciphers = (
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "aes128-ctr",
        "aes192-ctr",
        "aes256-ctr",
    )
    # How often the idle reader wakes to look whether it should end. close() wakes it at once, so it may sleep long.
    _active_check_timeout = 1.0

    def __init__(self, sock: Any, *args: Any, host_key_types: Sequence[str] = (), **kwargs: Any) -> None:
        _send_at_once(sock)
        self._tail = threading.local()
        kwargs.setdefault("packetizer_class", NodePacketizer)
        super().__init__(sock, *args, **kwargs)
        options = self.get_security_options()
        # What paramiko does not accept by itself stays out: only the order changes.
        first = [name for name in host_key_types if name in options.key_types]
        options.key_types = (*first, *(name for name in options.key_types if name not in first))

    @property
    def said(self) -> str:
        """Return what sshd said instead of its greeting, fit to be shown."""
        return shown("; ".join(line.strip() for line in self._notes.lines[:3]))

    @property
    def last_words(self) -> str:
        """Return what sshd said last during the login: its last banner, and its reason for ending it, if any."""
        return shown("; ".join(text for text in (*self._notes.banners[-1:], self.farewell) if text.strip()))

    @property
    def farewell(self) -> str:
        """Return the reason that sshd gave for ending the connection, fit to be shown; nothing if it gave none."""
        return shown(self._notes.farewell)

    @property
    def _notes(self) -> NodePacketizer:
        return self.packetizer  # type: ignore[return-value]

    @property
    def silent_s(self) -> float:
        """Return how long ago the last message came."""
        return time.monotonic() - float(self.packetizer.heard)  # type: ignore[attr-defined]

    def start_client(self, event: threading.Event | None = None, timeout: float | None = None) -> None:
        """Negotiate; TimeoutError when that takes longer than `timeout`: paramiko itself just returns then."""
        super().start_client(event, timeout)
        if event is None and not self.initial_kex_done:
            raise TimeoutError

    def open_channel(self, *args: Any, **kwargs: Any) -> paramiko.Channel:
        """Open a channel as paramiko does, with the guard on it; ChannelException when sshd refuses."""
        try:
            channel = super().open_channel(*args, **kwargs)
        except paramiko.SSHException as error:
            # paramiko keeps one reason for all threads: of two refused at once, one finds none. The connection stands.
            if str(error) == NO_REASON and self.is_active():
                raise paramiko.ChannelException(0, "refused") from error
            raise
        channel.transport = _Guard(self)  # type: ignore[assignment]
        return channel

    def open_session_when_free(self, timeout: float) -> paramiko.Channel:
        """Open a session; where MaxSessions is small, wait a little: sshd frees the place of one that ended late."""
        deadline = time.monotonic() + min(timeout, FREE_WAIT_S)
        while True:
            try:
                return self.open_session(timeout=timeout)
            except paramiko.ChannelException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(FREE_POLL_S)

    def open_streamlocal(self, path: str, timeout: float = 10.0, window_size: int | None = None) -> paramiko.Channel:
        """Open a channel to the Unix socket `path` on the node; ChannelException when sshd or the socket refuses."""
        self._tail.path = path
        try:
            return self.open_channel(STREAMLOCAL, timeout=timeout, window_size=window_size)
        finally:
            self._tail.path = None

    def close(self) -> None:
        """End the connection and wake the reader, which may be in the middle of its sleep."""
        with contextlib.suppress(AttributeError, OSError, EOFError):
            self.sock.shutdown(socket.SHUT_RDWR)
        super().close()

    def _send_user_message(self, data: paramiko.Message) -> None:
        path = getattr(self._tail, "path", None)
        if path is not None:  # This is the CHANNEL_OPEN of open_streamlocal: paramiko knows no tail for its kind.
            self._tail.path = None
            data.add_string(path)  # OpenSSH's PROTOCOL file, 2.4: path, reserved string, reserved number
            data.add_string("")
            data.add_int(0)
        super()._send_user_message(data)  # type: ignore[misc]


def shown(text: str) -> str:
    """Return the end of what somebody else said as one line without control characters."""
    plain = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return plain if len(plain) <= SAID_MAX else f"...{plain[-SAID_MAX:]}"


def _send_at_once(sock: Any) -> None:
    # Not possible on the channel of a gateway or the socket pair of a ProxyCommand.
    with contextlib.suppress(AttributeError, OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
