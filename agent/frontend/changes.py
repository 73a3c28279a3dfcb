"""Changes from intent to result.

An intent is on disk before the first side effect. The writes of the method, its result and its audit record reach the
disk together, or not at all. A change that has not ended is pending: it is run again, or rolled back, at the next
start or before the next change that names the same user or workspace, whichever is first. So it never undoes what was
done after it.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Callable, Dict, Iterator, List, Optional

from agent.contract.method import Method
from agent.frontend.audit import Attempt, Audit
from agent.frontend.change import Change, Document
from agent.frontend.context import LOCK_WAIT_S, Context
from agent.frontend.helper_client import HelperSilent
from agent.frontend.journal import ANNOUNCED, Ending, Intent
from agent.frontend.keyed_locks import KeyedLocks
from agent.frontend.runner import Runner
from agent.frontend.runtime_client import RuntimeSilent
from agent.shared.errors import (
    AgentError,
    AlreadyExists,
    CommandFailed,
    Disabled,
    InvalidParams,
    NotFound,
    NotManaged,
    ReadOnly,
    WaitedTooLong,
)

# The audit outcome of a command that was interrupted and is not resumed.
CUT_OFF = "cut_off"
# Refusals kept by their request_id: they follow from what exists. A repeated `delete` must not remove what came later.
KEPT = tuple(error.kind for error in (AlreadyExists, Disabled, NotFound, NotManaged))


class Pending:
    """A change that was begun and has not ended. Threads that wait while another one resumes it get its reply here."""

    def __init__(self, intent: Intent) -> None:
        self.intent, self.is_being_resumed = intent, False
        self.reply: Optional[Document] = None


class Changes:
    """Carries out changes; safe to use from many threads."""

    def __init__(self, context: Context, audit: Audit, methods: Dict[str, Method], runner: Runner) -> None:
        self._store, self._audit, self._runner, self._methods = context.store, audit, runner, methods
        self._calls = KeyedLocks()
        self.one_at_a_time, self.guard = context.one_at_a_time, threading.Condition()
        # Changes that only a newer agent knows stay in the store until it runs again; node.health names them.
        known = [intent for intent in self._store.intents() if intent.method in methods]
        self.pending: Dict[int, Pending] = {intent.id: Pending(intent) for intent in known}
        self._write_late_records()

    def attempt(
        self, method: str, params: Any, peer_uid: Optional[int], token: Optional[Dict[str, str]] = None
    ) -> Attempt:
        """Return a call that begins now, for its audit record; `token` is the mark of the one that it showed."""
        named = self._with_workspace(params) if method == "token.revoke" else params
        return Attempt(method, named, peer_uid, owner_of=self._store.owner_of, token=token)

    def _with_workspace(self, params: Any) -> Any:
        """Return what a call names, with the workspace of its token: its record is found by that."""
        if isinstance(params, dict) and isinstance(params.get("id"), str):
            with suppress(sqlite3.Error, ReadOnly):
                token = self._store.get_token(params["id"])
                return params if token is None else {**params, "workspace": token["workspace"]}
        return params

    @contextmanager
    def recorded(self, entry: Method, attempt: Attempt) -> Iterator[None]:
        """Write the audit record of an attempt that raises, and raise its exception as an error of the contract."""
        try:
            yield
        except AgentError as error:
            self.note(attempt, error.kind)
            raise
        except Exception as error:  # the RPC border: log, answer with a reference
            problem = self._runner.as_error(entry, error)
            self.note(attempt, problem.kind)
            raise problem from error

    def carry_out(self, change: Change, attempt: Attempt) -> Document:
        """Return the reply ({result} or {error}) of a change; a repeated call gets the first reply.

        Raises AgentError when the change is pending: it is not known how far it came.
        """
        with nullcontext() if change.request_id is None else self._calls.hold(change.request_id):
            run = self._run_resumable if change.entry.is_resumable else self._run_once
            return self._earlier_reply(change, attempt) or run(change, attempt)

    def _run_resumable(self, change: Change, attempt: Attempt) -> Document:
        """Carry out a change that is run again, or rolled back, if it is interrupted."""
        failed: List[Pending] = []
        while True:
            reply = self._resume_related(change, attempt, failed)
            if reply is not None:
                return reply
            if change.entry.roll_back is not None:
                return self.begin(change, attempt, failed)
            with self.one_at_a_time():
                if not self._related(change, failed):
                    return self.begin(change, attempt, failed)

    def _earlier_reply(self, change: Change, attempt: Attempt) -> Optional[Document]:
        """Return the first reply to this request id; None when there is none."""
        kept = None if change.request_id is None else self._store.result_of(change.request_id)
        if kept is None:
            return None
        digest, reply = kept
        if digest != change.digest:
            raise InvalidParams.of("request_id", "was used for another call")
        attempt.learn(reply.get("result"))
        self.note(attempt, _outcome(reply))
        return reply

    def _run_once(self, change: Change, attempt: Attempt) -> Document:
        """Carry out a change that cannot be resumed. If interrupted, it is not run again: a repeated call says so."""
        self._announce(change, attempt)
        try:
            reply = {"result": self._runner.run(change.entry, change.entry.function, change.params)}
        except (HelperSilent, RuntimeSilent) as error:
            raise _cut_off(change.entry.name) from error
        except AgentError as error:
            if change.request_id is not None and not error.is_pending:
                self._store.forget_result(change.request_id)
            raise
        try:
            self._end(change, attempt, change.entry.kept(reply), [])
        except sqlite3.OperationalError as error:  # the command ran: the caller must get its result all the same
            print(f"the result of {change.entry.name} is not kept: {error}", file=sys.stderr, flush=True)
            self.note(attempt, "ok")
        return reply

    def note(self, attempt: Attempt, outcome: str) -> None:
        """Write the audit record of an attempt that stores nothing else; it replaces one that was announced."""
        with self._audit.next_line(attempt, outcome) as line:
            try:
                if attempt.announced is not None:
                    self._store.change_record(attempt.announced, line)
            finally:
                self._audit.write(line)
        if attempt.announced is not None:
            self._store.forget_record(attempt.announced)

    def resume_all(self) -> None:
        """Resume all pending changes. One that fails again stays pending, and node.health names it."""
        for pending in self.list_pending():
            try:
                self._resume(pending)
            except (AgentError, sqlite3.Error) as error:
                print(f"{pending.intent.method} stays pending: {error}", file=sys.stderr, flush=True)

    def _resume_related(self, change: Change, attempt: Attempt, failed: List[Pending]) -> Optional[Document]:
        """Resume pending changes that name the same; return the reply of one that this change repeats.

        One that fails again is added to `failed`: this change may supersede it.
        """
        repeated_reply = None
        for pending in self._related(change, failed):
            is_repeated = self._change_of(pending).is_repeated_by(change)
            try:
                reply = self._resume(pending)
            except (HelperSilent, WaitedTooLong):
                raise
            except AgentError:
                if is_repeated:
                    raise
                failed.append(pending)
                continue
            # A repeated change counts only if no other change came after it.
            repeated_reply = reply if is_repeated else None
        if repeated_reply is None or (change.entry.roll_back is not None and not _is_kept(repeated_reply)):
            return None
        self._end(change, attempt, repeated_reply, [])
        return repeated_reply

    def begin(self, change: Change, attempt: Attempt, failed: List[Pending]) -> Document:
        """Journal a change and run it. If it succeeds, it supersedes those of `failed` that it decides as well."""
        earlier = self._earlier_reply(change, attempt)
        if earlier is not None:
            return earlier  # the same call was resumed since this one arrived
        if not change.entry.makes_room:
            self._store.ensure_room()
        intent = self._store.begin(change.entry.name, change.public, attempt.peer_uid, attempt.token)
        superseded = [one for one in failed if change.supersedes(self._change_of(one))]
        try:
            return self._complete(Pending(intent), change, change.entry.function, attempt, superseded)
        except AgentError:
            self._forget([one for one in superseded if change.is_like(self._change_of(one))])
            raise

    def _forget(self, repeated: List[Pending]) -> None:
        """Delete pending changes that a later one with the same content repeats, so that they do not pile up."""
        if not repeated:
            return
        with suppress(sqlite3.Error, AgentError):  # on a full disk they stay: one more run does no harm
            self._store.forget_intents([one.intent.id for one in repeated])
            with self.guard:
                for one in repeated:
                    self.pending.pop(one.intent.id, None)

    def _resume(self, pending: Pending) -> Optional[Document]:
        """Resume a pending change and return its reply, also when another thread has resumed it meanwhile.

        None when a later change has superseded it. A change that may take long does not hold up others now either.
        """
        change, intent = self._change_of(pending), pending.intent
        function = change.entry.roll_back or change.entry.function
        attempt = self.attempt(intent.method, intent.params, intent.peer_uid, intent.token)
        with self._only_thread(pending), self.one_at_a_time() if change.entry.roll_back is None else nullcontext():
            if pending in self.list_pending():
                pending.reply = self._complete(pending, change, function, attempt, [], is_resumed=True)
            return pending.reply

    @contextmanager
    def _only_thread(self, pending: Pending) -> Iterator[None]:
        """Wait until no other thread resumes the same change; WaitedTooLong after LOCK_WAIT_S."""
        with self.guard:
            if not self.guard.wait_for(lambda: not pending.is_being_resumed, LOCK_WAIT_S):
                raise WaitedTooLong(f"{pending.intent.method}, begun before, is being completed", hint="try again")
            pending.is_being_resumed = True
        try:
            yield
        finally:
            with self.guard:
                pending.is_being_resumed = False
                self.guard.notify_all()

    def _complete(
        self, pending: Pending, change: Change, function: Callable[..., Any], attempt: Attempt,
        superseded: List[Pending], *, is_resumed: bool = False,
    ) -> Document:  # fmt: skip
        """Run a journaled change to its end. If anything keeps it from ending, it is pending."""
        try:
            with self._stored_with_its_result(change):
                try:
                    reply = {"result": self._runner.run(change.entry, function, change.params)}
                except AgentError as error:
                    # A resumed change that did not get its turn has not ended.
                    if error.is_pending or (is_resumed and isinstance(error, WaitedTooLong)):
                        self._store.flush()
                        raise
                    reply = {"error": error.to_dict()}
                ended = [one.intent.id for one in (pending, *(superseded if "result" in reply else ()))]
                self._end(change, attempt, reply, ended, is_resumed=is_resumed)
        except BaseException:
            if not is_resumed:  # a resumed one is in there already, unless a later change has superseded it
                with self.guard:
                    self.pending[pending.intent.id] = pending
            raise
        with self.guard:
            for intent in ended:
                self.pending.pop(intent, None)
        return reply

    def _end(
        self, change: Change, attempt: Attempt, reply: Document, ended: List[int], *, is_resumed: bool = False
    ) -> None:
        """Store a reply and its audit record, delete the intents `ended`, and write the audit file."""
        attempt.learn(reply.get("result"))
        outcome = _outcome(reply)
        if is_resumed:
            outcome = "resumed" if outcome == "ok" else f"resumed: {outcome}"
        request_id = change.request_id if _is_kept(reply) else None
        with self._audit.next_line(attempt, outcome) as line:
            record = self._store.end(Ending(ended, request_id, change.digest, reply, line, attempt.announced))
            if not attempt.is_piece:
                self._audit.write(line)
        self._store.forget_record(record)

    def _announce(self, change: Change, attempt: Attempt) -> None:
        """Store the reply and the audit record that are true if the agent is killed meanwhile; a full disk skips it."""
        reply = {"error": _cut_off(change.entry.name).to_dict()}
        try:
            with self._audit.next_line(attempt, CUT_OFF) as line:
                attempt.announced = self._store.announce(Ending([], change.request_id, change.digest, reply, line))
        except (sqlite3.Error, AgentError) as error:
            problem = f"{error}: if {change.entry.name} is cut off, it has no record and may run twice"
            print(problem, file=sys.stderr, flush=True)

    @contextmanager
    def _stored_with_its_result(self, change: Change) -> Iterator[None]:
        if change.entry.roll_back is not None:
            yield  # it claims its name in the store before it begins, and rolls back what it finds there
            return
        with self._store.change():
            yield

    def _change_of(self, pending: Pending) -> Change:
        return Change.of(self._methods[pending.intent.method], pending.intent.params, pending.intent.token)

    def list_pending(self) -> List[Pending]:
        """Return all pending changes, oldest first."""
        with self.guard:
            return [self.pending[intent] for intent in sorted(self.pending)]

    def _related(self, change: Change, ignored: List[Pending]) -> List[Pending]:
        """Return the pending changes that name the same user or workspace, without those of `ignored`."""
        others = [pending for pending in self.list_pending() if pending not in ignored]
        return [pending for pending in others if self._change_of(pending).targets & change.targets]

    def _write_late_records(self) -> None:
        """Write the audit records of changes that were stored when the agent was killed, and are not in the file."""
        if self._store.damage:
            return
        for number, line in self._store.records():
            if line.startswith(ANNOUNCED):
                line = self._audit.with_time_now(line[len(ANNOUNCED) :])
                self._store.change_record(number, line)
            if not self._audit.has(line):
                self._audit.write(line)
            self._store.forget_record(number)


def _cut_off(name: str) -> CommandFailed:
    problem = f"{name} was cut off: it may have been carried out, in part or whole"
    hint = "check what it did; then repeat the call with another request_id"
    return CommandFailed(problem, hint=hint, command=name, exit_code=None, stderr="")


def _is_kept(reply: Document) -> bool:
    """Return whether a repeated call gets this reply. A refusal for a temporary reason is not kept: it runs again."""
    return "result" in reply or reply["error"]["data"]["kind"] in KEPT


def _outcome(reply: Document) -> str:
    """Return the outcome that the audit record shows for a reply: ok, or the kind of its error."""
    return str(reply["error"]["data"]["kind"]) if "error" in reply else "ok"
