"""The door of people who have only a key: `enter` speaks here, and it offers entering alone.

Every login of the node may connect. Who it is says the kernel, by the peer's uid; where it may go says the store. One
connection, one request: the connection itself is then passed to the runtime, as that of a stream is.
"""

from __future__ import annotations

import errno
import json
import socket
import struct
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Dict

from agent.frontend import entrances, stream, workspace_records
from agent.frontend.audit import Attempt, login_of_uid
from agent.frontend.runtime_client import RuntimeSilent
from agent.shared import framing
from agent.shared.errors import AgentError, Disabled, InUse, NotFound, Unsupported
from agent.shared.rate_limit import Allowance, RateLimit
from agent.shared.sockets import peer_uid

if TYPE_CHECKING:
    from agent.frontend.dispatch import Dispatcher

METHOD, FORBIDDEN = "door.enter", "forbidden"
PROTOCOL = 1
# Of those who come in just now: a session inside is none of these. A login may have as many more as are still free, so
# that many who come often get equal shares; the last places are for who has none.
PEER_MAX, ALL_MAX, FIRST_MAX = 32, 128, 64
REQUEST_S = 10.0
# What passes: the node has no descriptors or memory just now.
PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED)
PAUSE_S = 0.1
NOBODY = "this login may enter no workspace"
NO_KEY = "this login has no key any more"


def serve(listening: socket.socket, dispatcher: Dispatcher) -> None:
    """Serve a listening socket; returns when it is closed."""
    door = Door(dispatcher)
    while True:
        try:
            connection, _ = listening.accept()
        except OSError as error:
            if error.errno not in PASSING:
                return
            time.sleep(PAUSE_S)
            continue
        door.take(connection)


