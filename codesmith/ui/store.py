"""What the pages show, as keyed values per node; each watcher gets what changed since it was last told."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from codesmith.ui.outputs import Outputs

Values = Mapping[str, Any]
# The place of what belongs to no single node.
EVERYWHERE = ""


class Store:
    """Values by node and key; written by many threads, read by the event loop.

    A value that equals the old one keeps its identity, so watchers compare identities and not contents.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[str, dict[str, Any]] = {EVERYWHERE: {}}
        self._watchers: set[Watcher] = set()

    def put(self, place: str, values: Values) -> None:
        """Set some values of a place; others stay."""
        with self._lock:
            self._put(self._places.setdefault(place, {}), values)
        self._wake()

    def replace(self, place: str, prefix: str, values: Values) -> None:
        """Set all values of a place whose keys begin with `prefix`; those not given are gone."""
        with self._lock:
            there = self._places.setdefault(place, {})
            for key in [key for key in there if key.startswith(prefix) and key not in values]:
                del there[key]
            self._put(there, values)
        self._wake()

    def get(self, place: str, key: str) -> Any:
        """Return one value; None if there is none."""
        with self._lock:
            return self._places.get(place, {}).get(key)

    def drop(self, place: str) -> None:
        """Forget a place and all its values."""
        with self._lock:
            self._places.pop(place, None)
        self._wake()

    def snapshot(self, is_shown: Callable[[str, str], bool]) -> dict[tuple[str, str], Any]:
        """Return the values that `is_shown` by place and key."""
        with self._lock:
            return {
                (place, key): value
                for place, values in self._places.items()
                for key, value in values.items()
                if is_shown(place, key)
            }

    def add(self, watcher: Watcher) -> None:
        """Wake this watcher at each change."""
        self._watchers.add(watcher)

    def remove(self, watcher: Watcher) -> None:
        """Do not wake it any more."""
        self._watchers.discard(watcher)

    def watchers(self) -> Iterable[Watcher]:
        """Return the watchers there are now."""
        return tuple(self._watchers)

    @staticmethod
    def _put(there: dict[str, Any], values: Values) -> None:
        for key, value in values.items():
            if key not in there or there[key] != value:
                there[key] = value

    def _wake(self) -> None:
        for watcher in tuple(self._watchers):
            watcher.wake()


class Watcher:
    """One open page: what it shows (the fleet, a node, or a workspace of a node) and what it has going there."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop, node: str = "", workspace: str = "") -> None:
        self.node, self.workspace, self.id = node, workspace, secrets.token_urlsafe(9)
        self.outputs = Outputs(self.wake)
        self._store, self._loop = store, loop
        self._sent: dict[tuple[str, str], Any] = {}
        self._woken = asyncio.Event()
        self.is_closed = False

    def wake(self) -> None:
        """Have the page told of changes; callable from every thread."""
        try:
            self._loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:  # the loop has ended
            pass

    def close(self) -> None:
        """End the page's stream, and what it has going."""
        self.is_closed = True
        self.outputs.close()
        self.wake()

    async def wait(self, timeout_s: float) -> bool:
        """Wait for a change; return False if none came in time."""
        try:
            await asyncio.wait_for(self._woken.wait(), timeout_s)
        except TimeoutError:
            return False
        self._woken.clear()
        return True

    def changes(self) -> dict[str, dict[str, Any]]:
        """Return by place what is new, as {"set": {key: value}, "gone": [key]}, and take it as told."""
        now, before = self._store.snapshot(self.shows), self._sent
        found: dict[str, dict[str, Any]] = {}
        for (place, key), value in now.items():
            if (place, key) not in before or before[place, key] is not value:
                found.setdefault(place, {"set": {}, "gone": []})["set"][key] = value
        for place, key in before.keys() - now.keys():
            found.setdefault(place, {"set": {}, "gone": []})["gone"].append(key)
        self._sent = now
        return found

    def shows(self, place: str, key: str) -> bool:
        """Tell whether the page shows this value: pages ask for what they show and get no more."""
        if place == EVERYWHERE or key == "node":
            return True
        if place != self.node:
            return False
        if not self.workspace:
            return not key.startswith(("usage/", "job/", "jobs/", "forward/", "token/"))
        mine = (f"workspace/{self.workspace}", f"usage/{self.workspace}", f"jobs/{self.workspace}", "changed")
        lists = ("user/", *(f"{kind}/{self.workspace}/" for kind in ("job", "forward", "token")))
        return key in mine or key.startswith(lists)
