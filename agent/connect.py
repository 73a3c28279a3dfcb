"""Connects ssh to a host through the proxy of its workspace: the ProxyCommand of everybody in it.

With ProxyUseFdpass ssh takes the connection from here and speaks on it itself, and this process ends; other programs
that read ssh's configuration give it pipes, and it copies.

CONNECT and not SOCKS: its refusal says in words what the operator can do.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
from typing import Tuple

from agent.dial import copy_both_ways
from agent.shared.egress_paths import PORT

ANSWER_S = 60.0
HEAD_BYTES_MAX = 16 << 10
BODY_BYTES_MAX = 4096
GIVEN = b"\0"
OK, FORBIDDEN = 200, 403
UNREACHED = (502, 504)


def connect(host: str, port: str, proxy_port: str = str(PORT)) -> int:
    """Connect, and give the connection to whoever has our standard output; return 1 when it is refused."""
    try:
        proxy, _, reason = _dial(host, int(port), int(proxy_port))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: no answer from the proxy of this workspace: {error}\n")
        return 1
    if reason:
        sys.stderr.write(f"{reason}\n")
        return 1
    # A socket with a time limit is one that does not block, for ssh too.
    proxy.settimeout(None)
    if not stat.S_ISSOCK(os.fstat(1).st_mode):
        return copy_both_ways(proxy)
    with socket.socket(fileno=os.dup(1)) as ssh:
        # The number in the bytes of a C int.
        descriptor = proxy.fileno().to_bytes(4, sys.byteorder)
        ssh.sendmsg([GIVEN], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor)])
    return 0


def refusal(host: str, port: int, proxy_port: int) -> str:
    """Return why the proxy forbids a host; empty when it does not. OSError or ValueError when it does not answer."""
    proxy, status, reason = _dial(host, port, proxy_port)
    proxy.close()
    return reason if status == FORBIDDEN else ""


def unreached(host: str, port: int, proxy_port: int) -> str:
    """Return why the proxy does not get to a host that it allows; empty when it does."""
    proxy, status, reason = _dial(host, port, proxy_port)
    proxy.close()
    return reason if status in UNREACHED else ""


def _dial(host: str, port: int, proxy_port: int) -> Tuple[socket.socket, int, str]:
    """Return a connection by the proxy, its status, and why there is no way to the host."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    proxy = socket.create_connection(("127.0.0.1", proxy_port), ANSWER_S)
    try:
        proxy.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        status, reason = _answer(proxy)
    except BaseException:
        proxy.close()
        raise
    shown = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in reason.strip())
    return proxy, status, "" if status == OK else shown or f"error: the proxy of this workspace answered {status}"


def _answer(proxy: socket.socket) -> Tuple[int, str]:
    """Return status and text of an answer; after 200 no byte is read of what follows its head, which may be SSH."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = proxy.recv(1)
        if not byte or len(head) > HEAD_BYTES_MAX:
            raise ValueError("it ended before its answer")
        head += byte
    status = int(head.split(b" ")[1])
    body = b""
    while status != OK and len(body) < BODY_BYTES_MAX:
        data = proxy.recv(BODY_BYTES_MAX - len(body))
        if not data:
            break
        body += data
    return status, body.decode("utf-8", "replace")
