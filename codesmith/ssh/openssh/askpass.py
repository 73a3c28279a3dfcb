"""Answer what ssh asks: its SSH_ASKPASS program gets each answer from a socket of ours, so a secret is in no argument,
environment or file.
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
from codesmith.ssh.openssh.folder import Folder
from codesmith.ssh.openssh.options import known_as
from codesmith.ssh.passwords import NEW_PASSWORD, wanted_answer, wanted_password
from codesmith.ssh.target import Target

QUESTION_MAX_BYTES = 4096
ASKS_WITHIN_S = 5.0
# Prints the answer; fails where there is none. SSH_ASKPASS_PROMPT is set where no secret is wanted.
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
    """Answers with what is `given`. What is not ends the attempt by `stop`, before an answer that would count.

    `missing` is then the secret to ask a person for; `used` are those that were given to ssh; `unanswered` ended the
    attempt, as does a question for a new password (`is_expired`); `place` asked last. A key whose passphrase is not
    known is left out: another may open.
    """

    def __init__(self, folder: Folder, places: Sequence[Target], given: Mapping[SecretRequest, str]) -> None:
        self._places, self._given = places, given
        self.missing: SecretRequest | None = None
        self.used: list[SecretRequest] = []
        self.unanswered: SecretRequest | None = None
        self.is_expired = False
        self.place = places[0]
        self.stop: Callable[[], None] = lambda: None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(folder.path / "ask"))
        self._socket.listen()
        # One for each place: its name in a question may be that of another place, too.
        self.programs = [_program(folder, number) for number in range(len(places))]
        # Without DISPLAY an ssh before 8.4 asks nobody; it opens none.
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
        line.settimeout(ASKS_WITHIN_S)
        try:
            said = b"".join(iter(lambda: line.recv(QUESTION_MAX_BYTES), b""))
            number, _, question = said.decode("utf-8", "surrogateescape").partition(" ")
            self.place = self._places[int(number)]
            if wants_new_password(question):
                self.is_expired = True
                self.stop()
                return
            answer = self._known(wanted_for(question, self.place))
            if answer:
                line.sendall(b"+" + answer.encode(errors="surrogateescape") + b"\n")
        except OSError:
            pass  # ssh ended meanwhile

    def _known(self, wanted: SecretRequest) -> str:
        """Return the answer; nothing where there is none, and where it would be a second attempt."""
        is_passphrase = wanted.kind == PASSPHRASE
        answer = self._given.get(wanted, "")
        if answer and (is_passphrase or not (self.missing or wanted in self.used)):
            self.used.append(wanted)
            return answer
        if not answer and wanted not in self._given:
            self.missing = self.missing or wanted
        if not is_passphrase:
            self.unanswered = wanted
            self.stop()
        return ""


def _program(folder: Folder, number: int) -> Path:
    command = [sys.executable, "-I", "-S", "-c", CLIENT, str(folder.path / "ask"), str(number)]
    return folder.write(f"askpass.{number}", f'#!/bin/sh\nexec {shlex.join(command)} "$1"\n', 0o700)


def wants_new_password(question: str) -> bool:
    """Return whether PAM asks for a new password; a name of a host may hold such words, too."""
    return bool(NEW_PASSWORD.search(re.sub(r"^\(\S+@\S+\) |^\S+'s password", "", question)))


def wanted_for(question: str, place: Target) -> SecretRequest:
    """Return what the ssh to `place` asks for, under the name by which the first carrier asks for it.

    Somebody else may ask too, as an ssh in the operator's ProxyCommand: that is never the place's own password.
    """
    if found := re.fullmatch(r"Enter passphrase for (?:key )?['\"]?(.+?)['\"]?: ?", question):
        return SecretRequest(PASSPHRASE, found[1], f"passphrase of the key {found[1]}: ")
    if found := re.fullmatch(r"(\S+)'s password: ?", question):
        return wanted_password(place) if found[1] in _logins(place) else _unknown(question, place)
    if found := re.fullmatch(r"\((\S+@\S+)\) (.*)", question, re.DOTALL):
        return wanted_answer(place, found[2]) if found[1] in _logins(place) else _unknown(question, place)
    return _unknown(question, place) if place.proxy_command else wanted_answer(place, question)


def _logins(place: Target) -> tuple[str, ...]:
    return tuple(f"{place.user}@{host}" for host in (known_as(place), place.host, place.alias))


def _unknown(question: str, place: Target) -> SecretRequest:
    return SecretRequest(ANSWER, f"{place.user}@{place.host}:{place.port} {question}", f"{place.name}: {question}")
