"""The front end: JSON-RPC 2.0 over HTTP on the Unix socket that systemd hands over. Synchronous, a thread a connection.

jsonrpclib-pelix has the HTTP handler; stricter here: framing is plain, bodies, threads and idle times are bounded, and
every refusal is a JSON-RPC error. What is in a body is for messages.py.
"""

from __future__ import annotations

import grp
import io
import json
import os
import pkgutil
import pwd
import re
import socket
import socketserver
import struct
import threading
import time
from http import HTTPStatus
from typing import Any, Dict, Iterable, Optional

from jsonrpclib.SimpleJSONRPCServer import SimpleJSONRPCRequestHandler

from agent.contract.method import Method
from agent.frontend.agent_forwarding import caller_uid
from agent.frontend.audit import Audit
from agent.frontend.context import Context
from agent.frontend.dispatch import Dispatcher
from agent.frontend.headers import Headers
from agent.frontend.helper_client import Helper
from agent.frontend.jsonrpc import CONFIG, Fixed, Invalid, JsonRpc, NotJson, dump_json, error_answer
from agent.frontend.store import Store
from agent.shared.errors import AgentError
from agent.shared.names import CLIENTS_GROUP, LOGIN_PREFIX
from agent.shared.sockets import peer_uid, systemd_socket

BODY_BYTES_MAX = 256 << 10
AGENT_PATH = "/ssh-agent"
CONNECTIONS_MAX = 256
# Of answers that are not taken yet, all together: more than 48 commands with a megabyte of text on each output.
REPLIES_BYTES_MAX = 256 << 20
# What may come before the body. http.client alone would take 100 lines of 64 KiB.
HEAD_BYTES_MAX = 32 << 10
# For a whole request from its first byte, and for a whole reply: a byte now and then does not prolong them.
REQUEST_TIMEOUT_S = 30.0
REPLY_TIMEOUT_S = 300.0
IDLE_TIMEOUT_S = 300.0
SHUT_OUT_PAUSE_S = 1.0
STATE_FILE = "/var/lib/codesmith/state.db"


