"""Passphrases and passwords. Each is asked for once, and kept only in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TypeVar

from codesmith.errors import SecretNeeded, SecretRefused

T = TypeVar("T")

PASSPHRASE, PASSWORD, ANSWER, SUDO = "passphrase", "password", "answer", "sudo"


@dataclass(frozen=True)
class SecretRequest:
    """One secret: its kind, whose it is, and the prompt that asks for it."""

    kind: str
    of: str
    prompt: str = field(compare=False)

    def to_dict(self) -> dict[str, str]:
        """Return the request as plain data, as SecretNeeded carries it."""
        return asdict(self)


class Secrets:
    """The secrets of one command or one endpoint. `ask` returns a person's answer, or None if nobody can be asked.

    An empty answer is remembered as "" and not asked for again.
    """

    def __init__(self, ask: Callable[[SecretRequest], str | None] | None = None) -> None:
        self.ask = ask
        # The password for every sudo that needs one; None: ask.
        self.sudo_password: str | None = None
        self._asking, self._lock = threading.Lock(), threading.Lock()
        self._known: dict[SecretRequest, str] = {}

    def __repr__(self) -> str:
        return f"<Secrets: {len(self._known)}>"  # never their values

    def known(self) -> dict[SecretRequest, str]:
        """Return the secrets that are known already."""
        with self._lock:
            return dict(self._known)

    def learn(self, answers: Mapping[SecretRequest, str]) -> None:
        """Remember secrets that were asked for elsewhere."""
        with self._lock:
            self._known.update(answers)

    def get(self, request: SecretRequest) -> str | None:
        """Return a secret, asking for it if necessary; threads ask one question at a time."""
        with self._asking:
            if request.kind == SUDO and self.sudo_password is not None:
                self.learn({request: self.sudo_password})
            elif request not in self.known() and self.ask is not None:
                answer = self.ask(request)
                if answer is not None:
                    self.learn({request: answer})
            return self.known().get(request)

    def forget(self, request: SecretRequest, value: str | None) -> None:
        """Forget a secret that was refused, unless it has been replaced meanwhile."""
        with self._lock:
            if self._known.get(request) == value:
                self._known.pop(request, None)

    def supply(
        self, attempt: Callable[[Mapping[SecretRequest, str]], T], given: Mapping[SecretRequest, str] | None = None
    ) -> T:
        """Call `attempt` with the known secrets (or `given`), again for each secret that it needs; return its result.

        No connection to a node is open while a person is asked.
        """
        answers = dict(self.known() if given is None else given)
        while True:
            try:
                return attempt(answers)
            except SecretNeeded as error:
                request = SecretRequest(**error.secret)
                value = None if request in answers else self.get(request)
                if value is None:
                    raise
                answers[request] = value
            except SecretRefused as error:
                request = SecretRequest(**error.secret)
                self.forget(request, answers.get(request))
                raise


# The secrets of this process. A command line asks on its terminal (cli/task.py); a Python caller sets `SHARED.ask`.
SHARED = Secrets()
