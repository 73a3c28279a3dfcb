"""The operator's ssh agent inside a job: a socket for this job only, which can list keys and sign, nothing else.

Protocol: draft-ietf-sshm-ssh-agent. Each request and reply has four bytes of length, then one byte for its type.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import tempfile
import threading
from typing import Iterator

from agent.shared.sockets import peer_pid

REQUEST_IDENTITIES, SIGN_REQUEST = 11, 13
ALLOWED = (REQUEST_IDENTITIES, SIGN_REQUEST)
FAILURE = b"\x05"
MESSAGE_BYTES_MAX = 256 << 10


@contextlib.contextmanager
def served(forwarded: socket.socket) -> Iterator[str]:
    """Serve a forwarded ssh agent at the path that this yields; afterwards the socket is removed."""
    folder = tempfile.mkdtemp(prefix="codesmith-")  # 0700; a job has its own /tmp
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path = f"{folder}/agent"
        os.fchmod(listening.fileno(), 0o600)
        listening.bind(path)
        listening.listen()
        lock = threading.Lock()
        threading.Thread(target=_accept, args=(listening, forwarded, lock), daemon=True).start()
        yield path
    finally:
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)  # ends accept()
        listening.close()
        forwarded.close()
        shutil.rmtree(folder, ignore_errors=True)


def is_of_this_job(connection: socket.socket) -> bool:
    """Return whether this process started the peer, or what started it; others of the login get no answer."""
    pid = peer_pid(connection)
    try:
        while pid not in (0, 1, os.getpid()):
            pid = _parent(pid)
    except OSError:
        return False
    return pid == os.getpid()


def receive(connection: socket.socket) -> bytes:
    """Return one message without its length; ConnectionError when the peer closes, or the message is too long."""
    size = struct.unpack(">I", _exactly(connection, 4))[0]
    if not 0 < size <= MESSAGE_BYTES_MAX:
        raise ConnectionError("not a message of an ssh agent")
    return _exactly(connection, size)


def send(connection: socket.socket, message: bytes) -> None:
    """Send one message with its length."""
    connection.sendall(struct.pack(">I", len(message)) + message)


def _accept(listening: socket.socket, forwarded: socket.socket, lock: threading.Lock) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        if is_of_this_job(connection):
            threading.Thread(target=_serve, args=(connection, forwarded, lock), daemon=True).start()
        else:
            connection.close()


def _serve(connection: socket.socket, forwarded: socket.socket, lock: threading.Lock) -> None:
    with connection, contextlib.suppress(OSError):
        while True:
            request = receive(connection)
            reply = FAILURE
            if request[0] in ALLOWED:
                with lock:
                    send(forwarded, request)
                    reply = receive(forwarded)
            send(connection, reply)


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise ConnectionError("the peer closed the connection")
        data += chunk
    return bytes(data)
