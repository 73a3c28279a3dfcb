"""Notice that a network is gone: after some silence ask sshd for an answer; without one, end the connection."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import paramiko

if TYPE_CHECKING:
    from codesmith.ssh.transport import NodeTransport

log = logging.getLogger("codesmith.ssh")

HEARTBEAT_S = 4.0
REPLY_S = 8.0
SLEPT_S = 2.0


class SleepWatch:
    """Notices that the machine was suspended: the boot clock then runs on while the monotonic clock stops."""

    def __init__(self) -> None:
        self._gap_s = self._read_s()

    def has_slept(self) -> bool:
        """Return whether the machine was suspended since the last call."""
        before, self._gap_s = self._gap_s, self._read_s()
        return self._gap_s - before > SLEPT_S

    def _read_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


class Heartbeat:
    """Watches one connection in a thread of its own until it ends or `stop`; calls `on_lost` with why it was lost.

    Every message that arrives counts as an answer: during a long transfer the answer to the keepalive may be late.
    """

    def __init__(self, transport: NodeTransport, name: str) -> None:
        self._transport, self._name = transport, name
        self.why_lost = ""
        self.on_lost: Callable[[str], None] = lambda _: None
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name=f"heartbeat {name}", daemon=True).start()

    def stop(self) -> None:
        """Stop watching; `on_lost` is not called any more."""
        self._stopped.set()

    def _run(self) -> None:
        watch = SleepWatch()
        while not self._stopped.wait(max(HEARTBEAT_S - self._transport.silent_s, 0.1)) and self._transport.is_active():
            if self._transport.silent_s < HEARTBEAT_S:
                continue
            reply_s = REPLY_S / 2 if watch.has_slept() else REPLY_S
            if not self._is_answered(reply_s):
                self._lose(f"no answer within {reply_s:.0f} s")
        if not self._stopped.is_set():
            reason = self._transport.disconnect_reason
            self._lose(f"its sshd said: {reason}" if reason else "closed by the node")

    def _is_answered(self, reply_s: float) -> bool:
        asked = threading.Thread(target=self._ask, name=f"ask {self._name}", daemon=True)
        asked.start()
        asked.join(reply_s)
        while asked.is_alive() and self._transport.silent_s < reply_s:
            asked.join(1.0)
        return not asked.is_alive()

    def _ask(self) -> None:
        try:
            self._transport.global_request("keepalive@openssh.com", wait=True)
        except (OSError, EOFError, paramiko.SSHException) as error:
            log.debug("%s: keepalive: %r", self._name, error)

    def _lose(self, why: str) -> None:
        if not self._stopped.is_set():
            self._stopped.set()
            self.why_lost = why
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                self._transport.close()
            self.on_lost(why)