class TimedStream(io.RawIOBase):
    """A socket whose reads and writes end at one absolute time, and that takes no more than a request may have.

    The kernel watches the time: Python's own time-outs let go of the interpreter three times for each read or write,
    and sixteen threads that do so get a third of the calls done.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(None)
        self._connection = connection
        self._deadline, self._room, self._is_waiting = 0.0, 0, True
        self.is_cut_short = False

    def wait_for_request(self) -> None:
        """From here on nothing may come for long."""
        self._is_waiting = True
        self.restart(IDLE_TIMEOUT_S)

    def begin_request(self) -> None:
        """Start the time of a request; its first byte did it already if it had to be waited for."""
        if self._is_waiting:
            self._is_waiting, self._room = False, HEAD_BYTES_MAX
            self.restart(REQUEST_TIMEOUT_S)

    def expect_body(self) -> None:
        """Let a body come too."""
        self._room += BODY_BYTES_MAX

    def restart(self, seconds: float) -> None:
        """Set the time at which reading and writing end."""
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        """Yes."""
        return True

    def writable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is there; nothing, as at its end, when it is too late or too much."""
        try:
            self._set_timeout(socket.SO_RCVTIMEO)
            size = self._connection.recv_into(buffer)
        except OSError:
            size = 0
        if size and self._is_waiting:
            self.begin_request()
        self._room -= size
        self.is_cut_short = size == 0 or self._room < 0
        return 0 if self.is_cut_short else size

    def write(self, data: Any) -> int:
        """Send what fits; socket.timeout when it is too late."""
        self._set_timeout(socket.SO_SNDTIMEO)
        try:
            return self._connection.send(data)
        except BlockingIOError:
            raise socket.timeout("no time is left") from None

    def _set_timeout(self, which: int) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("no time is left")
        seconds, fraction = divmod(left, 1)
        # struct timeval; all zeros would mean "for ever".
        timeval = struct.pack("@ll", int(seconds), max(int(fraction * 1_000_000), 1))
        self._connection.setsockopt(socket.SOL_SOCKET, which, timeval)


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
        """Learn who is calling."""
        self.connection = self.request
        self.stream = TimedStream(self.connection)
        self.rfile = io.BufferedReader(self.stream)
        self.wfile = io.BufferedWriter(self.stream)  # headers and body leave together
        self.peer_uid = peer_uid(self.connection)

    def handle(self) -> None:
        """Serve the peer if it may call at all."""
        if not may_call(self.peer_uid):
            self.server.dispatcher.note_refused_peer(self.peer_uid)
            self.close_connection = True
            self.raw_requestline, self.request_version, self.command = b"", "HTTP/1.1", "POST"
            self._refuse(403, f"only root and members of {CLIENTS_GROUP} may call")
            return
        try:
            super().handle()
        except (socket.timeout, ConnectionError):
            pass  # the caller went away, or takes too long
        finally:
            self.server.connections.forget(self.connection)

    def handle_one_request(self) -> None:
        """Wait for a request; an idle connection may be closed when another caller needs its place."""
        self.server.connections.mark_idle(self.connection)
        self.stream.wait_for_request()
        super().handle_one_request()

    def parse_request(self) -> bool:
        """Read the headers; a request that came with the one before has its time from here on."""
        self.stream.begin_request()
        if not super().parse_request():
            return False
        if not self.headers.is_plain:
            self._refuse(400, "a header must be NAME: VALUE, in a line of its own")
        return self.headers.is_plain

    def end_headers(self) -> None:
        """Begin the reply, which has a time of its own. After a request that was cut short there is no next one."""
        self.close_connection = self.close_connection or self.stream.is_cut_short
        self.stream.restart(REPLY_TIMEOUT_S)
        super().end_headers()

    def finish(self) -> None:
        """Close both directions; what the caller did not take is dropped."""
        try:
            super().finish()
        except OSError:
            pass

    def do_POST(self) -> None:
        """Answer one request; its reply waits for the method as long as the method takes."""
        lengths = self.headers.get_all("Content-Length")
        if self.path == AGENT_PATH:
            self._forward_agent()
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
        """Return the body as text; answer a parse error when it ended early, or is not UTF-8.

        Only now the connection is busy: who sends slowly makes room like one who sends nothing.
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
        """Say how to call."""
        self._refuse(405, "POST a JSON-RPC 2.0 request to /; rpc.discover describes the methods")

    def _forward_agent(self) -> None:
        """Keep this connection for the call that names its token; from here on it speaks an ssh agent's protocol."""
        self.close_connection = True
        token, forwarded = self.headers.get("CodeSmith-Token", ""), None
        if self.headers.get("Upgrade") != "ssh-agent" or not re.fullmatch("[0-9a-f]{64}", token):
            self._refuse(400, "Upgrade must be ssh-agent and CodeSmith-Token 64 hexadecimal digits")
            return
        self.server.connections.mark_busy(self.connection)
        forwarded = self.server.dispatcher.forwarded_agents.offer(token, self.peer_uid, self.connection)
        if forwarded is None:
            self._refuse(409, "too many ssh agents are lent, or one under this token")
            return
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "ssh-agent")
        self.end_headers()
        self.wfile.flush()
        self.server.dispatcher.forwarded_agents.await_end(forwarded)

    def _refuse(self, status: int, problem: str) -> None:
        self._send_fault_response(status, problem, CONFIG)
        self.wfile.flush()

    def _send_fault_response(self, status: int, message: str, config: Any) -> None:
        """Refuse before the body is read: the connection is of no use any more."""
        self.close_connection = True
        self._answer(status, Invalid(message))

    def report_404(self) -> None:
        """Refuse another path."""
        self._refuse(404, "POST to /")

    def send_error(self, code: int, message: Any = None, explain: Any = None) -> None:
        """Refuse what http.server does not take; its own pages are for people with a browser."""
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
        """Send one header; how long the answer is, is counted."""
        if keyword.lower() == "content-length":
            self.server.connections.mark_replying(self.connection, int(value))
        super().send_header(keyword, value)

    def address_string(self) -> str:
        """A Unix peer has no address: its uid names it."""
        return f"uid {self.peer_uid}"

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: changes are in the audit record, errors in the journal."""


class Connections:
    """Who waits and who works: at the limit the longest idle connection makes room."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._idle: Dict[socket.socket, None] = {}
        self._replies: Dict[socket.socket, int] = {}
        self._count = 0

    def admit(self) -> bool:
        """Count one more connection in, closing the longest idle one if there are too many; False when none is idle."""
        with self._lock:
            if self._count >= self._most:
                if not self._idle:
                    return False
                _shut_oldest(self._idle)
            self._count += 1
            return True

    def leave(self) -> None:
        """Count one connection out."""
        with self._lock:
            self._count -= 1

    def mark_idle(self, connection: socket.socket) -> None:
        """The connection waits for a request."""
        with self._lock:
            self._idle[connection] = None
            self._replies.pop(connection, None)

    def mark_replying(self, connection: socket.socket, size: int) -> None:
        """The connection has an answer to take; at the limit of all together, who has had one for longest loses it."""
        with self._lock:
            self._replies[connection] = size
            while len(self._replies) > 1 and sum(self._replies.values()) > REPLIES_BYTES_MAX:
                _shut_oldest(self._replies)

    def mark_busy(self, connection: socket.socket) -> None:
        """The connection has a request under way."""
        with self._lock:
            self._idle.pop(connection, None)

    def forget(self, connection: socket.socket) -> None:
        """The connection has ended."""
        with self._lock:
            self._idle.pop(connection, None)
            self._replies.pop(connection, None)


