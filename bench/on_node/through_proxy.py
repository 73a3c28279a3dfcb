"""Runs on the node: downloads through the proxy of a workspace and beside it, from a server on loopback.

Prints JSON: rates in MB/s of each turn, with one connection and with many, and the processor time of the proxy, in
seconds for 100 MB, at an even 100 MB/s and at full speed. Python 3.9, standard library only.

    through_proxy.py TURNS [PROGRAM]
"""

import asyncio
import json
import os
import select
import signal
import socket
import sys
import tempfile
import time

MB = 1_000_000
TOTAL, MANY = 800 * MB, 32
PIECE = 256 * 1024
EVEN_RATE, EVEN_S = 100 * MB, 4.0
LINK_RATE, LINK_TOTAL = 125 * MB, 125 * MB
HINT = "inv sandbox.update bench --allow {host}"


def child(work):
    """Run a function in a process of its own."""
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def serve(listening):
    """Send to each connection what its first line says: how many bytes, and how many of them in a second."""
    data = memoryview(os.urandom(PIECE))
    while True:
        connection, _ = listening.accept()
        if os.fork():
            connection.close()
            continue
        left, rate = map(int, connection.makefile("rb").readline().split())
        begun, sent = time.monotonic(), 0
        while left:
            if rate:
                time.sleep(max(begun + sent / rate - time.monotonic(), 0))
            count = connection.send(data[: min(left, PIECE)])
            left, sent = left - count, sent + count
        os._exit(0)


def proxy(listening, folder):
    """Serve as `agent.pyz egress` does, but let loopback be reached: the server is there."""
    from agent.egress.denied import DeniedHosts
    from agent.egress.policy import PolicyFile
    from agent.egress.server import Server

    asyncio.run(Server(listening, PolicyFile(folder, lambda _: False), DeniedHosts(None)).serve())


def connect(port, by):
    """Return a connection to the server: direct, or through the proxy."""
    connection = socket.create_connection(("127.0.0.1", by or port))
    if by:
        connection.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n" % port)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        assert b" 200 " in head, head
    return connection


def download(port, by, count, total, rate=0):
    """Return the seconds for so many bytes over so many connections at once."""
    begun = time.perf_counter()
    poll, connections, got = select.epoll(), {}, 0
    for _ in range(count):
        connection = connect(port, by)
        connection.sendall(b"%d %d\n" % (total // count, rate // count))
        connection.setblocking(False)
        connections[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)
    buffer = bytearray(PIECE)
    while connections:
        for descriptor, _ in poll.poll():
            size = connections[descriptor].recv_into(buffer)
            got += size
            if not size:
                poll.unregister(descriptor)
                connections.pop(descriptor).close()
    assert got == total // count * count, got
    return time.perf_counter() - begun


def processor_s(pid):
    """Return user and system time of a process."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    """Measure in turns, the first of which warms up."""
    turns = int(sys.argv[1])
    sys.path.insert(0, sys.argv[2] if len(sys.argv) > 2 else "/usr/lib/codesmith/current/program")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server = socket.create_server(("127.0.0.1", 0), backlog=256)
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    port, by = server.getsockname()[1], listening.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/policy.json", "w") as file:
            allow = [f"127.0.0.1:{port}"]
            json.dump({"workspace": "bench", "mode": "list", "allow": allow, "deny": [], "hint": HINT}, file)
        pids = [child(lambda: serve(server)), child(lambda: proxy(listening, folder))]
        try:
            print(json.dumps(measure(port, by, pids[1], turns)))
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)


def measure(port, by, pid, turns):
    """Return rates and processor times."""
    found = {}
    for turn in range(turns + 1):
        for prefix, total, rate in (("", TOTAL, 0), ("link_", LINK_TOTAL, LINK_RATE)):
            for name, count in (("one", 1), ("many", MANY)):
                for suffix, way in (("", by), ("_direct", 0)):
                    speed = total / MB / download(port, way, count, total, rate)
                    if turn:
                        found.setdefault(prefix + name + suffix, []).append(speed)
    total = int(EVEN_RATE * EVEN_S)
    for name, rate in (("even_cores", EVEN_RATE), ("full_cores", 0)):
        before = processor_s(pid)
        download(port, by, 1, total, rate)
        found[name] = (processor_s(pid) - before) / (total / EVEN_RATE)
    return found


main()
