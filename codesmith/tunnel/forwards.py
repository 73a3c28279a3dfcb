"""The forwards that the forwarder keeps in the background, and the file from which its successor has them again."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesmith.errors import CodeSmithError
from codesmith.nodes.registry import Node
from codesmith.paths import writing
from codesmith.tunnel.forward import Forward
from codesmith.tunnel.local_endpoint import endpoint_path
from codesmith.tunnel.state import ForwardState

log = logging.getLogger("codesmith.tunnel")

READY_S = 90.0
STOP_S = 3.0


@dataclass(frozen=True)
class Spec:
    """What is asked for: which port of which workspace, where it listens here, and the ssh that does it."""

    node: Node
    workspace: str
    port: int
    local: int
    argv: tuple[str, ...]

    @property
    def key(self) -> tuple[str, int]:
        """What makes it one forward: no port listens twice."""
        return "127.0.0.1", self.local

    def to_dict(self) -> dict[str, Any]:
        """Return it as a dictionary for JSON."""
        fields = {"workspace": self.workspace, "port": self.port, "local": self.local, "argv": list(self.argv)}
        return {"node": self.node.to_dict(), **fields}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Spec:
        """Return what a dictionary has; ValueError, KeyError or TypeError if that is something else."""
        node, argv = Node.from_dict(data["node"]), tuple(map(str, data["argv"]))
        return cls(node, str(data["workspace"]), int(data["port"]), int(data["local"]), argv)


class Forwards:
    """All background forwards; each change is in the file before the caller has its answer.

    The file has those that were ready once: of the others nobody knows yet whether they will be kept.
    """

    def __init__(self, path: Path, keep: Callable[..., Forward] = Forward) -> None:
        self._path, self._keep = path, keep
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, int], tuple[Spec, Forward]] = {}

    def resume(self) -> list[Node]:
        """Start again what the file has, and return the nodes of it, whose endpoints must be open."""
        specs = read(self._path)
        with self._lock:
            for spec in specs:
                self._kept[spec.key] = (spec, self._start(spec, is_resumed=True))
        return list({(str(spec.node.registry), spec.node.name): spec.node for spec in specs}.values())

    def start(self, spec: Spec) -> ForwardState:
        """Start a forward and return once it listens; one that is there already is kept. Raise why it does not."""
        with self._lock:
            known = self._kept.get(spec.key)
            if known is None:
                known = self._kept[spec.key] = (spec, self._start(spec, is_resumed=False))
            elif _key_of(known[0]) != _key_of(spec):
                raise _taken(known[0])
        kept, forward = known
        try:
            forward.ensure_ready(READY_S)
        except CodeSmithError:
            if forward.is_over:
                with self._lock:
                    if self._kept.get(spec.key) is known:
                        del self._kept[spec.key]
            raise
        self._write()
        return _state(kept, forward)

    def stop(self, registry: str, node: str, workspace: str = "", port: int = 0) -> list[ForwardState]:
        """End the forwards of a node, of a workspace on it, or that of one port of it; return what they were."""
        with self._lock:
            ended = [
                (spec, forward)
                for spec, forward in self._kept.values()
                if (str(spec.node.registry), spec.node.name) == (registry, node)
                and workspace in ("", spec.workspace)
                and port in (0, spec.port)
            ]
            for spec, _ in ended:
                del self._kept[spec.key]
        states = [_state(spec, forward) for spec, forward in ended]
        _end((forward for _, forward in ended), STOP_S)
        if ended:
            self._write()
        return states

    def states(self) -> list[ForwardState]:
        """Return the state of each, sorted by node, workspace and port."""
        with self._lock:
            kept = list(self._kept.values())
        return sorted((_state(*one) for one in kept), key=lambda one: (one.node, one.workspace, one.port, one.local))

    def close(self, within_s: float = STOP_S) -> None:
        """End all, and wait so long for that; the file keeps them for the next forwarder."""
        with self._lock:
            kept = list(self._kept.values())
        _end((forward for _, forward in kept), within_s)

    def _start(self, spec: Spec, *, is_resumed: bool) -> Forward:
        name = f"{spec.workspace} on {spec.node.name}, port {spec.port}"
        return self._keep(name, spec.workspace, spec.argv, endpoint_path(spec.node), is_resumed=is_resumed)

    def _write(self) -> None:
        with self._lock:
            text = json.dumps([spec.to_dict() for spec, forward in self._kept.values() if forward.was_ready])
            fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
            with writing(self._path):
                fresh.unlink(missing_ok=True)
                with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                    file.write(text)
                fresh.replace(self._path)


def read(path: Path) -> list[Spec]:
    """Return the forwards that a file has; none if it is missing, or no file of ours."""
    try:
        return [Spec.from_dict(one) for one in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, CodeSmithError) as error:
        log.warning("%s cannot be read: %r; the forwards in it are lost", path, error)
        return []


def _key_of(spec: Spec) -> tuple[str, str, str, int]:
    return str(spec.node.registry), spec.node.name, spec.workspace, spec.port


def _taken(other: Spec) -> CodeSmithError:
    what = f"it is port {other.port} of {other.workspace} on {other.node.name}"
    hint = f"inv workspace.forward {other.workspace} {other.port} --stop --node {other.node.name}"
    return CodeSmithError(f"127.0.0.1:{other.local} is taken: {what}", hint=hint)


def _state(spec: Spec, forward: Forward) -> ForwardState:
    error = forward.error
    return ForwardState(
        node=spec.node.name,
        registry=str(spec.node.registry),
        workspace=spec.workspace,
        port=spec.port,
        local=spec.local,
        state=forward.state,
        reason=error.problem if error else "",
        since=forward.since,
        hint=error.hint if error else "",
    )


def _end(forwards: Iterable[Forward], within_s: float) -> None:
    ending, deadline = list(forwards), time.monotonic() + within_s
    for forward in ending:
        forward.stop()
    for forward in ending:
        forward.join(max(0.0, deadline - time.monotonic()))
