"""Far ends without SSH: streams are Unix socket connections to the stand-in agent."""

from __future__ import annotations

import select
import socket
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

from codesmith.errors import CodeSmithError, Unreachable
from codesmith.nodes.registry import Node
from codesmith.secrets import Secrets
from codesmith.tunnel import proof as proofs
from codesmith.tunnel.link import StreamRefused
from tests.tunnel import stand_in_agent


class SocketStream:
    """A Unix socket connection with the interface of an SSH channel."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self.closed = self.eof_received = False

    def settimeout(self, seconds):
        self._socket.settimeout(seconds)

    def recv_ready(self):
        return bool(select.select([self._socket], [], [], 0)[0])

    def on_end(self, tell):
        def wait(watched):
            with watched:
                poll = select.poll()
                poll.register(watched, select.POLLRDHUP)
                poll.poll()
                me = this()
                if me is not None:
                    me.eof_received = True
            tell()

        this = weakref.ref(self)
        threading.Thread(target=wait, args=[self._socket.dup()], daemon=True).start()

    def recv(self, nbytes):
        data = self._socket.recv(nbytes)
        self.eof_received = self.eof_received or not data
        return data

    def sendall(self, data):
        self._socket.sendall(data)

    def shutdown_write(self):
        self._socket.shutdown(socket.SHUT_WR)

    def close(self):
        self.closed = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def __del__(self):
        self._socket.close()


class FarEnd:
    """A node in this process: an agent that can be stopped, and a network that can be cut."""

    def __init__(self, path: Path, node_id: str = "id-1") -> None:
        self.path, self.node_id, self.expected_id = path, node_id, node_id
        self.problem: CodeSmithError | None = None
        self.problems: list[CodeSmithError] = []
        self.gate = threading.Event()
        self.gate.set()
        self.links: list[FakeLink] = []
        self.secrets: Secrets | None = None
        self._listener: socket.socket | None = None

    def start(self, idle_s: float = 300.0) -> None:
        self._listener, _ = stand_in_agent.serve(str(self.path), self.node_id, idle_s)

    def stop(self) -> None:
        """Stop the agent; connections it already has stay."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def cut(self, problem: CodeSmithError) -> None:
        """Make connecting fail, and end the current connection."""
        self.problem = problem
        for link in self.links:
            link.die()

    def opener(self, node: Node, on_lost: Callable[[], None], secrets: Secrets | None = None) -> FakeLink:
        self.secrets = secrets
        self.gate.wait(10)
        if self.problems:
            raise self.problems.pop(0)
        if self.problem is not None:
            raise self.problem
        self.links.append(FakeLink(self, node, on_lost))
        return self.links[-1]


class FakeLink:
    """A Link whose streams are local."""

    via, carrier, why_lost = "streamlocal", "fabric", "cut"

    def __init__(self, far_end: FarEnd, node: Node, on_lost: Callable[[], None]) -> None:
        self._far_end, self._node, self._on_lost = far_end, node, on_lost
        self._streams: weakref.WeakSet[SocketStream] = weakref.WeakSet()
        self._alive = True
        self.opened = 0

    def prove(self):
        stream = self.open()
        proof = proofs.ask_version(stream, self._node.name, 5)
        proofs.ensure_expected(proof, self._far_end.expected_id, self._node.name)
        return proof, stream

    def open(self, socket=None):
        if not self._alive:
            raise Unreachable("the SSH connection is lost")
        try:
            stream = SocketStream(self._far_end.path)
        except OSError as error:
            raise StreamRefused("the agent is stopped") from error
        self._streams.add(stream)
        self.opened += 1
        return stream

    def is_alive(self):
        return self._alive

    def lose(self):
        """Be lost, and tell nobody."""
        self._alive = False

    def close(self):
        self.lose()
        for stream in list(self._streams):
            stream.close()
        self._streams.clear()

    def die(self):
        self.close()
        self._on_lost()
