"""The streams of one endpoint: one open spare, and those that local connections use."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from codesmith.errors import CodeSmithError, Unreachable
from codesmith.tunnel.link import Link, NoFreeSession
from codesmith.tunnel.proof import AGENT_SOCKET, TimedStream
from codesmith.tunnel.relay import Relay, end, is_over

SPARE_MAX_AGE_S = 30.0  # well below the agent's idle limit: the agent must not close a spare just as a call takes it
FREE_WAIT_S, FREE_POLL_S = 5.0, 0.2
FAR_S = 0.05  # how long a stream takes at least to open to an agent that is far away


class _Spare(NamedTuple):
    stream: TimedStream
    born: float


class Pool:
    """Gives streams to local connections. With a spare, a new connection saves the round trip that opens a channel."""

    def __init__(
        self, name: str, wake: Callable[[], None], want_spare: Callable[[bool], None], socket: str = AGENT_SOCKET
    ) -> None:
        """`want_spare` is called when the spare has been taken; its argument says whether the agent is far away."""
        self._name, self._wake, self._want_spare, self._agent_socket = name, wake, want_spare, socket
        self._changed = threading.Condition()
        self._link: Link | None = None
        self._spare: _Spare | None = None
        self._used: set[Relay] = set()
        self._silent_ends = 0
        self._opening_s = math.inf
        self.counts = {"channels": 0, "spares_used": 0}

    @property
    def open_now(self) -> int:
        """How many local connections have a stream."""
        return len(self._used)

    def use(self, link: Link, stream: TimedStream | None) -> None:
        """Open streams on `link` from now on; `stream`, on which the agent was just proven, becomes the spare."""
        with self._changed:
            self._link, self._opening_s = link, math.inf
        if stream is not None:
            self.counts["channels"] += 1
        self._set_spare(stream)

    def drop(self) -> None:
        """Forget the link and close the spare."""
        with self._changed:
            self._link = None
        self._set_spare(None)

    def drop_spare(self) -> None:
        """Close the spare: if sessions are few, a proof needs its session."""
        self._set_spare(None)

    def has_spare(self) -> bool:
        """Return whether there is a spare, however old."""
        return self._spare is not None

    def is_spare_due(self) -> bool:
        """Return whether the spare has ended, or the agent will close it soon because of its age."""
        spare = self._spare
        return spare is not None and (is_over(spare.stream) or time.monotonic() - spare.born > SPARE_MAX_AGE_S)

    def refill(self) -> None:
        """Open a new spare; do nothing if sshd allows no more sessions."""
        silent_ends = self._silent_ends
        try:
            stream = self._open()
            if self._silent_ends != silent_ends:  # the agent it was opened to may have ended since
                end(stream)
                stream = self._open()
        except NoFreeSession:
            return
        self._set_spare(stream)

    def take(self, local: socket.socket) -> Relay:
        """Return a relay for the local connection: on the spare, or on a new stream.

        Unreachable if no stream can be opened, NoFreeSession if sshd frees no session within FREE_WAIT_S.
        """
        relay = Relay(self._take_spare() or self._open_new(), local, self._end_spare)
        with self._changed:
            self._used.add(relay)
        self._want_spare(FAR_S < self._opening_s < math.inf)
        return relay

    def give_back(self, relay: Relay) -> None:
        """Note that the relay has ended; its session is free."""
        with self._changed:
            self._used.discard(relay)
            self._changed.notify_all()

    def _open(self) -> TimedStream:
        link = self._link
        if link is None:
            raise Unreachable(
                f"the SSH connection to {self._name} was lost", hint=f"inv node.status --node {self._name}"
            )
        begun = time.monotonic()
        stream = link.open(self._agent_socket)
        self._opening_s = min(self._opening_s, time.monotonic() - begun)
        self.counts["channels"] += 1
        return stream

    def _take_spare(self) -> TimedStream | None:
        with self._changed:
            spare, self._spare = self._spare, None
        if spare is None:
            return None
        if is_over(spare.stream):
            end(spare.stream)
            return None
        self.counts["spares_used"] += 1
        return spare.stream

    def _open_new(self) -> TimedStream:
        try:
            stream = self._open()
        except NoFreeSession:
            return self._open_when_free()
        if is_over(stream):
            problem = f"the agent on {self._name} closed a new connection at once"
            raise Unreachable(problem, hint=f"inv node.logs --node {self._name}")
        return stream

    def _open_when_free(self) -> TimedStream:
        """Try until a session is free; sshd frees one a little after its end, and does not report it."""
        deadline = time.monotonic() + FREE_WAIT_S
        while True:
            with self._changed:
                self._changed.wait(FREE_POLL_S)
            spare = self._take_spare()
            if spare is not None:
                return spare
            try:
                stream = self._open()
            except NoFreeSession:
                if time.monotonic() > deadline:
                    raise
                continue
            if not is_over(stream):
                return stream

    def _set_spare(self, stream: TimedStream | None) -> None:
        with self._changed:
            old, self._spare = self._spare, None if stream is None else _Spare(stream, time.monotonic())
            self._changed.notify_all()
        if old is not None:
            end(old.stream)
        if stream is not None:
            stream.on_end(self._note_end)

    def _note_end(self) -> None:
        """Have the spare replaced if it has ended; each stream that was a spare calls this at its end."""
        spare = self._spare
        if spare is not None and (spare.stream.closed or spare.stream.eof_received):
            self._wake()

    def _end_spare(self) -> None:
        """End the spare, because the agent ended a stream without an answer: it may be restarting.

        The spare was opened to the same one. A client that calls again gets a stream that was opened afterwards.
        """
        self._silent_ends += 1
        spare = self._spare
        if spare is not None:
            end(spare.stream)


def too_many_connections() -> CodeSmithError:
    """Return the error for a connection beyond the limit."""
    problem = "too many local connections are open: the forwarder accepts no more"
    return CodeSmithError(problem, hint="inv node.status")
