"""Log in with a password by either of sshd's two methods: one attempt, with secrets that a person gave before."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import paramiko

from codesmith.secrets import ANSWER, PASSWORD, SecretRequest

if TYPE_CHECKING:
    from codesmith.ssh.target import Target
    from codesmith.ssh.transport import NodeTransport


# sshd's message when it disconnects because of MaxAuthTries.
TOO_MANY = "Too many authentication failures"
# PAM's questions once the password has expired; the old password must not be given for the new one.
NEW_PASSWORD = re.compile(r"\b(new|retype|repeat)\b.*\bpassword\b|\bcurrent\b.*\bpassword\b", re.IGNORECASE)


class _Unanswered(paramiko.SSHException):
    """Ends the connection before an answer is sent: an answer would count as an attempt."""


class PasswordLogin:
    """Passwords for one login. `missing` is the first secret that was needed and not given, `wrong` the refused one."""

    def __init__(self, target: Target, given: Mapping[SecretRequest, str]) -> None:
        self._target, self._given = target, given
        self._used: list[SecretRequest] = []
        self.missing: SecretRequest | None = None
        self.wrong: SecretRequest | None = None
        # sshd ended the connection for another reason: the password may be right.
        self.is_cut_off = False
        self.is_expired = False

    def is_accepted(self, transport: NodeTransport, offered: Sequence[str]) -> bool:
        """Try the first method that both sides allow and return whether it logs in; without one nothing is sent."""
        method = next((one for one in self._target.passwords if one in offered), "")
        if not method:
            return False
        try:
            further = self._by_password(transport) if method == "password" else self._by_questions(transport)
        except paramiko.AuthenticationException as error:
            raise_if_late(error)
            self.is_cut_off = not transport.is_active() and TOO_MANY not in transport.disconnect_reason
            self.wrong = self._used[0] if self._used and not self.is_cut_off else None
            return False
        except _Unanswered:
            return False
        return further == []

    def _by_password(self, transport: NodeTransport) -> list[str] | None:
        password = self._answer(password_request(self._target))
        if password is None:
            return None
        # Bytes: a terminal's encoding need not be UTF-8. No fallback: that would be a second attempt.
        return transport.auth_password(self._target.user, password, fallback=False)  # type: ignore[arg-type]

    def _by_questions(self, transport: NodeTransport) -> list[str]:
        def answer(title: str, instructions: str, questions: list[tuple[str, bool]]) -> list[bytes]:  # noqa: ARG001
            self.is_expired = any(NEW_PASSWORD.search(text) for text, _ in questions)
            if self.is_expired:
                raise _Unanswered("sshd wants a new password")
            answers = [self._answer(answer_request(self._target, text)) for text, _ in questions]
            if None in answers:
                raise _Unanswered("nobody has answered a question")
            return [one for one in answers if one is not None]

        return transport.auth_interactive(self._target.user, answer)  # type: ignore[arg-type]

    def _answer(self, request: SecretRequest) -> bytes | None:
        value = self._given.get(request)
        if not value:
            self.missing = self.missing or (None if request in self._given else request)
            return None
        self._used.append(request)
        return value.encode(errors="surrogateescape")


def password_request(target: Target) -> SecretRequest:
    """Return the request for the password of a login."""
    prompt = f"{target.name}: password of {target.user} ({target.host}:{target.port}): "
    return SecretRequest(PASSWORD, _login(target), prompt)


def answer_request(target: Target, question: str) -> SecretRequest:
    """Return the request for the answer to a question of sshd."""
    if re.search(r"\bpassword\b", question, re.IGNORECASE):
        return password_request(target)
    return SecretRequest(ANSWER, f"{_login(target)} {question}", f"{target.name}: {question}")


def methods_offered(transport: NodeTransport, user: str) -> Sequence[str]:
    """Return the login methods that sshd offers, none if it needs none; EOFError if it closes the connection."""
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
    """Raise TimeoutError if no answer came in time: paramiko raises that as a failed authentication."""
    if str(error) == "Authentication timeout.":
        raise TimeoutError from error


def _login(target: Target) -> str:
    return f"{target.user}@{target.host}:{target.port}"
