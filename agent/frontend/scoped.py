"""The socket of tokens: no request without a valid one gets past 401, and a token reaches one workspace alone."""

from __future__ import annotations

import re
import socket
import time
from typing import TYPE_CHECKING, Any, List, Optional

from agent.frontend import stream
from agent.frontend.agent_forwarding import caller_uid
from agent.frontend.callers import Token, caller_token
from agent.frontend.connections import Connections
from agent.frontend.http_server import RequestHandler, Server
from agent.frontend.token_streams import pump
from agent.shared.errors import AgentError, LimitReached

if TYPE_CHECKING:
    from agent.frontend.dispatch import Dispatcher

SECRET = "[0-9a-f]{64}"  # noqa: S105  (its grammar)
CONNECTIONS_MAX = 128
# Who shows a wrong secret waits so long for the answer: with CONNECTIONS_MAX that bounds the rate of guesses.
WRONG_S = 0.5


class ScopedHandler(RequestHandler):
    """One connection; each of its requests shows a token."""

    server: ScopedServer
    token: Token
    ours: Optional[socket.socket] = None
    _challenges = False

    def parse_request(self) -> bool:
        """Read the head of a request; 401 unless it shows one valid token."""
        if not super().parse_request():
            return False
        token = self._shown_token()
        if token is None:
            self._refuse(401, "a valid token is needed here: Authorization: Bearer SECRET (inv token.create WORKSPACE)")
            return False
        self.token = token
        return True

    def _shown_token(self) -> Optional[Token]:
        shown: List[str] = self.headers.get_all("Authorization")
        words = re.fullmatch(f"Bearer ({SECRET})", shown[0]) if len(shown) == 1 else None
        if words is None:
            return None
        try:
            token = self.server.dispatcher.context.tokens.find(words[1])
        except AgentError:  # a damaged store knows no token
            token = None
        if token is None:
            self.server.connections.mark_busy(self.connection)
            time.sleep(WRONG_S)
        return token

    def _answer(self, status: int, error: AgentError) -> None:
        self._challenges = status == 401
        super()._answer(status, error)

    def end_headers(self) -> None:
        """Say with a 401 what is needed (RFC 9110, section 11.6.1)."""
        if self._challenges:
            self._challenges = False
            self.send_header("WWW-Authenticate", "Bearer")
        super().end_headers()

    def _forward_agent(self) -> None:
        self._refuse(403, "an ssh agent is lent at the operators' socket alone; give git a token or a key")

    def _dispatch(self, method: str, params: Any, is_notification: bool, refusal: Optional[AgentError]) -> Any:
        caller_uid.set(self.peer_uid)
        caller_token.set(self.token)
        return self.server.dispatcher.call(
            method, params, peer_uid=self.peer_uid, is_notification=is_notification, refusal=refusal, token=self.token
        )

    def _take_ticket(self, token: str) -> Optional[stream.Ticket]:
        return self.server.dispatcher.take_ticket(token, self.peer_uid, self.token.id)

    def _pass_on(self, ticket: Optional[stream.Ticket]) -> None:
        """Carry the stream between client and runtime, so that it ends with its token."""
        tokens, token = self.server.dispatcher.context.tokens, self.token
        if ticket is None:
            super()._pass_on(None)
            return
        try:
            with tokens.streams.one_more(token.id, self.connection):
                super()._pass_on(ticket)
                if self.ours is not None:
                    with self.ours:
                        pump(self.connection, self.ours, lambda: tokens.is_valid(token))
        except LimitReached as error:
            self._answer(503, error)
            self.wfile.flush()

    def _hand_over(self) -> int:
        """Return one end of a pair for the runtime; the other is ours."""
        self.ours, theirs = socket.socketpair()
        return theirs.detach()


class ScopedServer(Server):
    """Serves the socket of tokens."""

    def __init__(self, listening: socket.socket, dispatcher: Dispatcher) -> None:
        super().__init__(listening, dispatcher, ScopedHandler)
        self.connections = Connections(CONNECTIONS_MAX)


def serve(listening: socket.socket, dispatcher: Dispatcher) -> None:
    """Serve a listening socket; does not return."""
    ScopedServer(listening, dispatcher).serve_forever(poll_interval=3600)
