"""Log in with a password, by either of sshd's two ways: one attempt, with what a person said before."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import paramiko

from codesmith.secrets import ANSWER, PASSWORD, SecretRequest

if TYPE_CHECKING:
    from codesmith.ssh.target import Target
    from codesmith.ssh.transport import NodeTransport


# What OpenSSH says when it closes for MaxAuthTries.
TOO_MANY = "Too many authentication failures"
# What PAM asks for once the password has expired; the old one must not be given for the new.
NEW_PASSWORD = re.compile(r"\b(new|retype|repeat)\b.*\bpassword\b|\bcurrent\b.*\bpassword\b", re.IGNORECASE)


class _Unanswered(paramiko.SSHException):
    """Ends the connection before an answer is sent that would count as an attempt."""


class PasswordLogin:
    """Passwords for one login. `missing` is the first secret that was wanted and not known, `wrong` one refused."""

    def __init__(self, target: Target, given: Mapping[SecretRequest, str]) -> None:
        self._target, self._given = target, given
        self._used: list[SecretRequest] = []
        self.missing: SecretRequest | None = None
        self.wrong: SecretRequest | None = None
        # sshd ended the connection for another reason: the password may well be the right one.
        self.is_cut_off = False
        self.is_expired = False

    def is_accepted(self, transport: NodeTransport, offered: Sequence[str]) -> bool:
        """Return whether the first way that both sides want lets us in; nothing is sent where there is none."""
        method = next((one for one in self._target.passwords if one in offered), "")
        if not method:
            return False
        try:
            further = self._by_password(transport) if method == "password" else self._by_questions(transport)
        except paramiko.AuthenticationException as error:
            raise_if_late(error)
            self.is_cut_off = not transport.is_active() and TOO_MANY not in transport.farewell
            self.wrong = self._used[0] if self._used and not self.is_cut_off else None
            return False
        except _Unanswered:
            return False
        return further == []

    def _by_password(self, transport: NodeTransport) -> list[str] | None:
        password = self._answer(wanted_password(self._target))
        if password is None:
            return None
        # Bytes: a terminal's encoding need not be UTF-8. No fallback: it would be a second attempt.
        return transport.auth_password(self._target.user, password, fallback=False)  # type: ignore[arg-type]

    def _by_questions(self, transport: NodeTransport) -> list[str]:
        def answer(title: str, instructions: str, questions: list[tuple[str, bool]]) -> list[bytes]:  # noqa: ARG001
            self.is_expired = any(NEW_PASSWORD.search(text) for text, _ in questions)
            if self.is_expired:
                raise _Unanswered("a new password is wanted")
            answers = [self._answer(wanted_answer(self._target, text)) for text, _ in questions]
            if None in answers:
                raise _Unanswered("a question that nobody answered")
            return [one for one in answers if one is not None]

        return transport.auth_interactive(self._target.user, answer)  # type: ignore[arg-type]

    def _answer(self, wanted: SecretRequest) -> bytes | None:
        value = self._given.get(wanted)
        if not value:
            self.missing = self.missing or (None if wanted in self._given else wanted)
            return None
        self._used.append(wanted)
        return value.encode(errors="surrogateescape")


def wanted_password(target: Target) -> SecretRequest:
    """Return what to ask for where a login wants its password."""
    return SecretRequest(PASSWORD, _login(target), f"{target.name}: password of {target.user} ({_place(target)}): ")


def wanted_answer(target: Target, question: str) -> SecretRequest:
    """Return what to ask for where sshd asks a question of its own."""
    if re.search(r"\bpassword\b", question, re.IGNORECASE):
        return wanted_password(target)
    return SecretRequest(ANSWER, f"{_login(target)} {question}", f"{target.name}: {question}")


def methods_offered(transport: NodeTransport, user: str) -> Sequence[str]:
    """Return the ways of logging in that sshd offers, none where it lets us in as we are; EOFError if it goes away."""
    try:
        transport.auth_none(user)
    except paramiko.BadAuthenticationType as error:
        return error.allowed_types
    except paramiko.AuthenticationException as error:
        raise_if_late(error)
    except (paramiko.SSHException, OSError) as error:
        raise EOFError("it closed the connection before it said how one may log in") from error
    if not transport.is_active():
        raise EOFError("it closed the connection before it said how one may log in")
    return ()


def raise_if_late(error: paramiko.AuthenticationException) -> None:
    """Raise TimeoutError for what paramiko calls a failed authentication when no answer came in time."""
    if str(error) == "Authentication timeout.":
        raise TimeoutError from error


def _login(target: Target) -> str:
    return f"{target.user}@{_place(target)}"


def _place(target: Target) -> str:
    return f"{target.host}:{target.port}"
