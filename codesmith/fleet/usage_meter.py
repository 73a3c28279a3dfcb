"""What the workspaces of one node use, in one round trip for each look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codesmith.errors import AgentRefused, CodeSmithError
from codesmith.fleet.report import Row
from codesmith.nodes.registry import Node

if TYPE_CHECKING:
    from codesmith.sdk.client import Client

# How many calls the agent takes in one batch; larger nodes get several batches at once, each by its connection.
BATCH_MAX, CONNECTIONS_MAX = 16, 8
# The first look at a workspace counts its files.
COUNTING_S = 60.0
USED = ("memory_bytes", "memory_limit_bytes", "tasks", "disk_bytes", "disk_limit_bytes", "files", "cpu_s")
Call = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Answer:
    """What a call returned, or how it was refused, and between which times (monotonic) that was so."""

    value: Any
    begun: float
    ended: float


class Meter:
    """Looks at the workspaces of a node; remembers which there are, and how much processor time each had used."""

    def __init__(
        self,
        node: Node,
        user: str | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node, self._clock = node, clock
        which = {"user": user, "labels": dict(labels) if labels else None}
        self._which = {key: value for key, value in which.items() if value is not None}
        self._clients: list[Client] = []
        self._known: list[str] = []
        self._running: set[str] = set()
        self._used: dict[str, Answer] = {}

    def look(self) -> list[Row]:
        """Return a row for each workspace.

        state is stopped, starting, running, idle (nothing runs, and it stops at idle_stop_at), pending or failed;
        cpu_percent of one core since the last look, None without one and when it is stopped.
        """
        names = self._known
        listed, *more = self._call_all([("workspace.list", self._which), *self._calls(names)])
        workspaces = {one["name"]: one for one in _result(listed)}
        answers = self._sorted(names, more)
        self._running = {name for name, one in workspaces.items() if one["runtime"]["state"] == "running"}
        new = [name for name in workspaces if name not in names]
        if new:  # at the first look, all
            answers.update(self._sorted(new, self._call_all(self._calls(new))))
        before, self._used, self._known = self._used, {}, list(workspaces)
        return [self._row(one, answers[name], before) for name, one in workspaces.items()]

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.close()

    def _calls(self, names: Sequence[str]) -> list[Call]:
        """Return the calls about workspaces: what each uses, and of those that run whether they are idle."""
        found: list[Call] = [("workspace.usage", {"name": name}) for name in names]
        return found + [("workspace.get", {"name": name}) for name in names if name in self._running]

    def _sorted(self, names: Sequence[str], answers: Sequence[Answer]) -> dict[str, tuple[Answer, Answer | None]]:
        """Return for each name the answers to its calls; `_running` is what it was when they were made."""
        gets = iter(answers[len(names) :])
        asked = [name for name in names if name in self._running]
        details = dict(zip(asked, gets, strict=False))
        return {name: (answer, details.get(name)) for name, answer in zip(names, answers, strict=False)}

    def _row(self, one: dict[str, Any], answers: tuple[Answer, Answer | None], before: Mapping[str, Answer]) -> Row:
        usage, detail = answers
        runtime = one["runtime"]
        if detail is not None and not isinstance(detail.value, AgentRefused):
            runtime = detail.value["runtime"]
        used = {} if isinstance(usage.value, AgentRefused) else usage.value
        state = one["state"] if one["state"] != "ready" else runtime["state"]
        is_running = state == "running"
        if used:
            self._used[one["id"]] = usage
        return {
            "node": self._node.name,
            "name": one["name"],
            "user": one["user"],
            "state": "idle" if is_running and runtime["idle_stop_at"] else state,
            "cpu_percent": _percent(before.get(one["id"]), usage) if used and is_running else None,
            **{key: used.get(key) for key in USED},
            "since": runtime["since"],
            "idle_stop_at": runtime["idle_stop_at"],
            "labels": one["labels"],
        }

    def _call_all(self, calls: Sequence[Call]) -> list[Answer]:
        """Return the answers in order; batches are sent at once, each by a connection of its own."""
        parts = [calls[at : at + BATCH_MAX] for at in range(0, len(calls), BATCH_MAX)]
        while len(self._clients) < min(len(parts), CONNECTIONS_MAX):
            self._clients.append(_client(self._node))
        found: list[list[Answer]] = [[] for _ in parts]
        errors: list[BaseException] = []

        def send(number: int) -> None:
            try:
                for at in range(number, len(parts), CONNECTIONS_MAX):
                    found[at] = self._timed_batch(self._clients[number], parts[at])
            except BaseException as error:  # noqa: BLE001  the caller's thread raises it again
                errors.append(error)

        others = [threading.Thread(target=send, args=(number,), daemon=True) for number in range(1, len(self._clients))]
        for thread in others:
            thread.start()
        send(0)
        for thread in others:
            thread.join()
        if errors:
            raise errors[0]
        return [answer for part in found for answer in part]

    def _timed_batch(self, client: Client, calls: Sequence[Call]) -> list[Answer]:
        begun = self._clock()
        values = client.batch(calls, limit_s=COUNTING_S)
        ended = self._clock()
        return [Answer(value, begun, ended) for value in values]


def _result(answer: Answer) -> Any:
    if isinstance(answer.value, CodeSmithError):
        raise answer.value
    return answer.value


def _percent(before: Answer | None, now: Answer) -> float | None:
    """Return the share of a core between two readings; None if they do not tell, or it started anew between them."""
    if before is None or now.value["cpu_s"] < before.value["cpu_s"]:
        return None
    seconds = (now.begun + now.ended - before.begun - before.ended) / 2
    # Each was read at a time within its call. A call that counted files for long does not say when.
    if now.ended - now.begun + before.ended - before.begun > seconds:
        return None
    return round(100 * float(now.value["cpu_s"] - before.value["cpu_s"]) / seconds, 1)


def _client(node: Node) -> Client:
    from codesmith.sdk.client import Client

    return Client(node)
