"""Streams: a connection that shows a one-time token becomes a stream into a workspace's runtime.

The connection itself is passed to the runtime. So a stream costs the front end nothing, and outlives it.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from agent.frontend.callers import caller_token
from agent.frontend.headers import Headers
from agent.shared.clock import to_text
from agent.shared.errors import AgentError, CommandFailed, LimitReached
from agent.shared.sshkeys import parse_key

PATH, PROTOCOL = "/stream", "codesmith-stream"
TOKEN = "[0-9a-f]{64}"  # noqa: S105  (its grammar)
TOKEN_S = 60.0
# Tokens that nobody has shown yet, of all workspaces together.
TOKENS_MAX = 1024
# What they hold in memory, all together.
FIELDS_BYTES_MAX = 32 << 20
# The requests whose streams are made of frames, and the frame that says why there is no such stream.
WITH_FRAMES = ("run", "job_attach")
REFUSAL = 9
HOST_KEYS_MAX = 8


class Ticket(NamedTuple):
    """What a token opens: a workspace, as it was when the token was given out, and the request to its runtime."""

    workspace: str
    owner: Tuple[Any, ...]
    request: str
    fields: Dict[str, Any]
    peer_uid: Optional[int]
    deadline: float
    size_bytes: int = 0
    # The id of the token that its caller showed; "" for an operator.
    holder: str = ""

    @property
    def has_frames(self) -> bool:
        """Whether the stream is made of frames."""
        return self.request in WITH_FRAMES


class Tokens:
    """One-time tokens, in memory only: a restart of the agent invalidates them. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Oldest first: all tokens live equally long.
        self._tickets: Dict[str, Ticket] = {}
        # Taken, and not answered by their runtimes yet.
        self._taken: Dict[str, Ticket] = {}

    def give(
        self, document: Dict[str, Any], request: str, fields: Dict[str, Any], peer_uid: Optional[int]
    ) -> Tuple[str, str]:
        """Return a new token for one stream of this peer into the workspace, and when it expires."""
        token, now = secrets.token_hex(32), time.monotonic()
        size, owner = len(json.dumps(fields)), owner_of(document)
        shown = caller_token.get()
        holder = shown.id if shown else ""
        ticket = Ticket(document["name"], owner, request, fields, peer_uid, now + TOKEN_S, size, holder)
        with self._lock:
            self._drop_expired(now)
            held = sum(ticket.size_bytes for ticket in self._tickets.values())
            if len(self._tickets) >= TOKENS_MAX or held + size > FIELDS_BYTES_MAX:
                raise LimitReached(f"{len(self._tickets)} streams were asked for and not opened", hint="try again")
            self._tickets[token] = ticket
        return token, to_text(datetime.now(timezone.utc) + timedelta(seconds=TOKEN_S), "milliseconds")

    def waiting(self, workspace: str) -> List[Dict[str, Any]]:
        """Return the fields of the jobs that wait for their streams into a workspace, newest first."""
        with self._lock:
            self._drop_expired(time.monotonic())
            return _jobs_of(workspace, self._tickets)

    def starting(self, workspace: str) -> List[Dict[str, Any]]:
        """Return the fields of the jobs whose streams have come, and that their runtime may not have yet."""
        with self._lock:
            return _jobs_of(workspace, self._taken)

    def note_answered(self, token: str) -> None:
        """Note that the runtime has answered what a token opened, or never will."""
        with self._lock:
            self._taken.pop(token, None)

    def take(self, token: str, peer_uid: Optional[int], holder: str = "") -> Optional[Ticket]:
        """Return what a token opens, once; None when it is unknown, used, expired or another caller's."""
        with self._lock:
            self._drop_expired(time.monotonic())
            ticket = self._tickets.get(token)
            if ticket is None or (ticket.peer_uid, ticket.holder) != (peer_uid, holder):
                return None
            self._taken[token] = self._tickets.pop(token)
            return ticket

    def _drop_expired(self, now: float) -> None:
        for token, ticket in list(self._tickets.items()):
            if ticket.deadline > now:
                return
            del self._tickets[token]


def _jobs_of(workspace: str, tickets: Dict[str, Ticket]) -> List[Dict[str, Any]]:
    found = [one.fields for one in tickets.values() if one.workspace == workspace and one.request == "run"]
    return found[::-1]


def owner_of(document: Dict[str, Any]) -> Tuple[Any, ...]:
    """Return what must not have changed between dial and stream: which workspace it is, and whose."""
    return document["id"], document["user"]


def read_host_keys(answer: Dict[str, Any]) -> List[str]:
    """Return the host keys in the answer of a runtime, which may say anything; CommandFailed when they are none."""
    try:
        return [parse_key(line, "host_keys") for line in answer["host_keys"][:HOST_KEYS_MAX]]
    except (AgentError, KeyError, TypeError):
        problem = "the sshd of this workspace has no usable host key"
        raise CommandFailed(problem, command="sshd", exit_code=None, stderr="") from None


def problem_of(headers: Headers) -> str:
    """Return why a request is not one for a stream; "" when it is."""
    options = [option.strip().lower() for value in headers.get_all("Connection") for option in value.split(",")]
    upgrades: List[str] = headers.get_all("Upgrade")
    tokens: List[str] = headers.get_all("CodeSmith-Token")
    if upgrades != [PROTOCOL] or "upgrade" not in options:
        return f"a stream needs Connection: Upgrade and Upgrade: {PROTOCOL}"
    if len(tokens) != 1 or not re.fullmatch(TOKEN, tokens[0]):
        return "CodeSmith-Token must be 64 hexadecimal digits"
    if "Transfer-Encoding" in headers or headers.get_all("Content-Length") not in ([], ["0"]):
        return "a request for a stream has no body"
    return ""
