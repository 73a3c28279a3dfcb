"""Serve the verbs: one process that forks a child per connection and exits when it is idle.

A child is single-threaded, so a verb may change its uid and fork again; and a long verb does not block others. Once
this process has ended, systemd kills what is left, so it waits for the verbs: an account tool must not end half-way.
"""

from __future__ import annotations

import os
import pwd
import select
import signal
import socket
import socketserver
import sqlite3
import sys
from contextlib import suppress
from typing import Any, Dict, List, Optional

from agent.helper import logins, verbs
from agent.helper.ledger.ledger import Ledger
from agent.helper.ledger.lock import exclusive_ledger
from agent.helper.runtime import units
from agent.helper.trees import trash
from agent.shared import framing
from agent.shared.errors import AgentError
from agent.shared.names import AGENT_LOGIN
from agent.shared.rate_limit import RateLimit
from agent.shared.sockets import peer_uid, systemd_socket

# Somebody who works with a node calls now and then; a helper that is there answers 100 to 250 ms sooner.
IDLE_S = 60.0
CHILDREN_MAX = 128
REQUEST_TIMEOUT_S = 10


class Handler(socketserver.BaseRequestHandler):
    """One connection: read one verb, answer."""

    def handle(self) -> None:
        """Serve one request."""
        connection: socket.socket = self.request
        connection.settimeout(REQUEST_TIMEOUT_S)
        signal.alarm(REQUEST_TIMEOUT_S)  # ends this process, also when a byte arrives now and then
        stops: List[int] = []
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, lambda number, _: stops.append(number))
        verb = ""
        try:
            message, descriptor = framing.receive_with_descriptor(connection, framing.REQUEST_MAX)
            signal.alarm(0)
            verb = str(message.get("verb"))
            framing.send(connection, _answer(message, connection, descriptor))
        except OSError:
            pass  # the front end went away; it resumes the change from its journal
        signal.alarm(0)
        connection.close()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what follows, the next helper does as well
        if stops:
            return
        if self.server.is_fresh or verb in verbs.REMOVING:  # type: ignore[attr-defined]
            trash.empty_quietly()
            logins.finish_sweeps()
            _stop_of_other_releases()


class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """Listens on systemd's socket; after `timeout` seconds without a connection it checks whether it is idle."""

    max_children = CHILDREN_MAX
    timeout = IDLE_S

    def __init__(self, listening: socket.socket) -> None:
        socketserver.BaseServer.__init__(self, "", Handler)
        self.socket = listening
        self.is_idle = False
        self.is_fresh = True
        self._refusals = RateLimit()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Accept root and the front end; close any other connection and write a line to the journal."""
        peer = peer_uid(request)
        if peer in (0, _agent_uid()):
            return True
        more = self._refusals.admit(peer)
        if more is not None:
            note = f"refused: uid {peer} is not {AGENT_LOGIN}; {more} more since the last such line"
            print(note, file=sys.stderr, flush=True)
        return False

    def handle_timeout(self) -> None:
        """Note that the server is idle, unless a child still works."""
        super().handle_timeout()
        self.is_idle = not self.active_children

    def process_request(self, request: Any, client_address: Any) -> None:
        """Fork a child for the request; the first child also empties the trash of an earlier helper."""
        super().process_request(request, client_address)
        if self.is_fresh:
            self.is_fresh = False
            with suppress(AgentError):  # whoever needs it asks again
                units.systemd_version()  # for later children, while the first one works

    def get_request(self) -> Any:
        """Accept a connection; the server is not idle any more."""
        self.is_idle = False
        return super().get_request()


def serve() -> None:
    """Serve until idle or SIGTERM, and wait for the verbs. systemd keeps the socket and starts the next one."""
    os.umask(0o077)
    Ledger.check_once()
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGTERM, lambda *_: None)
    server = Server(socket.socket(fileno=systemd_socket()))
    while not server.is_idle:
        ready, _, _ = select.select([server.socket, woken], [], [], server.timeout)
        if woken in ready:
            break
        if ready:
            server.handle_request()
        else:
            server.handle_timeout()
        server.service_actions()  # handle_request, unlike serve_forever, reaps no ended child
    for pid in server.active_children or ():
        os.kill(pid, signal.SIGTERM)
    server.server_close()


def _stop_of_other_releases() -> None:
    """Forget sockets of other releases; where that cannot be done now, the next helper does it."""
    if not units.has_looked_for_other_releases():
        with suppress(AgentError, OSError, sqlite3.Error), exclusive_ledger(frees_space=True):
            units.stop_of_other_releases()


def _agent_uid() -> int:
    try:
        return pwd.getpwnam(AGENT_LOGIN).pw_uid
    except KeyError:
        return 0


def _answer(message: Dict[str, Any], connection: socket.socket, descriptor: Optional[int]) -> Dict[str, Any]:
    verb, arguments = message.get("verb"), message.get("arguments")
    try:
        if set(message) != {"verb", "arguments"} or not isinstance(verb, str) or not isinstance(arguments, dict):
            return {"error": {"code": -32600, "message": "not a request", "data": {"kind": "invalid_request"}}}
        return {"result": verbs.call(verb, arguments, connection, descriptor)}
    except AgentError as error:
        return {"error": error.to_dict()}
    except Exception:  # the border to the front end: log, answer with a reference
        import traceback  # imports much that is needed here alone

        reference = os.urandom(6).hex()
        print(f"internal error {reference} in {verb}\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        data = {"kind": "internal", "reference": reference, "hint": "inv node.logs"}
        return {"error": {"code": -32603, "message": f"{verb} failed inside the helper", "data": data}}
