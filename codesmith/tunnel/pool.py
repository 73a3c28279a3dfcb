"""The streams of one endpoint: one spare kept open ahead, and those that local connections use."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from codesmith.errors import CodeSmithError, Unreachable
from codesmith.tunnel.link import Full, Link
from codesmith.tunnel.proof import Timed
from codesmith.tunnel.relay import Relay

SPARE_MAX_AGE_S = 30.0  # well below the agent's idle limit, so that a spare is not closed while a call takes it
FREE_WAIT_S = 5.0


class Pool:
    """Hands streams to local connections. A spare saves a new connection the round trip of opening a channel."""

    def __init__(self, name: str, wake: Callable[[], None]) -> None:
        self._name, self._wake = name, wake
        self._changed = threading.Condition()
        self._link: Link | None = None
        self._spare: Relay | None = None
        self._used: set[Relay] = set()
        self.counts = {"channels": 0, "spares_used": 0}

    @property
    def open_now(self) -> int:
        """Return how many local connections have a stream."""
        return len(self._used)

    def use(self, link: Link, stream: Timed | None) -> None:
        """Take streams from `link` from now on; `stream`, just proven, becomes the spare."""
        with self._changed:
            self._link = link
        if stream is not None:
            self.counts["channels"] += 1
        self._set_spare(None if stream is None else Relay(stream, self._wake))

    def drop(self) -> None:
        """Forget the link and close the spare."""
        with self._changed:
            self._link = None
        self._set_spare(None)

    def drop_spare(self) -> None:
        """Close the spare: where sessions are few, a proof needs its place."""
        self._set_spare(None)

    def has_spare(self) -> bool:
        """Return whether a spare is there, fresh or not."""
        return self._spare is not None

    def is_spare_due(self) -> bool:
        """Return whether the spare was closed by the agent or is so old that it soon will be."""
        spare = self._spare
        return spare is not None and (spare.is_lost or time.monotonic() - spare.born > SPARE_MAX_AGE_S)

    def refill(self) -> None:
        """Open a spare in place of a used one; none where sshd allows no more sessions."""
        try:
            stream = self._open()
        except Full:
            return
        self._set_spare(Relay(stream, self._wake))

    def take(self, local: socket.socket) -> Relay:
        """Return a relay for the local connection: the spare, or one on a new stream."""
        with self._changed:
            spare, self._spare = self._spare, None
        relay = spare if spare is not None and spare.attach(local) else None
        if relay is not None:
            self.counts["spares_used"] += 1
        else:
            relay = Relay(self._open_or_wait(), self._wake)
            if not relay.attach(local):
                raise Unreachable(f"the agent on {self._name} closed a new connection at once")
        with self._changed:
            self._used.add(relay)
        self._wake()  # for the next spare
        return relay

    def give_back(self, relay: Relay) -> None:
        """Count the relay as ended."""
        with self._changed:
            self._used.discard(relay)
            self._changed.notify_all()

    def _open(self) -> Timed:
        link = self._link
        if link is None:
            raise Unreachable(f"the SSH connection to {self._name} was lost")
        stream = link.open()
        self.counts["channels"] += 1
        return stream

    def _open_or_wait(self) -> Timed:
        try:
            return self._open()
        except Full:
            if not self._wait_for_end():
                raise
        return self._open()

    def _wait_for_end(self) -> bool:
        """Return whether some connection ended within the time a caller is made to wait."""
        with self._changed:
            before = len(self._used)
            return self._changed.wait_for(lambda: len(self._used) < before, FREE_WAIT_S)

    def _set_spare(self, relay: Relay | None) -> None:
        with self._changed:
            old, self._spare = self._spare, relay
        if old is not None:
            old.close()


def busy(most: int) -> CodeSmithError:
    """Return the refusal of one connection too many."""
    return CodeSmithError(f"{most} local connections are open at once; no more are taken", hint="inv node.status")
