"""Connections to an operator's ssh agent: each waits for the one call that names its token, and ends with it."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Dict, Iterator, NamedTuple, Optional

from agent.shared.errors import InvalidParams

LOANS_MAX = 32
# From the connection to the call; the two leave the operator's machine one after the other.
UNCLAIMED_S = 60.0
# The peer whose call this thread carries out.
caller_uid: ContextVar[Optional[int]] = ContextVar("caller_uid", default=None)


class ForwardedAgent(NamedTuple):
    """One connection, who opened it, and when it is over."""

    token: str
    uid: int
    connection: socket.socket
    over: threading.Event


class ForwardedAgents:
    """Those that wait for their call; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Dict[str, ForwardedAgent] = {}

    def offer(self, token: str, uid: int, connection: socket.socket) -> Optional[ForwardedAgent]:
        """Keep a connection for the call that will name this token; None for one too many, or a token twice."""
        forwarded = ForwardedAgent(token, uid, connection, threading.Event())
        with self._lock:
            if len(self._waiting) >= LOANS_MAX or token in self._waiting:
                return None
            self._waiting[token] = forwarded
        return forwarded

    def await_end(self, forwarded: ForwardedAgent) -> None:
        """Return when the call that took it is over, or nobody took it: in time, or before its owner left."""
        poll = select.poll()
        poll.register(forwarded.connection, select.POLLRDHUP)
        poll.poll(UNCLAIMED_S * 1000)
        with self._lock:
            was_taken = self._waiting.get(forwarded.token) is not forwarded
            if not was_taken:
                del self._waiting[forwarded.token]
        if was_taken:
            forwarded.over.wait()

    @contextmanager
    def taken(self, token: Optional[str]) -> Iterator[Optional[int]]:
        """Take what is lent under a token to this call, and yield its descriptor; None for no token.

        InvalidParams when there is none, it was taken before, or somebody else lent it.
        """
        if token is None:
            yield None
            return
        with self._lock:
            forwarded = self._waiting.get(token)
            if forwarded is None or forwarded.uid != caller_uid.get():
                raise InvalidParams.of("credential", "no ssh agent is lent to this call")
            del self._waiting[token]
        try:
            yield forwarded.connection.fileno()
        finally:
            try:
                forwarded.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # its owner left
            forwarded.over.set()
