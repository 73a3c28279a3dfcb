"""Changes on their way from intent to result.

An intent is on disk before the first side effect. What the method stores, its result and its audit record are on disk
together, or none of them. A change that did not end is unsettled: it is run again, or settled, at the next start, or
before the next change that names the same user or workspace, whichever comes first: so it can never undo what was
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
from agent.frontend.keyed_locks import KeyedLocks
from agent.frontend.runner import Runner
from agent.frontend.store import ANNOUNCED, Ending, Intent
from agent.shared.errors import (
    AgentError,
    AlreadyExists,
    CommandFailed,
    Disabled,
    InvalidParams,
    NotFound,
    NotManaged,
    WaitedTooLong,
)

# What the audit record says of a change that the agent did not live to see the end of, and that is not taken up again.
CUT_OFF = "cut_off"
# Refusals that follow from what is there. A `delete` that found nothing must not remove what came later.
KEPT = tuple(error.kind for error in (AlreadyExists, Disabled, NotFound, NotManaged))


class Pending:
    """A change that was begun and not ended. Who waits while another thread takes it up finds the reply here."""

    def __init__(self, intent: Intent) -> None:
        self.intent, self.is_held = intent, False
        self.reply: Optional[Document] = None


class Changes:
    """Carries out changes; safe to use from many threads."""

    def __init__(self, context: Context, audit: Audit, methods: Dict[str, Method], runner: Runner) -> None:
        self._store, self._audit, self._runner, self._methods = context.store, audit, runner, methods
        self._calls = KeyedLocks()
        self._one_at_a_time, self._guard = context.one_at_a_time, threading.Condition()
        # One of a newer agent waits for it; node.health names it.
        known = [intent for intent in self._store.intents() if intent.method in methods]
        self._unsettled: Dict[int, Pending] = {intent.id: Pending(intent) for intent in known}
        self._write_late_records()

    @contextmanager
    def recorded(self, entry: Method, attempt: Attempt) -> Iterator[None]:
        """Leave an audit record of an attempt that raises; what is raised leaves as an error of the contract."""
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
        """Return the reply ({result} or {error}) of a change, of a repeated one the first.

        Raises when it is not known how far it came.
        """
        with nullcontext() if change.request_id is None else self._calls.hold(change.request_id):
            run = self._resumable if change.entry.is_resumable else self._once
            return self._earlier_reply(change, attempt) or run(change, attempt)

    def _resumable(self, change: Change, attempt: Attempt) -> Document:
        """Carry out what is run again, or rolled back, when it is cut off."""
        failed: List[Pending] = []
        while True:
            reply = self._resume_related(change, attempt, failed)
            if reply is not None:
                return reply
            if change.entry.roll_back is not None:
                return self._begin(change, attempt, failed)
            with self._one_at_a_time():
                if not self._related(change, failed):
                    return self._begin(change, attempt, failed)

    def _earlier_reply(self, change: Change, attempt: Attempt) -> Optional[Document]:
        """Return the first reply of this request id; None when there was none."""
        kept = None if change.request_id is None else self._store.result_of(change.request_id)
        if kept is None:
            return None
        digest, reply = kept
        if digest != change.digest:
            raise InvalidParams.of("request_id", "was used for another call")
        self.note(attempt, _outcome(reply))
        return reply

    def _once(self, change: Change, attempt: Attempt) -> Document:
        """Carry out what cannot be taken up again. Cut off, its request id answers so, and it does not run twice."""
        self._announce(change, attempt)
        try:
            reply = {"result": self._runner.run(change.entry, change.entry.function, change.params)}
        except HelperSilent as error:
            raise _cut_off(change.entry.name) from error
        except AgentError as error:
            if change.request_id is not None and not error.is_pending:
                self._store.forget_result(change.request_id)
            raise
        try:
            self._end(change, attempt, reply, [])
        except sqlite3.OperationalError as error:  # it was done: its result matters more than remembering it
            print(f"the result of {change.entry.name} is not kept: {error}", file=sys.stderr, flush=True)
            self.note(attempt, "ok")
        return reply

    def note(self, attempt: Attempt, outcome: str) -> None:
        """Write the audit record of what leaves nothing else; it takes the place of one that was announced."""
        with self._audit.next_line(attempt, outcome) as line:
            try:
                if attempt.announced is not None:
                    self._store.change_record(attempt.announced, line)
            finally:
                self._audit.write(line)
        if attempt.announced is not None:
            self._store.forget_record(attempt.announced)

    def resume_all(self) -> None:
        """Take up everything that was begun and not ended; what fails again stays, and node.health says so."""
        # Twice: a clone that was cut off waits for the assignment of its workspace that was begun after it.
        for begun in (begun for _ in range(2) for begun in self._waiting()):
            try:
                self._again(begun)
            except (AgentError, sqlite3.Error) as error:
                print(f"{begun.intent.method} stays unsettled: {error}", file=sys.stderr, flush=True)

    def _resume_related(self, change: Change, attempt: Attempt, failed: List[Pending]) -> Optional[Document]:
        """Take up earlier changes that name the same; return the reply of one that this change repeats.

        One that fails again goes to `failed`: this change may be the way out of it.
        """
        found = None
        for begun in self._related(change, failed):
            is_repeated = self._change_of(begun).is_repeated_by(change)
            try:
                reply = self._again(begun)
            except (HelperSilent, WaitedTooLong):
                raise
            except AgentError:
                if is_repeated:
                    raise
                failed.append(begun)
                continue
            found = reply if is_repeated else None  # another one came after it
        if found is None or (change.entry.roll_back is not None and not _is_kept(found)):
            return None
        self._end(change, attempt, found, [])
        return found

    def _begin(self, change: Change, attempt: Attempt, failed: List[Pending]) -> Document:
        """Journal a change and run it. If it is done, earlier ones that failed and that it replaces are forgotten."""
        earlier = self._earlier_reply(change, attempt)
        if earlier is not None:
            return earlier  # it was taken up since this call came
        if not change.entry.makes_room:
            self._store.ensure_room()
        intent = self._store.begin(change.entry.name, change.public, attempt.peer_uid)
        replaced = [one for one in failed if change.replaces(self._change_of(one))]
        try:
            return self._complete(Pending(intent), change, change.entry.function, attempt, replaced)
        except AgentError:
            self._forget([one for one in replaced if change.is_like(self._change_of(one))])
            raise

    def _forget(self, repeated: List[Pending]) -> None:
        """Let go of those that a later one with the same content stands for: else they would pile up."""
        if not repeated:
            return
        with suppress(sqlite3.Error, AgentError):  # on a full disk they stay: once more does no harm
            self._store.forget_intents([one.intent.id for one in repeated])
            with self._guard:
                for one in repeated:
                    self._unsettled.pop(one.intent.id, None)

    def _again(self, begun: Pending) -> Optional[Document]:
        """Take up what was begun and not ended, and return its reply, also when another thread has done so meanwhile.

        None when a later change has made an end of it. What may take long lets other changes go on, as it did the first
        time.
        """
        change, intent = self._change_of(begun), begun.intent
        function = change.entry.roll_back or change.entry.function
        attempt = Attempt(intent.method, intent.params, intent.peer_uid)
        with self._alone(begun), self._one_at_a_time() if change.entry.roll_back is None else nullcontext():
            if begun in self._waiting():
                begun.reply = self._complete(begun, change, function, attempt, [], is_again=True)
            return begun.reply

    @contextmanager
    def _alone(self, begun: Pending) -> Iterator[None]:
        """Wait for other threads that take up the same; WaitedTooLong when that takes long."""
        with self._guard:
            if not self._guard.wait_for(lambda: not begun.is_held, LOCK_WAIT_S):
                raise WaitedTooLong(f"{begun.intent.method}, begun before, is being completed", hint="try again")
            begun.is_held = True
        try:
            yield
        finally:
            with self._guard:
                begun.is_held = False
                self._guard.notify_all()

    def _complete(
        self, begun: Pending, change: Change, function: Callable[..., Any], attempt: Attempt,
        replaced: List[Pending], *, is_again: bool = False,
    ) -> Document:  # fmt: skip
        """Run a change that is journaled to its end. Whatever keeps it from ending leaves it unsettled."""
        try:
            with self._stored_with_its_result(change):
                try:
                    reply = {"result": self._runner.run(change.entry, function, change.params)}
                except AgentError as error:
                    # A second run that did not get its turn has ended nothing.
                    if error.is_pending or (is_again and isinstance(error, WaitedTooLong)):
                        self._store.flush()
                        raise
                    reply = {"error": error.to_dict()}
                done = [one.intent.id for one in (begun, *(replaced if "result" in reply else ()))]
                self._end(change, attempt, reply, done, is_again=is_again)
        except BaseException:
            if not is_again:  # else it is among them, unless a change that came after it has made an end of it
                with self._guard:
                    self._unsettled[begun.intent.id] = begun
            raise
        with self._guard:
            for ended in done:
                self._unsettled.pop(ended, None)
        return reply

    def _end(
        self, change: Change, attempt: Attempt, reply: Document, done: List[int], *, is_again: bool = False
    ) -> None:
        outcome = _outcome(reply)
        told = outcome if not is_again else "resumed" if outcome == "ok" else f"resumed: {outcome}"
        request_id = change.request_id if _is_kept(reply) else None
        with self._audit.next_line(attempt, told) as line:
            record = self._store.end(Ending(done, request_id, change.digest, reply, line, attempt.announced))
            self._audit.write(line)
        self._store.forget_record(record)

    def _announce(self, change: Change, attempt: Attempt) -> None:
        """Write down what is true if the agent ends before the change does; on a full disk it goes without."""
        reply = {"error": _cut_off(change.entry.name).to_dict()}
        try:
            with self._audit.next_line(attempt, CUT_OFF) as line:
                attempt.announced = self._store.announce(Ending([], change.request_id, change.digest, reply, line))
        except (sqlite3.Error, AgentError) as error:
            print(
                f"{error}: cut off, {change.entry.name} has no record, and may run twice", file=sys.stderr, flush=True
            )

    @contextmanager
    def _stored_with_its_result(self, change: Change) -> Iterator[None]:
        if change.entry.roll_back is not None:
            yield  # it claims its name in the store before it begins, and settles what it finds there
            return
        with self._store.change():
            yield

    def _change_of(self, begun: Pending) -> Change:
        return Change.of(self._methods[begun.intent.method], begun.intent.params)

    def _waiting(self) -> List[Pending]:
        with self._guard:
            return [self._unsettled[number] for number in sorted(self._unsettled)]

    def _related(self, change: Change, but: List[Pending]) -> List[Pending]:
        waiting = [begun for begun in self._waiting() if begun not in but]
        return [begun for begun in waiting if self._change_of(begun).targets & change.targets]

    def _write_late_records(self) -> None:
        """Write the audit records of changes whose agent ended between their result and the audit file."""
        if self._store.damage:
            return
        for number, line in self._store.records():
            if line.startswith(ANNOUNCED):
                line = self._audit.late(line[len(ANNOUNCED) :])
                self._store.change_record(number, line)
            if not self._audit.has(line):
                self._audit.write(line)
            self._store.forget_record(number)


def _cut_off(name: str) -> CommandFailed:
    problem = f"{name} was cut off: it may have been carried out, in part or whole"
    hint = "look what it did; then the same with another request_id"
    return CommandFailed(problem, hint=hint, command=name, exit_code=None, stderr="")


def _is_kept(reply: Document) -> bool:
    """Tell whether a repeated call gets this reply; a refusal for a reason that passes left nothing, and runs again."""
    return "result" in reply or reply["error"]["data"]["kind"] in KEPT


def _outcome(reply: Document) -> str:
    """Return what the audit record says about a reply."""
    return str(reply["error"]["data"]["kind"]) if "error" in reply else "ok"
