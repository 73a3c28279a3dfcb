"""Runs on the node as root: makes many calls to the agent, nine of ten on a kept connection, one on a new one.

Prints {"calls": count}. Python 3.9, standard library only.
"""

import http.client
import json
import socket
import sys

SOCKET = "/run/codesmith/agent.sock"
# A look, a list, a refusal by the contract and a refusal by the method.
CALLS = (
    ("node.version", {}),
    ("workspace.list", {}),
    ("workspace.get", {"name": "../x"}),
    ("user.get", {"name": "nobody-here"}),
)


class Connection(http.client.HTTPConnection):
    """An HTTP connection to the agent's Unix socket."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(SOCKET)


def call(connection, number):
    """Make call number `number` of the sequence and check its id."""
    method, params = CALLS[number % len(CALLS)]
    body = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
    connection.request("POST", "/", body, {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    assert answer["id"] == number, answer


def main():
    """Make as many calls as the argument says."""
    count = int(sys.argv[1])
    kept = Connection("node")
    for number in range(count):
        if number % 10:
            call(kept, number)
            continue
        fresh = Connection("node")
        call(fresh, number)
        fresh.close()
    kept.close()
    print(json.dumps({"calls": count}))


main()
