"""All workspaces of the chosen nodes by what they use: once, or live on a terminal."""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from codesmith.cli import arguments, crash_report, output, people, watching
from codesmith.cli.cells import escape
from codesmith.cli.progress import Progress
from codesmith.errors import CodeSmithError
from codesmith.fleet import parallel, selection
from codesmith.fleet.parallel import Outcome
from codesmith.fleet.report import Row
from codesmith.fleet.selection import Chosen
from codesmith.fleet.top_choice import SORTS, TopChoice
from codesmith.fleet.usage_meter import Meter
from codesmith.nodes.registry import Node

COLUMNS = (
    "name", "node", "state", "cpu_percent", "memory_bytes", "disk_bytes", "tasks", "memory_limit_bytes",
    "disk_limit_bytes", "user", "idle_stop_at",
)  # fmt: skip
KEYS = {word[0]: word for word in SORTS}
# Between the two readings that a share of a processor needs.
INTERVAL_S = 1.0
# How long a screen waits for a node; its last rows are shown meanwhile.
PATIENCE_S = 2.0
Outcomes = list[Outcome[list[Row]]]


def once(options: TopChoice) -> list[Row]:
    """Look twice, a second apart, show the rows and return them; of several nodes one that fails has a row, too."""
    top = Top(options)
    try:
        with Progress(len(top.chosen.nodes), "calling"):
            outcomes = top.look()
            if any(row["state"] == "running" for row in _rows(outcomes)):
                time.sleep(INTERVAL_S)
                outcomes = top.look()
    finally:
        top.close()
    parallel.raise_only(outcomes)
    failed = [
        {"node": one.node.name, "error": one.error.problem, "kind": one.error.kind} for one in outcomes if one.error
    ]
    rows = [*top.sorted(outcomes), *failed]
    output.show(rows, (*COLUMNS, "error"), json=top.chosen.json)
    parallel.raise_failures(outcomes)
    return rows


def live(options: Any, tell: Callable[[CodeSmithError], CodeSmithError]) -> list[Row]:
    """Show a screen of rows every two seconds, until Ctrl-C or q; m, c, d and n sort. Return the last rows.

    An error of the only node, or of all nodes at the first look, is raised.
    """
    top = Top(options)
    try:
        with Progress(len(top.chosen.nodes), "calling"):
            outcomes = top.look()
        if all(one.error for one in outcomes):
            parallel.raise_only(outcomes)
            parallel.raise_failures(outcomes)
        return watching.watch(top.draw, tell, top.press)
    finally:
        top.close()


class Top:
    """The meters of the chosen nodes. Each node is asked by a thread, so that one that hangs holds up no other."""

    def __init__(self, options: TopChoice) -> None:
        self.chosen: Chosen = selection.choose(options)
        labels = arguments.parse_pairs(options.get("label") or [], "--label")
        self._sort = options.get("sort") or "memory"
        self._meters = {node.name: Meter(node, options.get("user"), labels) for node in self.chosen.nodes}
        self._queue: queue.SimpleQueue[Node | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._asked: set[str] = set()
        self._answered: dict[str, float] = {}
        self._outcomes: dict[str, Outcome[list[Row]]] = {}
        self._looked = 0.0
        self._workers = min(self.chosen.jobs, len(self.chosen.nodes))
        for _ in range(self._workers):
            threading.Thread(target=self._work, name="top", daemon=True).start()

    def look(self, patience_s: float | None = None) -> Outcomes:
        """Ask every node that is not being asked, and return what each answered last; waits at most `patience_s`."""
        with self._changed:
            for node in self.chosen.nodes:
                if node.name not in self._asked:
                    self._asked.add(node.name)
                    self._queue.put(node)
            self._changed.wait_for(lambda: not self._asked, patience_s)
            self._looked = time.monotonic()
            return [self._outcomes[node.name] for node in self.chosen.nodes if node.name in self._outcomes]

    def draw(self) -> list[Row]:
        """Print a screen and return its rows; after a key or a new size the last look is drawn again."""
        is_new = time.monotonic() - self._looked < INTERVAL_S
        outcomes = list(self._outcomes.values()) if is_new else self.look(PATIENCE_S)
        rows = self.sorted(outcomes)
        lines = [_summary(rows, len(self.chosen.nodes), self._sort)]
        lines += [f"{node.name}: {problem}" for node in self.chosen.nodes if (problem := self._problem(node))]
        width = shutil.get_terminal_size().columns
        output.write("".join(f"{_cut(escape(line), width)}\n" for line in lines))
        if rows:
            output.show(rows, COLUMNS)
        return rows

    def press(self, key: str) -> bool:
        """Sort by what a key stands for."""
        self._sort = KEYS.get(key.lower(), self._sort)
        return key.lower() in KEYS

    def sorted(self, outcomes: Outcomes) -> list[Row]:
        """Return the rows, the largest first, or by name; what is not known comes last."""
        field = SORTS[self._sort]
        rows = sorted(_rows(outcomes), key=lambda row: (row["name"], row["node"]))
        return rows if field == "name" else sorted(rows, key=lambda row: -(row[field] or 0))

    def close(self) -> None:
        """End the threads that are not waiting for a node, and close their connections."""
        for _ in range(self._workers):
            self._queue.put(None)
        with self._changed:
            quiet = [meter for name, meter in self._meters.items() if name not in self._asked]
        for meter in quiet:
            meter.close()

    def _problem(self, node: Node) -> str:
        outcome = self._outcomes.get(node.name)
        if outcome is not None and outcome.error:
            return outcome.error.problem
        with self._changed:
            is_late = node.name in self._asked
        silent_s = time.monotonic() - self._answered.get(node.name, 0.0)
        return f"no answer for {silent_s:.0f} s" if is_late else ""

    def _work(self) -> None:
        while (node := self._queue.get()) is not None:
            outcome = self._look_at(node)
            with self._changed:
                self._outcomes[node.name], self._answered[node.name] = outcome, time.monotonic()
                self._asked.discard(node.name)
                self._changed.notify_all()

    def _look_at(self, node: Node) -> Outcome[list[Row]]:
        try:
            return Outcome(node, result=self._meters[node.name].look())
        except CodeSmithError as error:
            return Outcome(node, error=error)
        except Exception as error:  # noqa: BLE001  the boundary of one node's work
            return Outcome(node, error=crash_report.crash_report(node.name, error))


def _rows(outcomes: Outcomes) -> list[Row]:
    return [row for outcome in outcomes for row in outcome.result or ()]


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _summary(rows: Sequence[Mapping[str, Any]], nodes: int, sort: str) -> str:
    """Return one line about all of them."""
    memory, disk = (sum(row[field] or 0 for row in rows) for field in ("memory_bytes", "disk_bytes"))
    running = sum(row["state"] in ("running", "idle") for row in rows)
    cpu = sum(row["cpu_percent"] or 0 for row in rows)
    return (
        f"{people.count(nodes, 'node')}, {running} of {people.count(len(rows), 'workspace')} running: "
        f"memory {people.size(memory)}, cpu {cpu:.0f}%, disk {people.size(disk)}; by {sort}, keys: m c d n q"
    )
