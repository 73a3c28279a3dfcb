"""Run the same work on several nodes in parallel; a failed node does not stop the others."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from codesmith.cli import crash_report
from codesmith.cli.hints import completed
from codesmith.errors import CodeSmithError
from codesmith.nodes.registry import Node

T = TypeVar("T")
R = TypeVar("R")

# Many nodes share a bastion: when measured, its sshd (MaxStartups) refused 10 of 40 simultaneous connects.
AT_ONCE = 16
# Calls over endpoints that are up cost no connect, and a far node must not wait for its turn.
CALLS_AT_ONCE = 256
WATCH_S = 0.1


class Outcome(NamedTuple, Generic[T]):
    """The outcome of one node: a result or an error."""

    node: Node
    result: T | None = None
    error: CodeSmithError | None = None


class SomeFailed(CodeSmithError):
    """At least one of several nodes failed; `outcomes` has the outcome of every node."""

    def __init__(self, outcomes: Sequence[Outcome[object]]) -> None:
        self.outcomes = list(outcomes)
        errors = [(outcome.node.name, outcome.error) for outcome in outcomes if outcome.error]
        list_of_errors = "".join(f"\n  {name}: {error.problem}" for name, error in errors)
        hints = dict.fromkeys(completed(error.hint, node=name) for name, error in errors if error.hint)
        super().__init__(
            f"{len(errors)} of {len(outcomes)} nodes failed:{list_of_errors}", hint="; ".join(list(hints)[:3])
        )
        codes = {error.code for _, error in errors}
        if len(codes) == 1:
            self._code = codes.pop()


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during work on several nodes: `outcomes` has the nodes that are done, the others are named."""

    def __init__(
        self, outcomes: Sequence[Outcome[Any]], in_progress: Sequence[str], not_started: Sequence[str]
    ) -> None:
        self.outcomes, self.in_progress, self.not_started = list(outcomes), list(in_progress), list(not_started)
        total = len(outcomes) + len(in_progress) + len(not_started)
        text = f"cancelled: {len(outcomes)} of {total} nodes are done"
        for words, names in (("in progress", in_progress), ("not started", not_started)):
            text += f"; {words}: {', '.join(names)}" if names else ""
        super().__init__(text)


def each(
    nodes: Sequence[Node], work: Callable[[Node], T], at_once: int = AT_ONCE, watch: Callable[[], None] | None = None
) -> list[Outcome[T]]:
    """Run `work` on every node, at most `at_once` at a time, and return the outcomes in the order of `nodes`.

    `watch` is called every 0.1 s meanwhile. Ctrl-C raises Interrupted, or KeyboardInterrupt if there is only one node.
    """
    if len(nodes) == 1 and watch is None:
        return [_try(nodes[0], work)]
    return _Workers(nodes, work).run(at_once, watch)


class _Workers(Generic[T]):
    """The threads that work on the nodes, and the outcomes so far."""

    def __init__(self, nodes: Sequence[Node], work: Callable[[Node], T]) -> None:
        self._nodes, self._work = nodes, work
        self._waiting = deque(nodes)
        self._begun: set[str] = set()
        self._outcomes: dict[str, Outcome[T]] = {}
        self._errors: list[BaseException] = []

    def run(self, at_once: int, watch: Callable[[], None] | None) -> list[Outcome[T]]:
        # Daemon threads: Ctrl-C must not wait for a node that does not answer.
        threads = [threading.Thread(target=self._work_through, daemon=True) for _ in self._nodes[:at_once]]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                self._join(thread, watch)
        except KeyboardInterrupt:
            raise self._interrupted() from None
        if self._errors:
            raise self._errors[0]
        return [self._outcomes[node.name] for node in self._nodes]

    def _work_through(self) -> None:
        try:
            while (node := self._next()) is not None:
                self._begun.add(node.name)
                self._outcomes[node.name] = self._try(node)
        except BaseException as error:  # noqa: BLE001  SystemExit and the like; the caller's thread raises it again
            self._errors.append(error)

    def _next(self) -> Node | None:
        try:
            return self._waiting.popleft()
        except IndexError:  # the others have taken the last ones
            return None

    def _try(self, node: Node) -> Outcome[T]:
        """Work on one of several nodes; an unexpected exception must not end the work on the others."""
        try:
            return _try(node, self._work)
        except Exception as error:  # noqa: BLE001  the boundary of one node's work
            return Outcome(node, error=crash_report.crash_report(node.name, error))

    @staticmethod
    def _join(thread: threading.Thread, watch: Callable[[], None] | None) -> None:
        while watch is not None and thread.is_alive():
            thread.join(WATCH_S)
            watch()
        thread.join()

    def _interrupted(self) -> KeyboardInterrupt:
        self._waiting.clear()  # no thread begins another node
        if len(self._nodes) == 1:
            return KeyboardInterrupt()
        done, begun = dict(self._outcomes), set(self._begun)
        names = [node.name for node in self._nodes]
        return Interrupted(
            [done[name] for name in names if name in done],
            [name for name in names if name in begun and name not in done],
            [name for name in names if name not in begun],
        )


def raise_only(outcomes: Sequence[Outcome[T]]) -> None:
    """Raise the error of a single node unchanged: there are no other rows to show."""
    if len(outcomes) == 1 and outcomes[0].error:
        raise outcomes[0].error


def results(outcomes: Sequence[Outcome[T]], failed: Callable[[Node, CodeSmithError], R]) -> list[T | R]:
    """Return the results; for a node that failed, what `failed` returns."""
    shown: list[T | R] = []
    for outcome in outcomes:
        if outcome.error:
            shown.append(failed(outcome.node, outcome.error))
        elif outcome.result is not None:
            shown.append(outcome.result)
    return shown


def raise_failures(outcomes: Sequence[Outcome[T]]) -> None:
    """Raise SomeFailed if a node failed. Show the results first."""
    if any(outcome.error for outcome in outcomes):
        raise SomeFailed([Outcome(one.node, one.result, one.error) for one in outcomes])


def _try(node: Node, work: Callable[[Node], T]) -> Outcome[T]:
    try:
        return Outcome(node, result=work(node))
    except CodeSmithError as error:
        return Outcome(node, error=error)
