"""Calls of the agent, made so that a broken connection is told from a refusal."""

import json
import re
import socket
import time

SOCKET = "/run/codesmith/agent.sock"
PATIENCE_S = 60


class Cut(Exception):
    """The connection broke before the answer."""


class Refused(Exception):
    """The agent answered an error."""

    def __init__(self, error):
        super().__init__(error["message"])
        self.kind, self.data = error["data"]["kind"], error["data"]

    @property
    def is_open(self):
        """It is not known yet what became of the change."""
        return bool(self.data.get("pending")) or "helper does not answer" in str(self)


def ask(method, **params):
    """Make one call on a connection of its own."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(PATIENCE_S)
        try:
            peer.connect(SOCKET)
            head = f"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            peer.sendall(head.encode() + body)
            answer = b"".join(iter(lambda: peer.recv(65536), b""))
        except OSError as error:
            raise Cut(str(error)) from None
    head, end, text = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    if not end or length is None or len(text) < int(length.group(1)):
        raise Cut("half an answer")
    answer = json.loads(text)
    if "error" in answer:
        raise Refused(answer["error"])
    return answer["result"]


def patiently(method, **params):
    """Call until there is an answer."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask(method, **params)
        except Cut:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
