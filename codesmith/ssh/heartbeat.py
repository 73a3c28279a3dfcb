"""When to ask a silent node for an answer, and when to give up. The thread that reads a connection asks by itself."""

from __future__ import annotations

import time

# Without a message for so long, the node is asked for an answer; then again.
HEARTBEAT_S = 4.0
# How long after the first question the connection is given up; half of it if this machine was suspended meanwhile.
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


class NoAnswer(EOFError):
    """The node is silent; the text says for how long it has not answered."""


class Heartbeat:
    """Counts the questions to one node since its last message.

    Every message counts as an answer: during a long transfer the answer itself may be late. Questions are counted, not
    seconds: a process that stood still for hours must ask before it gives up.
    """

    def __init__(self) -> None:
        self._watch = SleepWatch()
        self._asked = 0
        self._reply_s = REPLY_S
        self._last_beat = 0.0

    def hear(self) -> None:
        """Note a message of the node."""
        self._asked = 0

    def beat(self) -> bool:
        """Return whether to ask the node now; NoAnswer if it is to be given up.

        Call it whenever nothing arrived, or nothing could be sent, for HEARTBEAT_S.
        """
        now = time.monotonic()
        if now - self._last_beat < 0.9 * HEARTBEAT_S:
            return False  # one thread waits to read, another to send: they count once
        self._last_beat = now
        if self._asked == 0:
            self._reply_s = REPLY_S / 2 if self._watch.has_slept() else REPLY_S
        elif self._asked * HEARTBEAT_S >= self._reply_s:
            raise NoAnswer(f"no answer within {self._reply_s:.0f} s")
        self._asked += 1
        return True
