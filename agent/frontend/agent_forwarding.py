"""Agent forwarding: connections to operators' ssh agents. Each serves the one call that names its token."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Dict, Iterator, NamedTuple, Optional

from agent.shared.errors import InvalidParams

WAITING_MAX = 32
# How long a connection waits for its call.
UNCLAIMED_S = 60.0
# The peer whose call this thread carries out.
caller_uid: ContextVar[Optional[int]] = ContextVar("caller_uid", default=None)


class ForwardedAgent(NamedTuple):
    """One connection to an ssh agent, and the uid of the peer that opened it; `over` is set when its call has ended."""

    token: str
    uid: int
    connection: socket.socket
    over: threading.Event


class ForwardedAgents:
    """The forwarded agents that wait for their call; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waiting: Dict[str, ForwardedAgent] = {}

    def offer(self, token: str, uid: int, connection: socket.socket) -> Optional[ForwardedAgent]:
        """Keep a connection for the call that will name this token; None when too many wait, or the token is in use."""
        forwarded = ForwardedAgent(token, uid, connection, threading.Event())
        with self._lock:
            if len(self.waiting) >= WAITING_MAX or token in self.waiting:
                return None
            self.waiting[token] = forwarded
        return forwarded

    def await_end(self, forwarded: ForwardedAgent) -> None:
        """Return when the call that claimed it has ended, or when no call can: after UNCLAIMED_S, or its owner left."""
        poll = select.poll()
        poll.register(forwarded.connection, select.POLLRDHUP)
        poll.poll(UNCLAIMED_S * 1000)
        with self._lock:
            was_claimed = self.waiting.get(forwarded.token) is not forwarded
            if not was_claimed:
                del self.waiting[forwarded.token]
        if was_claimed:
            forwarded.over.wait()

    @contextmanager
    def claim(self, token: Optional[str]) -> Iterator[Optional[int]]:
        """Claim the agent of a token for this call, and yield its descriptor; None without a token.

        InvalidParams when there is none, another call claimed it, or another peer uid forwarded it.
        """
        if token is None:
            yield None
            return
        with self._lock:
            forwarded = self.waiting.get(token)
            if forwarded is None or forwarded.uid != caller_uid.get():
                raise InvalidParams.of("credential", "no ssh agent is forwarded for this call")
            del self.waiting[token]
        try:
            yield forwarded.connection.fileno()
        finally:
            try:
                forwarded.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # its owner closed it
            forwarded.over.set()
