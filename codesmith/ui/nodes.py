"""The nodes of nodes.yaml as the pages show them: a poller for each, running while a page watches its node."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from codesmith.errors import CodeSmithError
from codesmith.nodes.registry import Node, Registry
from codesmith.ui.contract import Contracts
from codesmith.ui.poller import Poller
from codesmith.ui.store import EVERYWHERE, Store

READ_S = 1.0


class Nodes:
    """Follows nodes.yaml: nodes that are added appear, those that are removed go."""

    def __init__(self, file: Path, store: Store, contracts: Contracts) -> None:
        self.file, self._store, self._contracts = file, store, contracts
        self._lock = threading.Lock()
        self._pollers: dict[str, Poller] = {}
        self._registry: Registry | None = None
        self._read_at = 0.0
        self._stamp: tuple[tuple[int, int], ...] = ()
        self.refresh()

    def get(self, name: str) -> Node:
        """Return a node; UnknownNode if nodes.yaml has none of this name, its error if it cannot be read."""
        self.refresh()
        return (self._registry or Registry.load(self.file)).get(name)

    def refresh(self) -> None:
        """Read nodes.yaml again if it changed, and set who is polled by who is watched."""
        with self._lock:
            if time.monotonic() - self._read_at >= READ_S:
                self._read_at = time.monotonic()
                self._read()
            watchers = list(self._store.watchers())
            for name, poller in self._pollers.items():
                poller.notice_silence()
                mine = [one for one in watchers if one.node in (EVERYWHERE, name)]
                if mine:
                    poller.watch(tuple(sorted({one.workspace for one in mine if one.workspace})))
                else:
                    poller.unwatch()

    def look_now(self, name: str) -> None:
        """Have a node looked at without delay."""
        with self._lock:
            if name in self._pollers:
                self._pollers[name].look_now()

    def close(self) -> None:
        """End all pollers; calls under way are not waited for."""
        with self._lock:
            for poller in self._pollers.values():
                poller.end()
            ended, self._pollers = list(self._pollers.values()), {}
        for poller in ended:
            poller.join(2.0)

    def _read(self) -> None:
        try:
            files = self._registry.files if self._registry else (self.file,)
            statuses = [file.stat() for file in files if file == self.file or file.exists()]
            stamp = tuple((status.st_mtime_ns, status.st_ino) for status in statuses)
            if stamp == self._stamp:
                return
            self._registry = Registry.load(self.file)
        except (OSError, CodeSmithError) as error:
            problem = error.problem if isinstance(error, CodeSmithError) else f"{self.file}: {error.strerror}"
            self._store.put(EVERYWHERE, {"registry": {"file": str(self.file), "problem": problem}})
            return
        self._stamp = stamp
        self._follow(self._registry)
        self._store.put(EVERYWHERE, {"registry": {"file": str(self.file), "problem": ""}})

    def _follow(self, registry: Registry) -> None:
        for name in [name for name, poller in self._pollers.items() if registry.nodes.get(name) != poller.node]:
            self._pollers.pop(name).end()
            self._store.drop(name)
        for name, node in registry.nodes.items():
            if name not in self._pollers:
                self._pollers[name] = Poller(node, self._store, self._contracts)
                self._pollers[name].start()
