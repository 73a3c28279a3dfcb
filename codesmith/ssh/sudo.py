"""Become root with sudo: without a password if sudo allows that, else with one, in a single attempt.

After a wrong password sudo asks again and would read whatever follows as the next attempt. So nothing is sent after the
password until the script's frame has reported that it is root.
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
    from codesmith.ssh.exec_channel import ExecChannel

ANSWERS_WITHIN_S = 30.0
# PAM's limit (PAM_MAX_RESP_SIZE); sudo would read the rest as another line.
PASSWORD_MAX_BYTES = 511
# Not named after the user: sudo ignores files with a dot in their name.
RULES = "/etc/sudoers.d/codesmith-operators"
NEEDS_PASSWORD = ("a password is required", "interactive authentication is required")
NO_SHELL = re.compile("env: .*/bin/sh.*: permission denied", re.IGNORECASE)
NO_SUDO = ("sudo: not found", "sudo: command not found", "sudo: no such file", "sudo: permission denied")
NOT_ALLOWED = ("is not in the sudoers file", "may not run sudo", "is not allowed to", "not allowed to execute")
NO_TERMINAL = ("you must have a tty",)


@dataclass(frozen=True)
class Sudo:
    """One attempt to become root; `command` is sudo's command line up to the program that it runs."""

    password: str = field(default="", repr=False)
    prompt: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def command(self) -> str:
        """The command line. With a password `-k` ignores what sudo remembers, so that it always asks."""
        return f"sudo -k -S -u root -p {self.prompt} --" if self.password else "sudo -n -u root --"

    def authenticate(self, channel: ExecChannel, mark: bytes) -> bool:
        """Send the password when sudo asks; return whether `mark` came, False if sudo refused.

        TimeoutError if sudo asks for something else.
        """
        prompt, begun = self.prompt.encode(), mark + b"\n"
        channel.wait_for(lambda: prompt in channel.stderr or begun in channel.stdout, ANSWERS_WITHIN_S)
        if begun in channel.stdout:  # root already, or sudo does not ask any more
            return True
        if prompt in channel.stderr:
            channel.send(self.password.encode(errors="surrogateescape") + b"\n")
            channel.wait_for(lambda: channel.stderr.count(prompt) > 1 or begun in channel.stdout, ANSWERS_WITHIN_S)
        return begun in channel.stdout

    def is_refused(self, output: str) -> bool:
        """Return whether the password was wrong: sudo asked again, or says so."""
        return bool(self.password) and (output.count(self.prompt) > 1 or "incorrect password" in output)


def password_request(connection: Any, name: str) -> SecretRequest:
    """Return the request for the sudo password."""
    target = target_of(connection)
    of = f"{target.user}@{target.host}:{target.port}"
    return SecretRequest(SUDO, of, f"{name}: sudo password of {target.user}: ")


def check_password(password: str, name: str) -> None:
    """Raise AuthenticationFailed, before any attempt, for what cannot be a password."""
    if len(password.encode(errors="surrogateescape")) > PASSWORD_MAX_BYTES or set(password) & {"\n", "\r", "\0"}:
        raise AuthenticationFailed(
            f"node {name}: that is no password (more than {PASSWORD_MAX_BYTES} bytes, or several lines)",
            hint="the first line of the file that --sudo-password-file names is the password",
        )


def refusal(connection: Any, name: str, sudo: Sudo, output: str) -> AuthenticationFailed:
    """Return why sudo refused, from its `output`; SecretNeeded or SecretRefused if it is about the password."""
    user, secret = target_of(connection).user, password_request(connection, name).to_dict()
    words = output.replace(sudo.prompt, "").strip()
    allow = f"{without_password(user)}; or log in as root"
    cannot = f"node {name}: {user} cannot become root"
    if sudo.is_refused(output):
        again = f"try again: {THIS_COMMAND}"
        return SecretRefused(f"{cannot}: sudo refused the password (tried once)", hint=again, secret=secret)
    if _says(words, NEEDS_PASSWORD):
        problem = f"{cannot} without a password, and none was given"
        return SecretNeeded(problem, hint=f"give it: --sudo-password-file PATH; or {allow}", secret=secret)
    if _says(words, NOT_ALLOWED):
        return AuthenticationFailed(f"{cannot}: sudo there does not allow {user} to run this", hint=allow)
    if _says(words, NO_TERMINAL):
        hint = _add_rule(f"Defaults:{_quoted(user)} !requiretty")
        return AuthenticationFailed(f"{cannot}: sudo there wants a terminal (requiretty)", hint=hint)
    if NO_SHELL.search(words):
        hint = _add_rule(f"Defaults:{_quoted(user)} !noexec")
        return AuthenticationFailed(f"{cannot}: sudo there lets no program start another (noexec)", hint=hint)
    if _says(words, NO_SUDO):
        problem = f"{cannot}: there is no sudo that {user} can run (doas and the like are not supported)"
        return AuthenticationFailed(problem, hint="log in as root, or install sudo there: `user: root` in nodes.yaml")
    return AuthenticationFailed(f"{cannot}: sudo said: {words[-300:] or 'nothing'}", hint=allow)


def without_password(user: str) -> str:
    """Return the command that lets a login become root without a password."""
    return _add_rule(f"{_quoted(user)} ALL=(ALL) NOPASSWD: ALL")


def _add_rule(line: str) -> str:
    """Return the command that appends a line to a sudoers file of CodeSmith's own."""
    return f"on the node, as root: (umask 227; printf '%s\\n' {shlex.quote(line)} >>{RULES})"


def _quoted(user: str) -> str:
    """Return a user name for sudoers: in quotes if it holds special characters."""
    return user if re.fullmatch(r"[\w.-]+", user) else '"' + user.replace("\\", "\\\\") + '"'


def unexpected_question(connection: Any, name: str, sudo: Sudo, output: str) -> AuthenticationFailed:
    """Return the error for a sudo that waits for something else than the password."""
    words = output.replace(sudo.prompt, "").strip()
    problem = f"node {name}: sudo there waits for something else than a password; it said: {words[-300:] or 'nothing'}"
    return AuthenticationFailed(problem, hint=f"see what: {target_of(connection).ssh_line('ssh -t', 'sudo id')}")


def _says(words: str, known: tuple[str, ...]) -> bool:
    return any(one in words.lower() for one in known)
