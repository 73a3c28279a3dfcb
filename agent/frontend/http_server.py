"""The front end's server: JSON-RPC 2.0 over HTTP on the Unix socket that systemd passes, one thread per connection.

jsonrpclib-pelix has the HTTP handler. This one is stricter: plain framing, bounded bodies, threads and idle times, and
every refusal is a JSON-RPC error. jsonrpc.py reads the bodies.
"""

from __future__ import annotations

import grp
import io
import os
import pwd
import re
import socket
import socketserver
import struct
import sys
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Optional, Type

from jsonrpclib.SimpleJSONRPCServer import SimpleJSONRPCRequestHandler

from agent.frontend import headers, stream
from agent.frontend.agent_forwarding import caller_uid
from agent.frontend.connections import CONNECTIONS_MAX, Connections
from agent.frontend.dispatch import Dispatcher
from agent.frontend.headers import Headers
from agent.frontend.jsonrpc import CONFIG, Invalid, JsonRpc, NotJson, dump_json, error_answer
from agent.frontend.runtime_client import RuntimeSilent
from agent.frontend.timed_stream import BODY_BYTES_MAX, REPLY_TIMEOUT_S, TimedStream
from agent.shared.errors import AgentError
from agent.shared.names import CLIENTS_GROUP, LOGIN_PREFIX
from agent.shared.sockets import peer_uid

AGENT_PATH = "/ssh-agent"


