"""Talk to an ssh master over its control socket (OpenSSH's PROTOCOL.mux, version 4), and run channels through it.

In proxy mode a master passes the messages of channels on over its control socket, unchanged and unencrypted. So
paramiko's channels, with the guards of `NodeTransport`, work here too; ssh has done key exchange and login before.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Any

import paramiko

from codesmith.ssh.transport import AnyMessage, NodePacketizer, NodeTransport

VERSION = 4
HELLO, ALIVE_CHECK, TERMINATE, PROXY = 0x00000001, 0x10000004, 0x10000005, 0x1000000F
IS_ALIVE, IS_PROXY = 0x80000005, 0x8000000F
# Larger than any answer to these requests.
ANSWER_MAX_BYTES = 1 << 12


class Control:
    """A connection to the control socket of a master."""

    def __init__(self, path: str, timeout_s: float) -> None:
        self._deadline = time.monotonic() + timeout_s
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._wait_at_most()
            self.socket.connect(path)
            self._send(HELLO, VERSION)
            if self._receive()[:2] != (HELLO, VERSION):
                raise ConnectionError("ssh speaks another multiplexing protocol")
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def pid(self) -> int:
        """Return the master's process id."""
        return self._ask(ALIVE_CHECK, IS_ALIVE)[2]

    def terminate(self) -> None:
        """Ask the master to end; return once it has ended, or when the time is over."""
        with contextlib.suppress(OSError, EOFError):
            self._send(TERMINATE, 0)
            while self._receive():
                pass

    def proxy(self) -> socket.socket:
        """Switch to proxy mode and return the socket for messages of channels; no other request is possible then."""
        self._ask(PROXY, IS_PROXY)
        return self.socket

    def _ask(self, request: int, wanted: int) -> tuple[int, ...]:
        self._send(request, 0)
        answer = self._receive()
        if answer[0] != wanted:
            raise ConnectionError(f"ssh refuses a multiplexing request ({request:#x})")
        return answer

    def _send(self, *numbers: int) -> None:
        self._wait_at_most()
        self.socket.sendall(struct.pack(f">I{len(numbers)}I", 4 * len(numbers), *numbers))

    def _receive(self) -> tuple[int, ...]:
        """Return the first numbers of the next message, at most three."""
        size = struct.unpack(">I", self._exactly(4))[0]
        if not 4 <= size <= ANSWER_MAX_BYTES:
            raise ConnectionError("ssh gave an answer of an impossible size")
        answer = self._exactly(size)
        count = min(size // 4, 3)
        return struct.unpack(f">{count}I", answer[: 4 * count])

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            self._wait_at_most()
            more = self.socket.recv(size - len(data))
            if not more:
                raise EOFError("ssh ended")
            data += more
        return data

    def _wait_at_most(self) -> None:
        self.socket.settimeout(max(self._deadline - time.monotonic(), 0.001))


class MuxPacketizer(NodePacketizer):
    """Frames messages as a master's proxy mode does: length, no padding, type, content. It never re-keys."""

    REKEY_BYTES = REKEY_PACKETS = 2**63

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self._initial_kex_done = True
        self.is_greeted = False

    def write_all(self, out: Any) -> None:
        """Send, but not paramiko's SSH banner: the master expects none."""
        if self.is_greeted:
            super().write_all(out)

    def read_message(self) -> tuple[int, paramiko.Message]:
        """Return the next message."""
        size = struct.unpack(">I", self.read_all(4))[0]
        packet = self.read_all(size)
        self.hear()
        return packet[1], AnyMessage(packet[2:])

    def _build_packet(self, payload: bytes) -> bytes:
        return struct.pack(">IB", len(payload) + 1, 0) + payload


class MuxTransport(NodeTransport):
    """A transport for channels through a master, without banner, key exchange and login. ssh itself notices silence."""

    _active_check_timeout = 5.0

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, packetizer_class=MuxPacketizer)

    def _check_banner(self) -> None:
        self.packetizer.is_greeted = True  # type: ignore[attr-defined]

    def _send_kex_init(self) -> None:
        self.initial_kex_done = True
        self.clear_to_send.set()
        assert isinstance(self.completion_event, threading.Event)
        self.completion_event.set()

    def _expect_packet(self, *kinds: int) -> None:
        """Expect nothing: any message may come first."""
