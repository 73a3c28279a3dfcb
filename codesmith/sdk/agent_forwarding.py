"""Forward the operator's ssh agent to one call, over a second connection to the node's endpoint.

Requests are checked here, where the keys are: the node may list keys, and sign in to an ssh server as the login of the
URL. Every other request gets a failure.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import threading
from types import TracebackType

from codesmith.errors import CodeSmithError
from codesmith.sdk.transport import Transport

TARGET, PROTOCOL, TOKEN_HEADER = "/ssh-agent", "ssh-agent", "CodeSmith-Token"
REQUEST_IDENTITIES, SIGN_REQUEST = 11, 13
FAILURE = b"\x05"
USERAUTH_REQUEST = 50
METHODS = (b"publickey", b"publickey-hostbound-v00@openssh.com")
MESSAGE_BYTES_MAX = 256 << 10
# A clone by hash may connect three times, and sign with another of the agent's keys each time.
SIGNATURES_MAX = 8
HINT = 'eval "$(ssh-agent)" && ssh-add'


class ForwardedAgent:
    """Forwards an ssh agent until `close`; `credential` goes into the call that may use it."""

    def __init__(self, transport: Transport, url: str, agent: str | None = None) -> None:
        self._login = login_of(url)
        self._signatures = 0
        self._agent = _connect(agent or os.environ.get("SSH_AUTH_SOCK", ""))
        token = os.urandom(32).hex()
        self.credential = {"agent": token}
        try:
            self._stream = transport.upgrade(TARGET, PROTOCOL, {TOKEN_HEADER: token})
        except BaseException:
            self._agent.close()
            raise
        self._thread = threading.Thread(target=self._serve, name="forwarded ssh agent", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop forwarding; nothing is signed afterwards."""
        for connection in (self._stream, self._agent):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def __enter__(self) -> dict[str, str]:
        return self.credential

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self) -> None:
        with self._stream, self._agent, contextlib.suppress(OSError):
            while True:
                _send(self._stream, self._reply(_receive(self._stream)))

    def _reply(self, request: bytes) -> bytes:
        if not self._is_allowed(request):
            return FAILURE
        _send(self._agent, request)
        return _receive(self._agent)

    def _is_allowed(self, request: bytes) -> bool:
        if request[0] != SIGN_REQUEST:
            return request == bytes([REQUEST_IDENTITIES])
        self._signatures += 1
        return self._signatures <= SIGNATURES_MAX and is_sign_in(request, self._login)


def login_of(url: str) -> str | None:
    """Return the login of an ssh URL, or None if it has none; CodeSmithError for an https URL."""
    if url.startswith("https:"):
        raise CodeSmithError(
            "an ssh agent cannot authenticate an https clone", hint="give an ssh URL, or --credential-file"
        )
    match = re.match(r"(?:ssh://)?([^@/:]+)@", url)
    return match[1] if match else None


def is_sign_in(request: bytes, login: str | None) -> bool:
    """Tell whether a request asks to sign a publickey sign-in to an ssh server (RFC 4252, 7), as `login` if given."""
    try:
        _key, data, _flags = _split_strings(request[1:], 2)
        _session, rest = _split_strings(data, 1)
        user, service, method, _more = _split_strings(rest[1:], 3)
    except struct.error:
        return False
    is_login = login is None or user == login.encode()
    return rest[0] == USERAUTH_REQUEST and is_login and service == b"ssh-connection" and method in METHODS


def _split_strings(data: bytes, count: int) -> list[bytes]:
    """Return the first `count` strings (RFC 4251, 5) and the bytes after them."""
    parts = []
    for _ in range(count):
        (size,) = struct.unpack_from(">I", data)
        if len(data) < 4 + size:
            raise struct.error("cut short")
        parts.append(data[4 : 4 + size])
        data = data[4 + size :]
    return [*parts, data]


def _connect(path: str) -> socket.socket:
    if not path or path == "none":
        raise CodeSmithError("there is no ssh agent to forward: SSH_AUTH_SOCK is not set", hint=HINT)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise CodeSmithError(f"the ssh agent at {path} does not answer: {error.strerror or error}", hint=HINT) from None
    return connection


def _receive(connection: socket.socket) -> bytes:
    size = struct.unpack(">I", _exactly(connection, 4))[0]
    if not 0 < size <= MESSAGE_BYTES_MAX:
        raise ConnectionError("not a message of an ssh agent")
    return _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise ConnectionError("the other side closed the connection")
        data += chunk
    return bytes(data)


def _send(connection: socket.socket, message: bytes) -> None:
    connection.sendall(struct.pack(">I", len(message)) + message)
