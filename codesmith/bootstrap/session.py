"""One visit to a node: connect, look, carry out, tell on the way. What is done there is decided elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from codesmith.bootstrap.step import Step, StepResult
from codesmith.errors import StepFailed

if TYPE_CHECKING:
    from codesmith.bootstrap.facts import Facts
    from codesmith.bootstrap.layout import Desired
    from codesmith.nodes.registry import Node

CONNECT_TIMEOUT_S = 10.0
ATTEMPTS = 3


@dataclass(frozen=True)
class Progress:
    """One thing that is done: `phase` is connect, probe, step or prove. `then` is what is under way from now on."""

    node: str
    phase: str
    text: str
    seconds: float
    ok: bool = True
    message: str = ""
    then: str = ""


Tell = Callable[[Progress], None]
Look = Callable[[], "tuple[Facts, list[Step]]"]


def first(steps: Sequence[Step]) -> str:
    """Return what the first of the steps is, in words; nothing if there is none."""
    return steps[0].text if steps else ""


class Session:
    """A connection to a node, for a `with` statement."""

    def __init__(self, node: Node, tell: Tell | None = None, *, again: str = "") -> None:
        """Prepare a visit; `again` is the command that goes on where it was cut off, if it is not a prepare."""
        from codesmith.ssh.target import resolve

        self._tell, self._again = tell, again
        self._begun = self._last = time.monotonic()
        self.target = resolve(node)
        self.name = self.target.name

    def __enter__(self) -> Session:
        self._connect()
        self.say("connect", f"connected to {self.target}", "look at the node")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    @property
    def seconds(self) -> float:
        """How long it has taken until now."""
        return time.monotonic() - self._begun

    def reconnect(self) -> None:
        """Log in anew: a session keeps the groups it began with."""
        self.connection.close()
        self._connect()

    def probe(self, desired: Desired, *, residents: bool = False) -> Facts:
        """Return what the node has now; with `residents` also who lives there."""
        from codesmith.bootstrap.probe import probe

        return probe(self.connection, desired, residents=residents)

    def probe_installed(self, desired: Desired, *, residents: bool = False) -> Facts:
        """Return the same for what goes by the ledger; StepFailed where there is one that nothing can read."""
        facts = self.probe(desired, residents=residents)
        if facts.is_ledger_unread:
            version = ".".join(map(str, facts.python)) if facts.python else "missing"
            problem = f"node {self.name}: /usr/bin/python3 is {version}, so nobody can read what prepare made there"
            raise StepFailed(problem, hint=f"have it put right first: inv node.prepare --node {self.name}")
        return facts

    def carry_out(
        self, facts: Facts, steps: Sequence[Step], look: Look, data: bytes = b"", *, then: str = "ask the agent"
    ) -> list[Step]:
        """Carry out `steps`, or what `look` says when others have changed the node meanwhile; return what was done.

        `then` is what comes after the last.
        """
        from codesmith.bootstrap.apply import apply

        for _ in range(ATTEMPTS):
            tell = partial(self._say_result, steps, then)
            if not steps or apply(self.connection, facts, steps, data, tell, self._again):
                return list(steps)
            facts, steps = look()
        raise StepFailed(f"node {self.name}: others keep changing it", hint="wait for them to end, then again")

    def prove(self, build: str, node_id: str) -> str:
        """Return the version of the agent that answers through SSH; raise unless it is this build on this node."""
        from codesmith.bootstrap.prove import expect_node, prove

        found = prove(self.connection, build)
        expect_node(self.name, found, node_id)
        self.say("prove", f"agent {found['agent']} answers on node {node_id}")
        return str(found["agent"])

    def say(self, phase: str, text: str, then: str = "") -> None:
        """Tell that something was done since the last time, and what comes then."""
        now = time.monotonic()
        if self._tell:
            self._tell(Progress(self.name, phase, text, now - self._last, then=then))
        self._last = now

    def _connect(self) -> None:
        from codesmith.ssh.connect import connect

        self.connection = connect(self.target, timeout_s=CONNECT_TIMEOUT_S)

    def _say_result(self, steps: Sequence[Step], last: str, result: StepResult) -> None:
        if self._tell:
            step = result.step
            then = first(steps[steps.index(step) + 1 :]) or last
            self._tell(Progress(self.name, "step", step.text, result.seconds, result.ok, result.message, then))
        self._last = time.monotonic()
