"""A stand-in for the agent: answers node.version, echoes, sends bulk. Standard library, Python 3.9; runs on real nodes.

    python3 stand_in_agent.py agent SOCKET NODE_ID
    python3 stand_in_agent.py dial                    standard input and output <-> /run/codesmith/agent.sock

A connection that begins with "RAW" is not HTTP: it sends every byte back and, once the other side half-closed, the
word "END" and its own end; "GONE" ends it at once. So is a stream, after a line with the headers of its request.
"""

import hashlib
import json
import os
import socket
import sys
import threading


def serve(path, node_id, idle_s=300.0):
    """Accept for ever at `path`; return the listening socket and its thread."""
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o660)
    listener.listen(128)
    thread = threading.Thread(target=accept, args=(listener, node_id, idle_s), daemon=True)
    thread.start()
    return listener, thread


def accept(listener, node_id, idle_s):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=talk, args=(connection, node_id, idle_s), daemon=True).start()


def talk(connection, node_id, idle_s):
    try:
        with connection:
            connection.settimeout(idle_s)
            with connection.makefile("rb") as reader:
                while answer(connection, reader, node_id):
                    pass
    except OSError:
        pass


def answer(connection, reader, node_id):
    """Answer one request; return whether another may follow."""
    line = reader.readline(65536)
    if line.startswith(b"RAW"):
        return echo(connection, reader)
    if line.startswith(b"GONE"):
        return False
    length, headers = 0, b""
    while True:
        header = reader.readline(65536)
        headers += header.lower()
        if header in (b"\r\n", b""):
            break
        if header.lower().startswith(b"content-length:"):
            length = int(header[15:])
    if not line:
        return False
    if line.startswith(b"POST /stream "):
        return stream(connection, reader, headers)
    body = reader.read(length)
    reply = call(line.split()[1].decode(), body, node_id)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(reply) + reply)
    return True


def echo(connection, reader):
    while True:
        data = reader.read1(32768)
        if not data:
            connection.sendall(b"END")
            return False
        connection.sendall(data)


def stream(connection, reader, headers):
    """Open a stream that shows which headers came, then echoes; 401 for a token of zeros."""
    if b"codesmith-token: " + b"0" * 64 in headers:
        refusal = b'{"error": {"message": "the token is used"}}'
        connection.sendall(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n" % len(refusal) + refusal)
        return False
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: codesmith-stream\r\n\r\n"
    connection.sendall(switched + headers.replace(b"\r\n", b"|") + b"\n")
    return echo(connection, reader)


def call(path, body, node_id):
    if path == "/digest":
        return hashlib.sha256(body).hexdigest().encode()
    if path.startswith("/bytes/"):
        return b"x" * int(path[7:])
    result = {"agent": "0.0.1", "api": "1", "python": "3", "build": "0", "node_id": node_id}
    try:
        number = json.loads(body)["id"]
    except (ValueError, KeyError, TypeError):
        number = 1
    return json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode()


def dial(path="/run/codesmith/agent.sock"):
    agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    agent.connect(path)
    threading.Thread(target=upload, args=(agent,), daemon=True).start()
    while True:
        data = agent.recv(32768)
        if not data:
            return
        while data:
            data = data[os.write(1, data) :]


def upload(agent):
    while True:
        data = os.read(0, 32768)
        if not data:
            agent.shutdown(socket.SHUT_WR)
            return
        agent.sendall(data)


if __name__ == "__main__":
    if sys.argv[1] == "dial":
        dial()
    else:
        serve(sys.argv[2], sys.argv[3])[1].join()