class Door:
    """Lets people in. Safe to use from many threads."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher, self._context = dispatcher, dispatcher.context
        self._lock, self._coming = threading.Lock(), Counter[int]()
        self._refusals, self._entries = RateLimit(), Allowance()

    def take(self, connection: socket.socket) -> None:
        """Serve a connection in a thread of its own; refuse it when too many come in at once."""
        uid = peer_uid(connection)
        with self._lock:
            has_room = self._has_room(uid)
            self._coming[uid] += has_room
            self._coming += Counter()  # drops those that are zero
        if has_room:
            try:
                threading.Thread(target=self._serve, args=(connection, uid), name="door", daemon=True).start()
                return
            except RuntimeError:  # no thread can be started just now
                self._leave(uid)
        with connection:
            connection.setblocking(False)
            _answer(connection, {"error": "too many come in at once; try again"})

    def _serve(self, connection: socket.socket, uid: int) -> None:
        try:
            with connection:
                self._let_in(connection, uid)
        finally:
            self._leave(uid)

    def _has_room(self, uid: int) -> bool:
        own, free = self._coming[uid], ALL_MAX - sum(self._coming.values())
        return own < min(PEER_MAX, free) if own else free + FIRST_MAX > 0

    def _leave(self, uid: int) -> None:
        with self._lock:
            self._coming[uid] -= 1
            self._coming += Counter()

    def _let_in(self, connection: socket.socket, uid: int) -> None:
        target: Dict[str, str] = {}
        try:
            connection.settimeout(REQUEST_S)
            user = self._find_user(uid)
            target["user"] = user["name"]
            wish = entrances.read(_receive(connection))
            # What follows may take longer: a runtime starts. Its time is bounded there.
            connection.setblocking(True)
            open_to = self._context.store.workspaces_open_to(user["name"])
            entrance = entrances.choose(user["name"], open_to, wish.command)
            target.update(workspace=entrance.workspace, how=entrances.kind_of(entrance, wish))
            self._pass_on(connection, uid, entrance, wish, target)
        except AgentError as error:
            self._note_refusal(uid, target, error)
            _answer(connection, {"error": error.problem})
        except OSError:
            pass  # it said nothing that is a request, or went away

    def _pass_on(
        self, connection: socket.socket, uid: int, entrance: entrances.Entrance, wish: entrances.Wish,
        target: Dict[str, str],
    ) -> None:  # fmt: skip
        """Pass a connection to the runtime of a workspace; nothing of it is read or written here afterwards."""
        runtimes, workspace = self._context.runtimes, entrance.workspace
        self._check(uid, workspace)
        runtimes.call(workspace, "start")
        if entrance.tool == entrances.KNOWN_HOSTS:
            keys = stream.read_host_keys(runtimes.call(workspace, "ssh_host_keys"))
            _answer(connection, {"lines": [f"* {key}" for key in keys]})
            return
        # The start may have taken long.
        user = self._check(uid, workspace)
        if entrance.tool:
            request, kind, fields = "ssh", "bytes", {"public_keys": user["keys"]}
        else:
            request, kind, fields = "run", "frames", entrances.job(entrance, wish, login_of_uid(uid))
            target["id"] = fields["id"]
        left_out = self._entries.admit(uid)
        if left_out is not None:
            attempt = Attempt(METHOD, target, uid, more=left_out, owner_of=self._context.store.owner_of)
            self._dispatcher.note_entry(attempt, "ok")
        _answer(connection, {"stream": kind})
        # The end of a job has a record if its entrance has one.
        if request == "run" and left_out is not None:
            self._context.job_records.note_asked(workspace, fields["id"])
        try:
            runtimes.call(workspace, request, descriptor=connection.fileno(), **fields)
        except AgentError as error:
            print(f"entering workspace {workspace!r} ended: {error}", file=sys.stderr, flush=True)
            if request == "run":
                if not isinstance(error, RuntimeSilent):
                    self._context.job_records.forget_asked(workspace, fields["id"])
                _send_refusal(connection, error)
            _end(connection)  # the runtime may have it, and has only not answered
        else:
            self.end_if_too_late(connection, uid, workspace)

    def end_if_too_late(self, connection: socket.socket, uid: int, workspace: str) -> None:
        """End what was passed on while the right to enter was taken away: that has ended the runtime before.

        Whoever takes it away marks the workspace first and unmarks it when that is written: one of the two sees the
        other.
        """
        try:
            if self._context.job_watch.is_ending(workspace):
                raise InUse(f"all that runs in workspace {workspace!r} is ended just now")
            self._check(uid, workspace)
        except AgentError as error:
            print(f"entering workspace {workspace!r} came too late: {error}", file=sys.stderr, flush=True)
            _end(connection)

    def _find_user(self, uid: int) -> Dict[str, Any]:
        user = self._context.store.user_of_uid(uid)
        if user is None:
            raise NotFound(NOBODY)
        if user["state"] != "active":
            raise Disabled(f"user {user['name']!r} is disabled")
        if not user["keys"]:  # a connection that is open still can ask for more sessions
            raise NotFound(NO_KEY)
        return user

    def _check(self, uid: int, workspace: str) -> Dict[str, Any]:
        """Return the user of a uid if the workspace is open to it now."""
        user = self._find_user(uid)
        if workspace not in self._context.store.workspaces_open_to(user["name"]):
            raise NotFound(f"no workspace {workspace!r} for user {user['name']!r}")
        workspace_records.find_ready(self._context, workspace)
        return user

    def _note_refusal(self, uid: int, target: Dict[str, str], error: AgentError) -> None:
        """Record a refusal, and how many more there were: once a minute for each uid, ten times in all."""
        left_out = self._refusals.admit(uid)
        if left_out is not None:
            outcome = error.kind if target else FORBIDDEN
            self._dispatcher.note_entry(Attempt(METHOD, target, uid, more=left_out), outcome)


def _receive(connection: socket.socket) -> Dict[str, Any]:
    message = framing.receive(connection, framing.REQUEST_MAX, time.monotonic() + REQUEST_S, entrances.VALUES_MAX)
    if message.get("protocol") != PROTOCOL:
        raise Unsupported("the program `enter` of this node is of another release: inv node.prepare")
    return message


def _answer(connection: socket.socket, message: Dict[str, Any]) -> None:
    with suppress(OSError):
        framing.send(connection, message)


def _end(connection: socket.socket) -> None:
    """End a connection, whoever else has it; what was sent already can still be read."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _send_refusal(connection: socket.socket, error: AgentError) -> None:
    """Tell `enter` in a frame why nothing starts; it has just read the answer, so there is room for a short frame."""
    body = json.dumps(error.to_dict()).encode()
    with suppress(OSError):
        connection.send(struct.pack(">BI", stream.REFUSAL, len(body)) + body, socket.MSG_DONTWAIT)
