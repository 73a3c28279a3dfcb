"""One SSH connection to a node: open streams to the agent, prove which agent answers, notice a lost network."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from codesmith.errors import CodeSmithError, Unreachable
from codesmith.secrets import Secrets
from codesmith.tunnel import dial
from codesmith.tunnel import proof as proofs
from codesmith.tunnel.proof import AGENT_SOCKET, Facts, Proof, TimedStream
from codesmith.tunnel.relay import LOST, end

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node

log = logging.getLogger("codesmith.tunnel")

CONNECT_S = 10.0
OPEN_S = 8.0
ANSWER_S = 10.0
FREE_WAIT_S, FREE_POLL_S = 2.0, 0.1
STREAMLOCAL, DIAL = "streamlocal", "dial"


class StreamRefused(Unreachable):
    """sshd answers, but refuses the stream."""


class NoFreeSession(Unreachable):
    """sshd allows no more sessions on this connection: it is busy, not broken."""


class Link(Protocol):
    """What an endpoint needs of the connection to its node."""

    via: str
    carrier: str

    @property
    def why_lost(self) -> str:
        """Why the connection was lost; "" while it is open."""

    def prove(self) -> tuple[Proof, TimedStream]:
        """Return which agent answers and the stream on which it answered; raise the reason if none does."""

    def open(self, socket: str = AGENT_SOCKET) -> TimedStream:
        """Return one new stream to a socket of the agent."""

    def is_alive(self) -> bool:
        """Return whether the connection is still open."""

    def close(self) -> None:
        """End the connection and every stream on it."""


class _Background:
    """Reads the facts in a thread of its own."""

    def __init__(self, work: Callable[[], Facts]) -> None:
        self._work = work
        self._outcome: Facts | CodeSmithError = Unreachable("the node was not looked at")
        self._thread = threading.Thread(target=self._run, name="look", daemon=True)
        self._thread.start()

    def result(self) -> Facts:
        """Wait for the facts and return them, or raise the error; may be called again."""
        self._thread.join()
        if isinstance(self._outcome, CodeSmithError):
            raise self._outcome
        return self._outcome

    def _run(self) -> None:
        try:
            self._outcome = self._work()
        except CodeSmithError as error:
            self._outcome = error
        except LOST as error:
            self._outcome = Unreachable(f"the SSH connection was lost: {error}")


class SshLink:
    """A connection to one node, by either carrier, and the choice between stream-local channels and `dial`."""

    def __init__(self, node: Node, on_lost: Callable[[], None], secrets: Secrets) -> None:
        from codesmith.ssh import target
        from codesmith.ssh.connect import connect

        self._name, self._on_lost = node.name, on_lost
        self._target = target.resolve(node)
        self._connection = connect(self._target, timeout_s=CONNECT_S, secrets=secrets)
        self._transport: Any = self._connection.transport
        self.via, self._why = STREAMLOCAL, ""
        self.carrier = self._connection.carrier
        self._expected_id = ""
        self._closed = threading.Event()
        self._connection.on_lost(self._lose)

    def prove(self) -> tuple[Proof, TimedStream]:
        """Return which agent answers and the stream on which it answered; raise the reason if none does.

        The first proof on a connection reads the expected id from the node while the agent is asked already, which
        saves two round trips. That command also makes sshd set TCP_NODELAY on its side.
        """
        facts = self._read_facts if self._expected_id else _Background(self._read_facts).result
        stream = self._open_or_explain(facts)
        try:
            proof = proofs.ask_version(stream, self._name, ANSWER_S)
            self._expected_id = self._expected_id or self._read_expected_id(facts())
            proofs.ensure_expected(proof, self._expected_id, self._name)
        except CodeSmithError:
            end(stream)
            if self.via == DIAL:  # with `dial` a stopped agent only shows as the end of the stream
                proofs.ensure_prepared(self._read_facts(), self._name, self._target.user)
            raise
        return proof, stream

    def open(self, socket: str = AGENT_SOCKET) -> TimedStream:
        """Return one new stream to a socket of the agent.

        StreamRefused if sshd or the agent's socket refuses, NoFreeSession if sshd has no session left for `dial`,
        Unreachable if the connection is lost.
        """
        from paramiko import ChannelException

        try:
            return self._dial(socket) if self.via == DIAL else self._streamlocal(socket)
        except ChannelException as error:
            if self.via == DIAL:  # sshd also gives a session if the agent is stopped, so the sessions are used up
                raise NoFreeSession(
                    f"all SSH sessions to {self._name} are in use: its sshd forbids stream-local forwarding",
                    hint="allow it there: AllowStreamLocalForwarding yes, or raise MaxSessions in sshd_config",
                ) from error
            raise StreamRefused(f"{self._name} refused a connection to its agent: {error.text}") from error
        except LOST as error:
            self._lose(f"no channel: {str(error) or type(error).__name__}")
            raise Unreachable(
                f"the SSH connection to {self._name} was lost: {self.why_lost or 'closed'}",
                hint=f"inv node.status --node {self._name}",
            ) from error

    @property
    def why_lost(self) -> str:
        """Why the connection was lost; the connection's own reason comes first, because it is the cause."""
        return self._connection.why_lost or self._why

    def is_alive(self) -> bool:
        """Return whether the connection is still open."""
        return not self._closed.is_set() and bool(self._transport.is_active())

    def close(self) -> None:
        """End the connection and every stream on it."""
        self._closed.set()
        try:
            self._transport.close()
            self._connection.close()
        except LOST as error:
            log.debug("%s: while closing: %r", self._name, error)

    def _read_expected_id(self, facts: Facts) -> str:
        if not facts.node_id:
            proofs.ensure_prepared(facts, self._name, self._target.user)
        return facts.node_id

    def _open_or_explain(self, facts: Callable[[], Facts]) -> TimedStream:
        try:
            return self._open_when_free() if self.via == DIAL else self.open()
        except StreamRefused:
            # sshd answers alike for "no such socket", "no permission" and "forwarding is forbidden"; the facts differ.
            proofs.ensure_prepared(facts(), self._name, self._target.user)
        self.via = DIAL
        log.info("%s: sshd forbids stream-local forwarding, using `dial`", self._name)
        return self._open_when_free()

    def _open_when_free(self) -> TimedStream:
        """Open by `dial`, for up to FREE_WAIT_S: sshd counts a session that has just ended a little longer."""
        deadline = time.monotonic() + FREE_WAIT_S
        while True:
            try:
                return self.open()
            except NoFreeSession:
                if self._closed.wait(FREE_POLL_S) or time.monotonic() > deadline:
                    raise

    def _read_facts(self) -> Facts:
        from codesmith.ssh import script

        try:
            result = script.run_script(self._connection, proofs.FACTS_SCRIPT, timeout_s=ANSWER_S)
        except (script.ScriptGarbled, script.ScriptTimeout) as error:
            raise Unreachable(error.problem, hint=error.hint) from error
        return proofs.parse_facts(result.stdout.decode("utf-8", "replace"), result.stderr)

    def _streamlocal(self, socket: str) -> TimedStream:
        stream: TimedStream = self._transport.open_streamlocal(socket, timeout=OPEN_S)
        return stream

    def _dial(self, socket: str) -> TimedStream:
        channel = self._transport.open_session(timeout=OPEN_S)
        channel.exec_command(dial.command(socket))
        stream: Any = dial.DialStream(channel)
        return stream  # type: ignore[no-any-return]

    def _lose(self, why: str) -> None:
        if not self._closed.is_set():
            self._why = why
            self._closed.set()
            self._on_lost()
            self.close()