class RequestHandler(SimpleJSONRPCRequestHandler):
    """One connection: HTTP/1.1 with keep-alive, POST / only."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "codesmith", ""
    rpc_paths = ("/",)
    max_request_size = BODY_BYTES_MAX
    disable_nagle_algorithm = False  # not a TCP socket
    headers: Headers
    server: Server

    def setup(self) -> None:
        """Wrap the socket in a TimedStream, and ask the kernel for the peer's uid."""
        self.connection = self.request
        self.stream = TimedStream(self.connection)
        self.rfile = io.BufferedReader(self.stream)
        self.wfile = io.BufferedWriter(self.stream)  # so headers and body are sent together
        self.peer_uid = peer_uid(self.connection)

    def handle(self) -> None:
        """Serve the peer if it may call; otherwise refuse the connection and record that."""
        if not may_call(self.peer_uid):
            self.server.dispatcher.note_refused_peer(self.peer_uid)
            self.close_connection = True
            self.raw_requestline, self.request_version, self.command = b"", "HTTP/1.1", "POST"
            self._refuse(403, f"only root and members of {CLIENTS_GROUP} may call")
            return
        try:
            super().handle()
        except (socket.timeout, ConnectionError):
            pass  # the caller closed the connection, or takes too long
        finally:
            self.server.connections.forget(self.connection)

    def handle_one_request(self) -> None:
        """Wait for a request. Until it arrives, the connection may be closed to make room for another caller."""
        self.server.connections.mark_idle(self.connection)
        self.stream.wait_for_request()
        super().handle_one_request()

    def parse_request(self) -> bool:
        """Read the request line and the headers, in place of http.server: it reads headers as it does an e-mail.

        The deadline of a request that arrived with the previous one starts here.
        """
        self.stream.begin_request()
        self.command, self.request_version, self.close_connection = "", self.protocol_version, True
        self.requestline = self.raw_requestline.decode("latin-1").rstrip("\r\n")
        words = re.fullmatch(r"(\S+) +(\S+) +HTTP/1\.([01])", self.requestline)
        if words is None:
            if self.requestline:
                self._refuse(400, "a request begins with METHOD PATH HTTP/1.1")
            return False
        self.command, self.path, minor = words.groups()
        try:
            self.headers = headers.read(self.rfile)
        except headers.TooMany as error:
            self._refuse(431, str(error))
            return False
        if not self.headers.is_plain:
            self._refuse(400, "a header must be NAME: VALUE on a line of its own")
            return False
        self.request_version = f"HTTP/1.{minor}"
        connection = self.headers.get("Connection", "").lower()
        self.close_connection = connection == "close" or (minor == "0" and connection != "keep-alive")
        is_expecting = minor == "1" and self.headers.get("Expect", "").lower() == "100-continue"
        return not is_expecting or self.handle_expect_100()

    def end_headers(self) -> None:
        """Begin the reply and its own deadline. After a request that was cut short, close the connection."""
        self.close_connection = self.close_connection or self.stream.is_cut_short
        self.stream.restart(REPLY_TIMEOUT_S)
        super().end_headers()

    def finish(self) -> None:
        """Close the connection; what the caller did not read is dropped."""
        try:
            super().finish()
        except OSError:
            pass

    def do_POST(self) -> None:
        """Answer one request. There is no time limit while its method runs."""
        lengths = self.headers.get_all("Content-Length")
        if self.path == AGENT_PATH:
            self._forward_agent()
        elif self.path == stream.PATH:
            self._open_stream()
        elif self.headers.get("Content-Encoding", "identity") != "identity":
            self._refuse(415, "Content-Encoding is not supported")
        elif "Transfer-Encoding" in self.headers:
            self._refuse(411, "Content-Length is required, Transfer-Encoding is not supported")
        elif lengths and (len(lengths) > 1 or not re.fullmatch("[0-9]{1,9}", lengths[0])):
            self._refuse(400, "Content-Length must be one whole number")
        else:
            self.stream.expect_body()
            super().do_POST()

    def decode_request_content(self, data: bytes) -> Any:
        """Return the body as text; answer a parse error when it ended early or is not UTF-8.

        Only now does the connection count as busy: a slow sender makes room for others like an idle connection.
        """
        self.server.connections.mark_busy(self.connection)
        if len(data) < int(self.headers["Content-Length"]):
            self._answer(200, NotJson("the request ended early"))
            return None
        try:
            return data.decode()
        except UnicodeDecodeError:
            self._answer(200, NotJson("the request is not UTF-8"))
            return None

    def do_GET(self) -> None:
        """Refuse GET, and tell the caller how to call."""
        self._refuse(405, "POST a JSON-RPC 2.0 request to /; rpc.discover describes the methods")

    def _forward_agent(self) -> None:
        """Keep this connection for the call that names its token; from now on it carries the ssh-agent protocol."""
        self.close_connection = True
        token, forwarded = self.headers.get("CodeSmith-Token", ""), None
        if self.headers.get("Upgrade") != "ssh-agent" or not re.fullmatch("[0-9a-f]{64}", token):
            self._refuse(400, "Upgrade must be ssh-agent, and CodeSmith-Token must be 64 hexadecimal digits")
            return
        self.server.connections.mark_busy(self.connection)
        forwarded = self.server.dispatcher.forwarded_agents.offer(token, self.peer_uid, self.connection)
        if forwarded is None:
            self._refuse(409, "too many ssh agents are forwarded, or this token is in use")
            return
        try:
            self.switch_to("ssh-agent")
        finally:  # it waits for a call already, also when its owner has gone
            self.server.dispatcher.forwarded_agents.await_end(forwarded)

    def _open_stream(self) -> None:
        """Pass this connection to the runtime of a workspace: it carries the stream that its token opens."""
        self.close_connection = True
        problem = stream.problem_of(self.headers)
        if problem:
            self._refuse(400, problem)
        elif self.stream.end_reading() or self.rfile.peek(1):
            self._refuse(400, "nothing may be sent before the answer 101")
        else:
            self.server.connections.mark_busy(self.connection)
            try:
                self._pass_on(self._take_ticket(self.headers["CodeSmith-Token"]))
            finally:
                self._note_answered()

    def _note_answered(self) -> None:
        self.server.dispatcher.context.stream_tokens.note_answered(self.headers["CodeSmith-Token"])

    def _take_ticket(self, token: str) -> Optional[stream.Ticket]:
        return self.server.dispatcher.take_ticket(token, self.peer_uid)

    def _pass_on(self, ticket: Optional[stream.Ticket]) -> None:
        runtimes = self.server.dispatcher.context.runtimes
        if ticket is None:
            self._refuse(401, "the token is unknown, used or expired; the call that gave it gives a new one")
            return
        try:
            runtimes.call(ticket.workspace, "start")
        except AgentError as error:
            self._answer(503, error)
            self.wfile.flush()
            return
        self.switch_to(stream.PROTOCOL)
        self.stream.release()
        descriptor = self._hand_over()
        records = self.server.dispatcher.context.job_records
        if ticket.request == "run":
            records.note_asked(ticket.workspace, ticket.fields["id"])
        try:
            runtimes.call(ticket.workspace, ticket.request, descriptor=descriptor, **ticket.fields)
        except AgentError as error:
            print(f"a stream into workspace {ticket.workspace!r} ended: {error}", file=sys.stderr, flush=True)
            if ticket.request == "run" and not isinstance(error, RuntimeSilent):
                records.forget_asked(ticket.workspace, ticket.fields["id"])
            if ticket.has_frames:
                _send_refusal(descriptor, error)
        finally:
            self._note_answered()
            os.close(descriptor)

    def _hand_over(self) -> int:
        """Return the descriptor for the runtime: the connection, which is closed here without a shutdown.

        That would end the stream for the runtime too.
        """
        return int(self.connection.detach())

    def switch_to(self, protocol: str) -> None:
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", protocol)
        self.end_headers()
        self.wfile.flush()

    def _refuse(self, status: int, problem: str) -> None:
        self._send_fault_response(status, problem, CONFIG)
        self.wfile.flush()

    def _send_fault_response(self, status: int, message: str, config: Any) -> None:
        """Refuse a request whose body is not read: after it the connection cannot be used."""
        self.close_connection = True
        self._answer(status, Invalid(message))

    def report_404(self) -> None:
        """Refuse any other path."""
        self._refuse(404, "POST to /")

    def send_error(self, code: int, message: Any = None, explain: Any = None) -> None:
        """Answer an error of http.server as a JSON-RPC error instead of an HTML page."""
        self._refuse(code, message or HTTPStatus(code).phrase)

    def _answer(self, status: int, error: AgentError) -> None:
        body = dump_json(error_answer(None, error)).encode()
        self.send_response(status)
        self.send_header("Content-Type", CONFIG.content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _dispatch(self, method: str, params: Any, is_notification: bool, refusal: Optional[AgentError]) -> Any:
        caller_uid.set(self.peer_uid)
        return self.server.dispatcher.call(
            method, params, peer_uid=self.peer_uid, is_notification=is_notification, refusal=refusal
        )

    def send_header(self, keyword: str, value: str) -> None:
        """Send one header. Content-Length tells how much the caller has to read."""
        if keyword.lower() == "content-length":
            self.server.connections.mark_replying(self.connection, int(value))
        super().send_header(keyword, value)

    def address_string(self) -> str:
        """Return the peer's uid for messages: a Unix peer has no address."""
        return f"uid {self.peer_uid}"

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: changes are in the audit record, errors in the journal."""


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer, JsonRpc):
    """Serves a listening socket, at most CONNECTIONS_MAX connections at once."""

    daemon_threads = True
    block_on_close = False
    logRequests = False  # noqa: N815  (xmlrpc.server's name)

    def __init__(
        self, listening: socket.socket, dispatcher: Dispatcher, handler: Type[RequestHandler] = RequestHandler
    ) -> None:
        JsonRpc.__init__(self)
        socketserver.BaseServer.__init__(self, "", handler)
        self.socket, self.dispatcher = listening, dispatcher
        self.json_config = CONFIG
        self.connections = Connections(CONNECTIONS_MAX)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Accept the connection if there is room for it."""
        return self.connections.admit()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve the connection in a thread of its own; without one it counts no longer."""
        try:
            super().process_request(request, client_address)
        except Exception:
            self.connections.leave()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve the connection, then count it out."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.leave()


def _send_refusal(descriptor: int, error: AgentError) -> None:
    """Tell the client of a stream why there is none; it has just read 101, so there is room for a short frame."""
    body = dump_json(error.to_dict()).encode()
    with socket.socket(fileno=os.dup(descriptor)) as connection, suppress(OSError):
        connection.send(struct.pack(">BI", stream.REFUSAL, len(body)) + body, socket.MSG_DONTWAIT)


def may_call(uid: int) -> bool:
    """Return whether a peer may call: root, or a member of the clients' group that is not a workspace's login."""
    if uid == 0:
        return True
    try:
        login = pwd.getpwuid(uid)
        clients = grp.getgrnam(CLIENTS_GROUP)
    except KeyError:
        return False
    is_member = login.pw_name in clients.gr_mem or login.pw_gid == clients.gr_gid
    return is_member and not login.pw_name.startswith(LOGIN_PREFIX)
