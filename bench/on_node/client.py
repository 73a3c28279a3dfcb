"""A raw client of the agent for the programs beside it: one kept connection, standard library only."""

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
        """Return the result; end the program when there is none."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        head = "POST / HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self.peer.sendall((head % len(body)).encode() + body)
        size = 0
        for line in iter(self.answers.readline, b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                size = int(line.split(b":")[1])
        answer = json.loads(self.answers.read(size))
        if "result" not in answer:
            sys.exit(f"{method} {params} was refused: {answer}")
        return answer["result"]
