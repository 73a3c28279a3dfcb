"""Keep the endpoint of one node alive: connect, prove the agent, serve, notice a loss, connect again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from codesmith.errors import CodeSmithError, Unreachable, error_to_dict, without_traceback
from codesmith.paths import state_dir
from codesmith.tunnel import identity
from codesmith.tunnel.backoff import REFUSALS, Backoff
from codesmith.tunnel.link import DIAL, Link, NoFreeSession
from codesmith.tunnel.local_endpoint import address_of, port_of, scoped_path, token_path
from codesmith.tunnel.pool import Pool
from codesmith.tunnel.proof import SCOPED_SOCKET
from codesmith.tunnel.relay import end
from codesmith.tunnel.state import CONNECTING, DEGRADED, READY, STOPPED, EndpointState
from codesmith.tunnel.unix_listener import UnixListener
from codesmith.tunnel.worker import Worker

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node
    from codesmith.tunnel.acceptor import Acceptor
    from codesmith.tunnel.tcp_listener import TcpListener

log = logging.getLogger("codesmith.tunnel")

MIN_GAP_S = 1.0

Opener = Callable[["Node", Callable[[], None]], Link]


class Endpoint:
    """The endpoint of one node. Its worker makes every attempt; other threads ask for one and wait for it.

    The worker's thread is there from a loss until the endpoint is ready again, and for a moment to open the next spare.
    """

    def __init__(
        self,
        node: Node,
        path: Path,
        opener: Opener,
        acceptor: Acceptor,
        *,
        is_resumed: bool = False,
    ) -> None:
        self.node, self._path, self._opener = node, path, opener
        # An endpoint that was ready once is tried again for ever; so is one resumed from another forwarder.
        self._was_ready = is_resumed
        self._changed = threading.Condition()
        self._worker = Worker(f"keep {node.name}", self._work)
        self._is_stopping = self._in_doubt = self._attempting = False
        self._outcomes, self._last_attempt = 0, 0.0
        self._error: CodeSmithError | None = None
        self._state, self._since = CONNECTING, time.time()
        self._node_id = self._agent_version = ""
        self._link: Link | None = None
        self._connections = 0
        self._pool = Pool(node.name, self._worker.wake, lambda far: acceptor.when_calm(self._worker.wake, far))
        self._unix_listener = UnixListener(path, self._pool, acceptor, self.await_ready, self.request_proof)
        self._tcp_listener = _tcp_listener(node, path, acceptor)
        # Its own pool: a stream to one socket never serves the other. Made when somebody asks for it.
        self._scoped_pool: Pool | None = None
        self._scoped_listener: UnixListener | None = None
        self._acceptor = acceptor
        self._backoff = Backoff()
        self._worker.wake()

    # -- called by other threads

    @property
    def is_stopped(self) -> bool:
        """Whether the endpoint has ended, or its first attempt failed."""
        return self._state == STOPPED

    @property
    def has_spare(self) -> bool:
        """Whether a stream is open already for the next local connection."""
        return self._pool.has_spare()

    def view(self) -> EndpointState:
        """Return the state as `node.status` shows it."""
        counts = {"ssh_connections": self._connections, **self._pool.counts, **self._unix_listener.counts}
        with self._changed:
            error, link = self._error, self._link
            state, problem = self._state, self._tcp_listener.problem if self._tcp_listener else None
            if state == READY and problem is not None:
                state, error = DEGRADED, problem
            return EndpointState(
                name=self.node.name,
                registry=str(self.node.registry),
                host=self.node.place,
                endpoint=address_of(self.node),
                state=state,
                reason=error.problem if error else "",
                since=self._since,
                node_id=self._node_id,
                agent_version=self._agent_version,
                key=self.node.key,
                kind=error_to_dict(error)["kind"] if error else "",
                hint=error.hint if error else "",
                via=link.via if link else "",
                carrier=link.carrier if link else "",
                token_file=str(token_path(self.node)) if self._tcp_listener else "",
                scoped=f"unix:{scoped_path(self.node)}" if self.is_scoped else "",
                counts={**counts, "open": self._pool.open_now},
            )

    def open_scoped(self) -> Path:
        """Serve the node's socket of tokens too, and return the path; once it is ready, and again if it is."""
        with self._changed:
            if self._scoped_pool is None or self._scoped_listener is None:
                self._scoped_pool = Pool(self.node.name, self._worker.wake, lambda _: None, SCOPED_SOCKET)
                if self._link is not None:
                    self._scoped_pool.use(self._link, None)
                self._scoped_listener = UnixListener(
                    scoped_path(self.node), self._scoped_pool, self._acceptor, self.await_ready, self.request_proof
                )
        if not self._is_stopping:
            self._scoped_listener.ensure_open()
        return scoped_path(self.node)

    @property
    def is_scoped(self) -> bool:
        """Whether it serves the node's socket of tokens too."""
        return self._scoped_listener is not None

    def ensure_ready(self, timeout_s: float) -> None:
        """Return once the endpoint is ready; raise the error of the attempt made for this call, or Unreachable."""
        with self._changed:
            if self._state != READY or not self._unix_listener.is_open():
                self._worker.wake()
                self._wait_outcome(timeout_s)
            if self._state != READY:
                raise self._reason(f"gave no answer within {timeout_s:.0f} s")
        self._open_port()

    def await_ready(self, patience_s: float) -> None:
        """Return once the endpoint is ready, within `patience_s`; else raise the reason. For local connections."""
        with self._changed:
            if self._state == READY and not self._in_doubt:
                return
            # Calls must not cause refused logins: the caller gets the known reason at once.
            if self._attempting or not isinstance(self._error, REFUSALS):
                self._worker.wake()
                self._wait_outcome(patience_s)
            if self._state != READY:
                raise self._reason("is not connected yet")

    def request_proof(self) -> None:
        """Have the agent proven again: no stream could be opened although the endpoint is ready."""
        with self._changed:
            self._in_doubt = True
        self._worker.wake()

    def stop(self) -> None:
        """Remove the socket and end every connection."""
        self._is_stopping = True
        self._worker.wake()
        self._close_listeners()
        link = self._link
        if link is not None:
            link.close()
        self._set(STOPPED, None)

    def join(self, timeout_s: float) -> None:
        """Wait until the worker has ended."""
        self._worker.join(timeout_s)

    def look(self) -> None:
        """Have done what is due by its time, or unnoticed so far. Call it every few seconds; it returns at once."""
        if self._state == STOPPED or self._worker.is_running:
            return
        if self._state != READY or self._is_attempt_due() or not self._pool.has_spare() or self._is_port_due():
            self._worker.wake()

    # -- its worker

    def _work(self) -> None:
        """Return once the endpoint is ready and has a spare, or has ended."""
        while not self._is_stopping and self._state != STOPPED:
            if self._state == READY and not self._is_attempt_due() and (self._pool.has_spare() or self._refill()):
                self._open_port()  # a taken port may be free by now
                return
            error = self._attempt()
            if error is not None and self._was_ready:  # a first one is not repeated: the caller may ask again
                self._pause(error)
        self._close_listeners()
        self._drop_link()
        self._set(STOPPED, self._error)

    def _is_attempt_due(self) -> bool:
        """Return whether connection or spare are lost, the spare is old, the socket missing, or a proof requested."""
        is_lost = self._link is None or not self._link.is_alive()
        return is_lost or self._in_doubt or self._pool.is_spare_due() or not self._unix_listener.is_open()

    def _is_port_due(self) -> bool:
        return self._tcp_listener is not None and not self._tcp_listener.is_open()

    def _attempt(self) -> CodeSmithError | None:
        """Connect if need be and prove the agent; return the error if that fails."""
        self._degrade_if_lost()
        self._keep_gap()
        self._worker.begin()
        with self._changed:
            self._attempting, self._in_doubt = True, False
        error: CodeSmithError | None = None
        try:
            self._connect()
        except CodeSmithError as caught:
            error = without_traceback(caught)
        except Exception as caught:  # the outermost function of this thread: the next attempt must follow
            log.exception("%s: unexpected", self.node.name)
            error = CodeSmithError(
                f"the forwarder failed on {self.node.name}: {caught!r}", hint=f"tail {state_dir() / 'forwarder.log'}"
            )
        self._last_attempt = time.monotonic()
        with self._changed:
            self._attempting = False
            self._outcomes += 1
            # A first failure is final: the next caller gets a new endpoint, not the old error of this one.
            failed = DEGRADED if self._was_ready else STOPPED
            self._set(failed if error else READY, error)
        if error is None:
            self._was_ready = True
            self._backoff.reset()
        return error

    def _degrade_if_lost(self) -> None:
        """Show that the connection is lost before the next attempt, which may take long."""
        link = self._link
        if link is not None and not link.is_alive():
            problem = f"the SSH connection to {self.node.name} was lost: {link.why_lost or 'closed'}"
            self._set(DEGRADED, Unreachable(problem, hint=self._retry_hint))
            self._last_attempt = 0.0

    def _connect(self) -> None:
        link = self._link
        if link is None or not link.is_alive():
            self._drop_link()
            link = self._link = self._opener(self.node, self._worker.wake)
            self._connections += 1
        if link.via == DIAL:
            self._pool.drop_spare()
        try:
            proof, stream = link.prove()
        except NoFreeSession:
            if self._pool.open_now:  # every session carries a call: the endpoint is busy, not broken
                return
            raise
        try:
            identity.check(self.node, proof.node_id)
        except CodeSmithError:
            self._drop_link()
            raise
        self._node_id, self._agent_version = proof.node_id, proof.agent_version
        if not proof.keeps_alive:
            end(stream)
        self._pool.use(link, stream if proof.keeps_alive else None)
        with self._changed:
            if self._scoped_pool is not None:
                self._scoped_pool.use(link, None)
        if not self._is_stopping:
            self._unix_listener.ensure_open()
            self._open_port()

    def _open_port(self) -> None:
        if self._tcp_listener is not None:
            self._tcp_listener.ensure_open()

    def _close_listeners(self) -> None:
        if self._tcp_listener is not None:
            self._tcp_listener.close()
        self._unix_listener.close()
        with self._changed:
            if self._scoped_listener is not None:
                self._scoped_listener.close()

    def _refill(self) -> bool:
        try:
            self._pool.refill()
        except CodeSmithError as error:
            log.debug("%s: no spare: %s", self.node.name, error.problem)
            return False
        return True

    def _pause(self, error: CodeSmithError) -> None:
        wait_s = self._backoff.wait_s(error)
        log.debug("%s: next attempt in %.1f s", self.node.name, wait_s)
        self._worker.wait(wait_s)  # not at all if it was stopped meanwhile

    def _keep_gap(self) -> None:
        """Leave at least MIN_GAP_S between attempts."""
        while not self._is_stopping and (left_s := self._last_attempt + MIN_GAP_S - time.monotonic()) > 0:
            self._worker.begin()
            self._worker.wait(left_s)

    def _drop_link(self) -> None:
        self._pool.drop()
        with self._changed:
            if self._scoped_pool is not None:
                self._scoped_pool.drop()
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _reason(self, otherwise: str) -> CodeSmithError:
        if self._is_stopping:
            name = self.node.name
            return Unreachable(f"{name} was disconnected meanwhile", hint=f"inv node.connect --node {name}")
        return (
            without_traceback(self._error)
            if self._error
            else Unreachable(f"{self.node.name} {otherwise}", hint=self._retry_hint)
        )

    @property
    def _retry_hint(self) -> str:
        return f"it is tried again by itself; watch it: inv node.status --node {self.node.name}"

    def _wait_outcome(self, timeout_s: float) -> None:
        """Wait for the end of the current attempt, or of the next one; call it with the lock held."""
        target = self._outcomes + 1
        self._changed.wait_for(lambda: self._outcomes >= target or self.is_stopped, timeout_s)

    def _set(self, state: str, error: CodeSmithError | None) -> None:
        with self._changed:
            state = STOPPED if self._is_stopping else state
            is_changed = state != self._state or (error and error.problem) != (self._error and self._error.problem)
            self._state, self._error = state, error
            self._changed.notify_all()
            if not is_changed:
                return
            self._since = time.time()
        log.info("%s: %s%s", self.node.name, state, f" ({error.kind}: {error.problem})" if error else "")


def _tcp_listener(node: Node, path: Path, acceptor: Acceptor) -> TcpListener | None:
    port = port_of(node)
    if port is None:
        return None
    from codesmith.tunnel.tcp_listener import TcpListener  # only a forwarder with such an endpoint pays for the import

    return TcpListener(node.name, port, token_path(node), path, acceptor)
