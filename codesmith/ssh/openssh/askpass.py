"""Answer ssh's questions: its SSH_ASKPASS program gets each answer from a socket of this process.

So no secret is in an argument, an environment variable or a file.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from codesmith.secrets import ANSWER, PASSPHRASE, SecretRequest
from codesmith.ssh.openssh.command import host_key_name
from codesmith.ssh.openssh.master_folder import MasterFolder
from codesmith.ssh.passwords import NEW_PASSWORD, answer_request, password_request
from codesmith.ssh.target import Target

QUESTION_MAX_BYTES = 4096
QUESTION_WITHIN_S = 5.0
# Prints the answer; fails if there is none. ssh sets SSH_ASKPASS_PROMPT if it does not ask for a secret.
CLIENT = """\
import os, socket, sys
if os.environ.get("SSH_ASKPASS_PROMPT"):
    sys.exit(os.environ["SSH_ASKPASS_PROMPT"] != "none")
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[1])
line.sendall(os.fsencode(f"{sys.argv[2]} {sys.argv[3]}"))
line.shutdown(socket.SHUT_WR)
answer = b"".join(iter(lambda: line.recv(4096), b""))
sys.stdout.buffer.write(answer[1:])
sys.exit(not answer)
"""


class AskPass:
    """Answers with the `given` secrets. If one is missing, `stop` ends ssh before an answer that counts as an attempt.

    `missing` is then the secret to ask a person for, `used` are the secrets that ssh got, `unanswered` ended the
    attempt, and `hop` asked last. A question for a new password ends ssh too (`is_expired`). A missing passphrase does
    not: another key may log in.
    """

    def __init__(self, folder: MasterFolder, hops: Sequence[Target], given: Mapping[SecretRequest, str]) -> None:
        self._hops, self._given = hops, given
        self.missing: SecretRequest | None = None
        self.used: list[SecretRequest] = []
        self.unanswered: SecretRequest | None = None
        self.is_expired = False
        self.hop = hops[0]
        self.stop: Callable[[], None] = lambda: None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(folder.path / "ask"))
        self._socket.listen()
        # One program for each hop: two hops may have the same name in a question.
        self.programs = [_program(folder, number) for number in range(len(hops))]
        # An ssh before 8.4 runs SSH_ASKPASS only if DISPLAY is set; it does not open that display.
        self.environment = {"SSH_ASKPASS": str(self.programs[0]), "SSH_ASKPASS_REQUIRE": "force"}
        self.environment["DISPLAY"] = os.environ.get("DISPLAY", ":0")
        self._thread = threading.Thread(target=self._run, name="askpass", daemon=True)
        self._thread.start()

    def __enter__(self) -> AskPass:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                line, _ = self._socket.accept()
            except OSError:
                return
            with line:
                self._answer(line)

    def _answer(self, line: socket.socket) -> None:
        line.settimeout(QUESTION_WITHIN_S)
        try:
            data = b"".join(iter(lambda: line.recv(QUESTION_MAX_BYTES), b""))
            number, _, question = data.decode("utf-8", "surrogateescape").partition(" ")
            self.hop = self._hops[int(number)]
            if wants_new_password(question):
                self.is_expired = True
                self.stop()
                return
            answer = self._use(secret_request(question, self.hop))
            if answer:
                line.sendall(b"+" + answer.encode(errors="surrogateescape") + b"\n")
        except OSError:
            pass  # ssh ended meanwhile

    def _use(self, request: SecretRequest) -> str:
        """Return the answer; "" if there is none, or if it would be a second attempt."""
        is_passphrase = request.kind == PASSPHRASE
        answer = self._given.get(request, "")
        if answer and (is_passphrase or not (self.missing or request in self.used)):
            self.used.append(request)
            return answer
        if not answer and request not in self._given:
            self.missing = self.missing or request
        if not is_passphrase:
            self.unanswered = request
            self.stop()
        return ""


def _program(folder: MasterFolder, number: int) -> Path:
    command = [sys.executable, "-I", "-S", "-c", CLIENT, str(folder.path / "ask"), str(number)]
    return folder.write(f"askpass.{number}", f'#!/bin/sh\nexec {shlex.join(command)} "$1"\n', 0o700)


def wants_new_password(question: str) -> bool:
    """Return whether PAM asks for a new password; the login in the question does not count, whatever its name."""
    return bool(NEW_PASSWORD.search(re.sub(r"^\(\S+@\S+\) |^\S+'s password", "", question)))


def secret_request(question: str, hop: Target) -> SecretRequest:
    """Return the request for the secret that the ssh to `hop` asks for, as the first carrier makes it.

    Another ssh may ask too, for example one in the operator's ProxyCommand; it never gets the hop's own password.
    """
    if match := re.fullmatch(r"Enter passphrase for (?:key )?['\"]?(.+?)['\"]?: ?", question):
        return SecretRequest(PASSPHRASE, match[1], f"passphrase of the key {match[1]}: ")
    if match := re.fullmatch(r"(\S+)'s password: ?", question):
        return password_request(hop) if match[1] in _logins(hop) else _other_request(question, hop)
    if match := re.fullmatch(r"\((\S+@\S+)\) (.*)", question, re.DOTALL):
        return answer_request(hop, match[2]) if match[1] in _logins(hop) else _other_request(question, hop)
    return _other_request(question, hop) if hop.proxy_command else answer_request(hop, question)


def _logins(hop: Target) -> tuple[str, ...]:
    return tuple(f"{hop.user}@{host}" for host in (host_key_name(hop), hop.host, hop.alias))


def _other_request(question: str, hop: Target) -> SecretRequest:
    """Return the request for the answer to any other question; it never equals one for a password."""
    return SecretRequest(ANSWER, f"{hop.user}@{hop.host}:{hop.port} {question}", f"{hop.name}: {question}")
