"""Do the same on several nodes at once; one that fails does not stop the others."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from codesmith.errors import CodeSmithError
from codesmith.registry import Node

T = TypeVar("T")
R = TypeVar("R")

# sshd's MaxStartups refused 10 of 40 connects at once when measured; many nodes share a bastion.
AT_ONCE = 16


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What came of one node: a result or an error."""

    node: Node
    result: T | None = None
    error: CodeSmithError | None = None


class SomeFailed(CodeSmithError):
    """At least one node of several failed; `outcomes` has all of them, those that went well too."""

    def __init__(self, outcomes: Sequence[Outcome[object]]) -> None:
        self.outcomes = list(outcomes)
        errors = [(outcome.node.name, outcome.error) for outcome in outcomes if outcome.error]
        told = "".join(f"\n  {name}: {error.problem}" for name, error in errors)
        hints = dict.fromkeys(error.hint for _, error in errors if error.hint)
        super().__init__(f"{len(errors)} of {len(outcomes)} nodes failed:{told}", hint="; ".join(list(hints)[:3]))
        codes = {error.code for _, error in errors}
        if len(codes) == 1:
            self._code = codes.pop()


def each(nodes: Sequence[Node], work: Callable[[Node], T]) -> list[Outcome[T]]:
    """Run `work` on every node, at most AT_ONCE at a time, and return the outcomes in the order of `nodes`."""
    found: dict[str, Outcome[T]] = {}
    unexpected: list[BaseException] = []
    if len(nodes) == 1:
        _try(nodes[0], work, found)
        return list(found.values())
    waiting: queue.SimpleQueue[Node] = queue.SimpleQueue()
    for node in nodes:
        waiting.put(node)

    def worker() -> None:
        try:
            while True:
                _try(waiting.get_nowait(), work, found)
        except queue.Empty:
            pass
        except BaseException as error:  # noqa: BLE001  a bug: raised again in the caller's thread
            unexpected.append(error)

    # Daemons: Ctrl-C must not wait for a node that does not answer.
    threads = [threading.Thread(target=worker, daemon=True) for _ in nodes[:AT_ONCE]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if unexpected:
        raise unexpected[0]
    return [found[node.name] for node in nodes]


def results(outcomes: Sequence[Outcome[T]], failed: Callable[[Node, CodeSmithError], R]) -> list[T | R]:
    """Return what there is to show: results, and for a node that failed what `failed` makes of it.

    The only node's error is raised as it is: there is nothing to show beside it.
    """
    if len(outcomes) == 1 and outcomes[0].error:
        raise outcomes[0].error
    shown: list[T | R] = []
    for outcome in outcomes:
        if outcome.error:
            shown.append(failed(outcome.node, outcome.error))
        elif outcome.result is not None:
            shown.append(outcome.result)
    return shown


def raise_failures(outcomes: Sequence[Outcome[T]]) -> None:
    """Raise SomeFailed if a node failed; called after the results were shown."""
    if any(outcome.error for outcome in outcomes):
        raise SomeFailed([Outcome(one.node, one.result, one.error) for one in outcomes])


def _try(node: Node, work: Callable[[Node], T], found: dict[str, Outcome[T]]) -> None:
    try:
        found[node.name] = Outcome(node, result=work(node))
    except CodeSmithError as error:
        found[node.name] = Outcome(node, error=error)
