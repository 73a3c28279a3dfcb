"""A raw client of the agent for the other programs here: one kept connection, standard library only."""

import json
import socket
import sys

AGENT_SOCKET = "/run/codesmith/agent.sock"


class Client:
    """One kept connection to a JSON-RPC server on a Unix socket."""

    def __init__(self, path=AGENT_SOCKET):
        self.peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.peer.connect(path)
        self.answers = self.peer.makefile("rb")

    def call(self, method, **params):
        """Return the result of a call; exit if it was refused."""
        return parse(self.ask(method, **params))

    def ask(self, method, **params):
        """Return the raw answer to a call."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        head = "POST / HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self.peer.sendall((head % len(body)).encode() + body)
        size = 0
        for line in iter(self.answers.readline, b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                size = int(line.split(b":")[1])
        return self.answers.read(size)


def parse(answer):
    """Return the result in an answer; exit if there is none."""
    found = json.loads(answer)
    if "result" not in found:
        sys.exit(f"refused: {found}")
    return found["result"]
