"""Root by sudo: without a password where that suffices, else with one, in a single attempt.

A wrong password makes sudo ask again, and it would take whatever follows for the next attempt. So nothing follows
before the script's frame has said that it is root.
"""

from __future__ import annotations

import re
import secrets
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from codesmith.errors import THIS_COMMAND, AuthenticationFailed, SecretNeeded, SecretRefused
from codesmith.secrets import SUDO, SecretRequest
from codesmith.ssh.target import target_of

if TYPE_CHECKING:
    from codesmith.ssh.exec_channel import Exchange

ANSWERS_WITHIN_S = 30.0
# What PAM takes (PAM_MAX_RESP_SIZE); sudo would take the rest for another line.
PASSWORD_MAX_BYTES = 511
# Not named after the user: sudo passes over files with a dot in their name.
RULES = "/etc/sudoers.d/codesmith-operators"
NEEDS_PASSWORD = ("a password is required", "interactive authentication is required")
NO_SHELL = re.compile("env: .*/bin/sh.*: permission denied", re.IGNORECASE)
NO_SUDO = ("sudo: not found", "sudo: command not found", "sudo: no such file", "sudo: permission denied")
NOT_ALLOWED = ("is not in the sudoers file", "may not run sudo", "is not allowed to", "not allowed to execute")
NO_TERMINAL = ("you must have a tty",)


@dataclass(frozen=True)
class Sudo:
    """One way through sudo: `words` are its command line, up to the command."""

    password: str = field(default="", repr=False)
    prompt: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def words(self) -> str:
        """Return the command line; with a password nothing that sudo remembers counts, so that it asks exactly once."""
        return f"sudo -k -S -u root -p {self.prompt} --" if self.password else "sudo -n -u root --"

    def enter(self, exchange: Exchange, mark: bytes) -> bool:
        """Give the password when sudo asks; return whether `mark` came, False when sudo will not have us.

        AuthenticationFailed on a password that cannot be one, before it is tried.
        """
        asked, begun = self.prompt.encode(), mark + b"\n"
        exchange.wait_for(lambda: asked in exchange.stderr or begun in exchange.stdout, ANSWERS_WITHIN_S)
        if begun in exchange.stdout:  # root already, or nothing is asked any more
            return True
        if asked in exchange.stderr:
            exchange.send(self.password.encode(errors="surrogateescape") + b"\n")
            exchange.wait_for(lambda: exchange.stderr.count(asked) > 1 or begun in exchange.stdout, ANSWERS_WITHIN_S)
        return begun in exchange.stdout

    def is_refused(self, said: str) -> bool:
        """Return whether the password was wrong: sudo asked again, or says so."""
        return bool(self.password) and (said.count(self.prompt) > 1 or "incorrect password" in said)


def wanted(connection: Any, name: str) -> SecretRequest:
    """Return what to ask for where sudo wants a password."""
    to = target_of(connection)
    return SecretRequest(SUDO, f"{to.user}@{to.host}:{to.port}", f"{name}: sudo password of {to.user}: ")


def check(password: str, name: str) -> None:
    """Return if it can be a password; AuthenticationFailed, and no attempt, if not."""
    if len(password.encode(errors="surrogateescape")) > PASSWORD_MAX_BYTES or set(password) & {"\n", "\r", "\0"}:
        raise AuthenticationFailed(
            f"node {name}: that is no password (more than {PASSWORD_MAX_BYTES} bytes, or several lines)",
            hint="the first line of the file that --sudo-password-file names is the password",
        )


def refusal(connection: Any, name: str, sudo: Sudo, said: str) -> AuthenticationFailed:
    """Return why sudo did not make us root; SecretNeeded or SecretRefused where that is about the password."""
    user, secret = target_of(connection).user, wanted(connection, name).to_dict()
    words = said.replace(sudo.prompt, "").strip()
    allow = f"{without_password(user)}; or log in as root"
    cannot = f"node {name}: {user} cannot become root"
    if sudo.is_refused(said):
        again = f"try again: {THIS_COMMAND}"
        return SecretRefused(f"{cannot}: sudo refused the password (tried once)", hint=again, secret=secret)
    if _says(words, NEEDS_PASSWORD):
        problem = f"{cannot} without a password, and none was given"
        return SecretNeeded(problem, hint=f"give it: --sudo-password-file PATH; or {allow}", secret=secret)
    if _says(words, NOT_ALLOWED):
        return AuthenticationFailed(f"{cannot}: sudo there allows {user} nothing of the kind", hint=allow)
    if _says(words, NO_TERMINAL):
        hint = _rule(f"Defaults:{_written(user)} !requiretty")
        return AuthenticationFailed(f"{cannot}: sudo there wants a terminal (requiretty)", hint=hint)
    if NO_SHELL.search(words):
        hint = _rule(f"Defaults:{_written(user)} !noexec")
        return AuthenticationFailed(f"{cannot}: sudo there lets no program start another (noexec)", hint=hint)
    if _says(words, NO_SUDO):
        problem = f"{cannot}: there is no sudo that {user} could run (doas and the like are not used)"
        return AuthenticationFailed(problem, hint="log in as root, or install sudo there: `user: root` in nodes.yaml")
    return AuthenticationFailed(f"{cannot}: sudo said: {words[-300:] or 'nothing'}", hint=allow)


def without_password(user: str) -> str:
    """Return the command that lets a login become root without a password."""
    return _rule(f"{_written(user)} ALL=(ALL) NOPASSWD: ALL")


def _rule(line: str) -> str:
    """Return the command that adds a line to sudoers: to a file of its own, and what is in it stays."""
    return f"on the node, as root: (umask 227; printf '%s\\n' {shlex.quote(line)} >>{RULES})"


def _written(user: str) -> str:
    """Return a user as sudoers has it: in quotes where it holds what means something there."""
    return user if re.fullmatch(r"[\w.-]+", user) else '"' + user.replace("\\", "\\\\") + '"'


def silence(connection: Any, name: str, sudo: Sudo, said: str) -> AuthenticationFailed:
    """Return the error for a sudo that waits for something else than the password."""
    words = said.replace(sudo.prompt, "").strip()
    problem = f"node {name}: sudo there waits for something else than a password; it said: {words[-300:] or 'nothing'}"
    return AuthenticationFailed(problem, hint=f"see what: {target_of(connection).ssh_line('ssh -t', 'sudo id')}")


def _says(words: str, known: tuple[str, ...]) -> bool:
    return any(one in words.lower() for one in known)
