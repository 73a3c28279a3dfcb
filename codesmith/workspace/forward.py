"""workspace.forward: ports inside a workspace on this machine's 127.0.0.1, while it runs or in the background.

Any process of this machine may use such a port, as with `ssh -L`.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codesmith.errors import BadArgument, CodeSmithError
from codesmith.tunnel import control
from codesmith.tunnel.forward import LISTENS, Forward
from codesmith.tunnel.local_endpoint import endpoint_path
from codesmith.tunnel.port_owner import describe_owner
from codesmith.tunnel.state import DEGRADED, READY
from codesmith.workspace import listening, ssh_config
from codesmith.workspace.ssh_config import SshConfig

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node

HOST = "127.0.0.1"
PORT_MAX = 65535
# Ports to try after one that is taken, with --any.
TRIED = 200
READY_S = 90.0
NOTHING_LISTENS = "open failed: connect failed"


@dataclass(frozen=True)
class Port:
    """A port inside, and the port here that leads to it."""

    inside: int
    local: int

    @property
    def address(self) -> str:
        """Where it listens on this machine."""
        return f"{HOST}:{self.local}"


def parse(words: Sequence[str]) -> list[Port]:
    """Return the ports that words name: `3000`, or `18000:8000` for port 18000 here, as `ssh -L` has them."""
    ports = [_parse(word) for word in words]
    for number, port in enumerate(ports):
        if port.local in [other.local for other in ports[:number]]:
            raise BadArgument(f"two ports cannot both be {port.address}", hint="give one another: LOCAL:PORT")
    return ports


def _parse(word: str) -> Port:
    local, colon, inside = word.partition(":")
    numbers = [inside, local] if colon else [local, local]
    if not all(one.isascii() and one.isdecimal() and 1 <= int(one) <= PORT_MAX for one in numbers):
        raise BadArgument(f"a port is 3000, or 18000:8000 for 8000 inside at 18000 of this machine, not {word!r}")
    return Port(*map(int, numbers))


def place(
    workspace: str, port: Port, *, any_port: bool, ours: Collection[Port] = (), avoid: Collection[int] = ()
) -> Port:
    """Return the port with one here that is free: as it is, with `any_port` the next free one; raise why not.

    `ours` are forwarded already and count as free for the same port inside; those to `avoid` do not count as free.
    """
    for local in range(port.local, min(port.local + (TRIED if any_port else 1), PORT_MAX + 1)):
        wanted = Port(port.inside, local)
        if wanted in ours:
            return wanted
        problem = _problem(local)
        if problem is None and local not in avoid:
            return wanted
        if problem is not None and not any_port:
            raise _refusal(workspace, port, problem)
    raise CodeSmithError(f"no port from {port.local} on is free on {HOST}", hint="ss -ltn")


def _problem(local: int) -> OSError | None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        try:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((HOST, local))
            trial.listen(1)
        except OSError as error:
            return error
    return None


def _refusal(workspace: str, port: Port, error: OSError) -> CodeSmithError:
    other = port.local + 10000 if port.local + 10000 <= PORT_MAX else port.local - 10000
    hint = f"inv workspace.forward {workspace} {other}:{port.inside}"
    if error.errno == errno.EADDRINUSE:
        return _taken(port, hint)
    if error.errno == errno.EACCES:
        return CodeSmithError(f"{port.address}: only root may listen below 1024", hint=hint)
    return CodeSmithError(f"cannot listen on {port.address}: {error.strerror}", hint=hint)


def _taken(port: Port, hint: str) -> CodeSmithError:
    for one in control.forwards():
        if one.local == port.local:
            owner = f"our own forward of port {one.port} of {one.workspace} on {one.node}, in the background"
            end = f"inv workspace.forward {one.workspace} {one.port} --stop --node {one.node}"
            return CodeSmithError(f"{port.address} is taken by {owner}", hint=f"{end}; or {hint}")
    return CodeSmithError(f"{port.address} is taken by {describe_owner(port.local)}", hint=f"{hint}  # or with --any")


def ensure_workspace(node: Node, workspace: str) -> None:
    """Return if the node has the workspace; raise why not. Opens the endpoint; starts no runtime."""
    from codesmith.sdk.client import Client

    with Client(node) as client:
        client.workspace.get(name=workspace)


def command(node: Node, workspace: str, ports: Sequence[Port]) -> tuple[str, ...]:
    """Return the ssh that forwards the ports, and the configuration for it is written."""
    from codesmith.nodes.registry import Registry

    config = SshConfig(Registry.load(node.registry))
    config.write()
    options = {
        "ExitOnForwardFailure": "yes",
        "PermitLocalCommand": "yes",
        "LocalCommand": f"echo {LISTENS}",
        "LogLevel": "INFO",
        # Both ends of a connection whose other end is gone are closed.
        "ServerAliveInterval": "15",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    # localhost: what listens only on ::1 is reached too.
    ports_ = [word for port in ports for word in ("-L", f"{port.address}:localhost:{port.inside}")]
    return ("ssh", "-F", str(config.path), *words, "-N", *ports_, ssh_config.alias_of(workspace, node))


class Foreground:
    """The forwards of one command, until they are stopped."""

    def __init__(self, node: Node, workspace: str, ports: Sequence[Port], say: Callable[[str], None]) -> None:
        self.ports, self._node, self._workspace, self._say = ports, node, workspace, say
        self._ended = threading.Event()
        self._was_ready, self._noted = False, set[int]()
        self._forward = Forward(
            workspace,
            workspace,
            command(node, workspace, ports),
            endpoint_path(node),
            on_change=self._tell,
            on_note=self._note,
        )

    def ensure_ready(self) -> None:
        """Return once all ports listen; raise why not."""
        self._forward.ensure_ready(READY_S)

    def wait(self) -> None:
        """Return when it was stopped; Ctrl-C is the way out."""
        while not self._ended.wait(3600):
            pass

    def stop(self) -> None:
        """Close the ports and end every connection through them."""
        self._forward.stop()
        self._forward.join(5)

    def _tell(self, forward: Forward) -> None:
        if forward.state == DEGRADED and forward.error:
            self._say(f"{forward.error.problem}; it is tried again")
        elif forward.state == READY and self._was_ready:
            self._say(f"{self._workspace} is reached again")
        self._was_ready, self._noted = self._was_ready or forward.state == READY, set()
        if forward.is_over:
            self._ended.set()

    def _note(self, line: str) -> None:
        insides = {port.inside for port in self.ports}
        if NOTHING_LISTENS not in line or self._noted == insides:
            return
        if len(insides) > 1:
            insides = set(listening.silent(self._node, self._workspace, sorted(insides)))
        if fresh := sorted(insides - self._noted):
            self._noted.update(fresh)
            self._say(listening.note(self._workspace, fresh))
