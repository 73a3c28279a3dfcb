"""One session on a node: connect, probe, carry out a plan, report progress. What to do is decided elsewhere."""

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
    """One thing that was done: `phase` is connect, probe, step or prove. `then` is what begins now."""

    node: str
    phase: str
    text: str
    seconds: float
    ok: bool = True
    message: str = ""
    then: str = ""


Tell = Callable[[Progress], None]
Replan = Callable[[], "tuple[Facts, list[Step]]"]


def first_text(steps: Sequence[Step]) -> str:
    """Return the text of the first step; empty if there is none."""
    return steps[0].text if steps else ""


class Session:
    """A connection to one node, as a context manager."""

    def __init__(self, node: Node, tell: Tell | None = None, *, retry: str = "") -> None:
        """Resolve the node. `retry` is the command that continues after a failure (default: prepare)."""
        from codesmith.ssh.target import resolve

        self._tell, self._retry = tell, retry
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
        """The time since the session began."""
        return time.monotonic() - self._begun

    def reconnect(self) -> None:
        """Log in again: a login keeps the groups that it started with."""
        self.connection.close()
        self._connect()

    def probe(self, desired: Desired, *, residents: bool = False) -> Facts:
        """Return what the node has now; with `residents` its workspaces and users too."""
        from codesmith.bootstrap.probe import probe

        return probe(self.connection, desired, residents=residents)

    def probe_installed(self, desired: Desired, *, residents: bool = False) -> Facts:
        """Return the same; StepFailed if the node has a ledger and no Python that can read it."""
        facts = self.probe(desired, residents=residents)
        if facts.is_ledger_unread:
            version = ".".join(map(str, facts.python)) if facts.python else "missing"
            problem = f"node {self.name}: /usr/bin/python3 is {version}, so its ledger cannot be read"
            raise StepFailed(problem, hint=f"repair it first: inv node.prepare --node {self.name}")
        return facts

    def carry_out(
        self, facts: Facts, steps: Sequence[Step], replan: Replan, data: bytes = b"", *, then: str = "ask the agent"
    ) -> list[Step]:
        """Carry out `steps` and return them; plan again with `replan` if another prepare has changed the node.

        `then` is what comes after the last step. StepFailed after 3 attempts.
        """
        from codesmith.bootstrap.apply import apply

        for _ in range(ATTEMPTS):
            tell = partial(self._say_result, steps, then)
            if not steps or apply(self.connection, facts, steps, data, tell, self._retry):
                return list(steps)
            facts, steps = replan()
        problem = f"node {self.name}: other prepares keep changing it"
        raise StepFailed(problem, hint="wait until they have ended, then run this again")

    def prove(self, build: str, node_id: str) -> str:
        """Return the version of the agent that answers through SSH.

        Unproven unless it is this build, WrongNode unless it is this node.
        """
        from codesmith.bootstrap.prove import expect_node, prove

        found = prove(self.connection, build)
        expect_node(self.name, found, node_id)
        self.say("prove", f"agent {found['agent']} answers on node {node_id}")
        return str(found["agent"])

    def say(self, phase: str, text: str, then: str = "") -> None:
        """Report what was done since the last report, and what begins now."""
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
            then = first_text(steps[steps.index(step) + 1 :]) or last
            self._tell(Progress(self.name, "step", step.text, result.seconds, result.ok, result.message, then))
        self._last = time.monotonic()
