"""What only a person knows: passphrases and passwords. Each is asked for once, and kept in memory alone."""

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
    """One secret: what it is, whose it is, and the words to ask for it with."""

    kind: str
    of: str
    prompt: str = field(compare=False)

    def to_dict(self) -> dict[str, str]:
        """Return plain data, as SecretNeeded carries it."""
        return asdict(self)


class Secrets:
    """Secrets of one command or one endpoint. `ask` returns what a person says, None where nobody can be asked.

    What somebody does not want to say is remembered as "" and not asked for again.
    """

    def __init__(self, ask: Callable[[SecretRequest], str | None] | None = None) -> None:
        self.ask = ask
        # Given beforehand, for every sudo that wants one; None: they are asked for.
        self.sudo_password: str | None = None
        self._asking, self._lock = threading.Lock(), threading.Lock()
        self._known: dict[SecretRequest, str] = {}

    def __repr__(self) -> str:
        return f"<Secrets: {len(self._known)}>"  # never what they are

    def known(self) -> dict[SecretRequest, str]:
        """Return what is known without asking."""
        with self._lock:
            return dict(self._known)

    def learn(self, answers: Mapping[SecretRequest, str]) -> None:
        """Take secrets that somebody else asked for."""
        with self._lock:
            self._known.update(answers)

    def get(self, wanted: SecretRequest) -> str | None:
        """Return a secret, asking for it if need be: one question at a time, whoever wants to know."""
        with self._asking:
            if wanted.kind == SUDO and self.sudo_password is not None:
                self.learn({wanted: self.sudo_password})
            elif wanted not in self.known() and self.ask is not None:
                answer = self.ask(wanted)
                if answer is not None:
                    self.learn({wanted: answer})
            return self.known().get(wanted)

    def forget(self, wanted: SecretRequest, value: str | None) -> None:
        """Forget a secret that was refused, unless another was learnt meanwhile."""
        with self._lock:
            if self._known.get(wanted) == value:
                self._known.pop(wanted, None)

    def supply(
        self, attempt: Callable[[Mapping[SecretRequest, str]], T], given: Mapping[SecretRequest, str] | None = None
    ) -> T:
        """Return what `attempt` returns; it is repeated with each secret that it turns out to need.

        It begins with what is known, or with `given`. Nothing is open towards a node while a person thinks.
        """
        answers = dict(self.known() if given is None else given)
        while True:
            try:
                return attempt(answers)
            except SecretNeeded as error:
                wanted = SecretRequest(**error.secret)
                value = None if wanted in answers else self.get(wanted)
                if value is None:
                    raise
                answers[wanted] = value
            except SecretRefused as error:
                wanted = SecretRequest(**error.secret)
                self.forget(wanted, answers.get(wanted))
                raise


# Of this process. A command line lets its terminal answer (task.py); a Python caller sets `SHARED.ask`.
SHARED = Secrets()