def _shut_oldest(connections: Dict[socket.socket, Any]) -> None:
    oldest = next(iter(connections))
    del connections[oldest]
    try:
        oldest.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer, JsonRpc):
    """Serves the listening socket that systemd made."""

    daemon_threads = True
    block_on_close = False
    logRequests = False  # noqa: N815  (xmlrpc.server's name)

    def __init__(self, listening: socket.socket, dispatcher: Dispatcher) -> None:
        JsonRpc.__init__(self)
        socketserver.BaseServer.__init__(self, "", RequestHandler)
        self.socket, self.dispatcher = listening, dispatcher
        self.json_config = CONFIG
        self.connections = Connections(CONNECTIONS_MAX)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take the connection if there is room."""
        return self.connections.admit()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve the connection, then give its place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.leave()


def serve(methods: Iterable[Method]) -> None:
    """Serve `methods` until the front end is stopped."""
    threading.stack_size(512 << 10)
    contract = Fixed(json.loads(pkgutil.get_data("agent", "openrpc.json") or b"{}"))
    context = Context(Store(STATE_FILE), Helper(), contract)
    dispatcher = Dispatcher(methods, context, Audit(context.audit_file))
    server = Server(socket.socket(fileno=systemd_socket()), dispatcher)
    if context.store.intents():
        threading.Thread(target=dispatcher.resume, name="resume", daemon=True).start()
    if context.store.is_shut_out:
        threading.Thread(target=_end_when_there_is_room, args=(context.store,), daemon=True).start()
    server.serve_forever(poll_interval=3600)


def _end_when_there_is_room(store: Store) -> None:
    """End, so that systemd starts us anew: the disk was full when the store was to be opened."""
    while not store.has_room():
        time.sleep(SHUT_OUT_PAUSE_S)
    os._exit(os.EX_TEMPFAIL)


def may_call(uid: int) -> bool:
    """Tell whether a peer may call: root, or a login of the clients' group that is no workspace's login."""
    if uid == 0:
        return True
    try:
        login = pwd.getpwuid(uid)
        clients = grp.getgrnam(CLIENTS_GROUP)
    except KeyError:
        return False
    is_member = login.pw_name in clients.gr_mem or login.pw_gid == clients.gr_gid
    return is_member and not login.pw_name.startswith(LOGIN_PREFIX)
