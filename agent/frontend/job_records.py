"""What is known of jobs: their last records in the store, and one audit record for the end of each that was asked for.

A job that was started inside its workspace has no audit record, as a command of an SSH session has none: a workspace
does not decide how many there are.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from agent.contract.records.job import Job
from agent.frontend.audit import Attempt, Audit, parse_time
from agent.frontend.kept_jobs import ASKED_MAX, KeptJob
from agent.frontend.store import Store
from agent.shared.clock import now
from agent.shared.errors import AgentError

METHOD = "job.end"
# How many a runtime has at once. A workspace that says it has more is not believed.
RUNNING_MAX = 200
# Deleted jobs of which an answer from before may still be on its way.
DELETED_MAX = 4096
HOW = ("state", "exit_code", "signal", "killed_by", "ended_at")


class JobRecords:
    """Learns from what runtimes say, and from their end; safe to use from many threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._audit: Optional[Audit] = None
        self._changed = threading.Condition()
        # Oldest first. Those of an earlier front end that was killed before it heard of them are there too.
        self._asked: Dict[Tuple[str, str], None] = dict.fromkeys(store.asked_jobs())
        self._deleted: Dict[Tuple[str, str], None] = {}

    def audit_to(self, audit: Audit) -> None:
        """Write the audit records of ends there."""
        self._audit = audit

    def note_asked(self, workspace: str, job: str) -> None:
        """Note that a job is asked for, before its runtime hears of it."""
        with self._changed:
            _note(self._asked, (workspace, job), ASKED_MAX)
            self._keep_asked(self._store.put_asked, workspace, job)

    def forget_asked(self, workspace: str, job: str) -> None:
        """Note that a job was refused."""
        with self._changed:
            self._asked.pop((workspace, job), None)
            self._keep_asked(self._store.remove_asked, workspace, job)

    def ids(self, workspace: str) -> Set[str]:
        """Return the ids of the jobs that are known."""
        return {job.record["id"] for job in self._store.list_jobs(workspace)}

    def learn(
        self, workspace: str, records: List[Job], *, of: Optional[str], all_of: Optional[Set[str]] = None
    ) -> None:  # fmt: skip
        """Keep what a runtime says of jobs; an end that was seen is never undone, and what was deleted stays so.

        `of` is the id of the workspace whose runtime was asked: another one of its name has not these jobs.
        With `all_of` these are all that it has, and those were known before it was asked: what it does not name of them
        is gone. What has begun since may be missing for another reason.
        """
        with self._changed:
            if self._store.id_of(workspace) != of:
                return
            # The last of what is said of a job counts.
            last = {record["id"]: record for record in records}
            records = [record for job, record in last.items() if (workspace, job) not in self._deleted]
            heard = [record["id"] for record in records]
            kept = self._kept(workspace, heard if all_of is None else None)
            running, new = self._store.count_running_jobs(workspace), []
            for record in records:
                job, old = self._as_kept(workspace, record, kept.get(record["id"])), kept.get(record["id"])
                if not _is_news(job, old):
                    continue
                running += not job.has_ended and old is None
                if old is None and not job.has_ended and running > RUNNING_MAX and not job.is_asked:
                    continue
                if job.has_ended and job.is_asked and (old is None or not old.has_ended):
                    self._end(workspace, job)
                else:
                    new.append(job)
            if new:
                self._store.put_jobs(workspace, new)
            if all_of is not None:
                gone = [kept[job] for job in all_of - set(heard) if job in kept]
                self._store.remove_jobs(workspace, [job.record["id"] for job in gone if job.has_ended])
                self._end_all(workspace, [job for job in gone if not job.has_ended], None)
            self._changed.notify_all()

    def end_all(self, workspace: str, killed_by: Optional[str], jobs: Optional[List[str]] = None) -> None:
        """Note that nothing runs in a workspace any more: jobs whose end nobody told are lost, or were killed."""
        with self._changed:
            running = [job for job in self._store.list_jobs(workspace) if not job.has_ended]
            self._end_all(workspace, [job for job in running if jobs is None or job.record["id"] in jobs], killed_by)
            self._changed.notify_all()

    def running(self, workspace: str) -> List[str]:
        """Return the ids of the jobs that have not ended, as far as is known."""
        return [job.record["id"] for job in self._store.list_jobs(workspace) if not job.has_ended]

    def get(self, workspace: str, job: str) -> Optional[Job]:
        """Return what is known of a job."""
        kept = self._store.get_job(workspace, job)
        return None if kept is None else kept.record

    def complete(self, workspace: str, record: Job) -> Job:
        """Return what a runtime says of a job; how it ended where that is known here alone, and there it is lost."""
        known = self.get(workspace, record["id"]) if record["state"] == "lost" else None
        if known is None or known["state"] not in ("exited", "killed"):
            return record
        how: Any = {name: known[name] for name in HOW}  # type: ignore[literal-required]
        return {**record, **how}

    def list(self, workspace: str) -> List[Job]:
        """Return what is known of the jobs of a workspace, newest first."""
        return [kept.record for kept in self._store.list_jobs(workspace)]

    def forget(self, workspace: str, job: str) -> None:
        """Drop what is known of a job that is deleted."""
        with self._changed:
            _note(self._deleted, (workspace, job), DELETED_MAX)
            self._store.remove_jobs(workspace, [job])

    def wait_ended(self, workspace: str, job: str, within_s: float) -> Optional[Job]:
        """Return what is known of a job once it has ended, or after this time."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended(workspace, job), within_s)
        return self.get(workspace, job)

    def _keep_asked(self, write: Callable[[str, str], None], workspace: str, job: str) -> None:
        try:
            write(workspace, job)
        except (sqlite3.Error, AgentError) as error:  # it matters only if we are killed before we hear of it
            print(f"what is asked for of job {job} is not kept: {error}", file=sys.stderr, flush=True)

    def _kept(self, workspace: str, jobs: Optional[List[str]]) -> Dict[str, KeptJob]:
        if jobs is None:
            found: List[Optional[KeptJob]] = [*self._store.list_jobs(workspace)]
        else:
            found = [self._store.get_job(workspace, job) for job in jobs]
        return {job.record["id"]: job for job in found if job is not None}

    def _has_ended(self, workspace: str, job: str) -> bool:
        kept = self._store.get_job(workspace, job)
        return kept is None or kept.has_ended

    def _as_kept(self, workspace: str, record: Job, old: Optional[KeptJob]) -> KeptJob:
        is_asked = self._asked.pop((workspace, record["id"]), self) is None
        return KeptJob(record, is_asked or (old is not None and old.is_asked))

    def _end_all(self, workspace: str, jobs: List[KeptJob], killed_by: Optional[str]) -> None:
        state: Dict[str, Any] = {"state": "lost", "exit_code": None, "signal": None, "killed_by": None}
        if killed_by is not None:
            state = {"state": "killed", "exit_code": 128 + 9, "signal": "SIGKILL", "killed_by": killed_by}
        for job in jobs:
            record: Any = {**job.record, **state, "ended_at": now()}
            self._end(workspace, KeptJob(record, job.is_asked))

    def _end(self, workspace: str, job: KeptJob) -> None:
        """Write the end of a job, and its audit record if it was asked for: both are there, or neither."""
        audit = self._audit
        if not job.is_asked or audit is None:
            self._store.put_jobs(workspace, [job])
            return
        attempt = Attempt(METHOD, {"workspace": workspace, "id": job.record["id"]}, None, owner_of=self._store.owner_of)
        attempt.end(job.record, _duration_of(job.record))
        with audit.next_line(attempt, "ok") as line:
            try:
                number = self._store.put_jobs(workspace, [job], line)
            except (sqlite3.Error, AgentError) as error:  # the audit file has it all the same
                print(f"the end of job {job.record['id']} is not kept: {error}", file=sys.stderr, flush=True)
                number = 0
            audit.write(line)
        self._store.forget_record(number)


def _note(noted: Dict[Tuple[str, str], None], job: Tuple[str, str], count_max: int) -> None:
    """Note a job, and drop the oldest above this number."""
    noted[job] = None
    for oldest in list(noted)[:-count_max]:
        del noted[oldest]


def _is_news(job: KeptJob, old: Optional[KeptJob]) -> bool:
    """Return whether a record says more than what is known. `lost` only means that nobody saw the end."""
    if old is None or not old.has_ended:
        return old is None or job.record["state"] != old.record["state"] or job.is_asked != old.is_asked
    return old.record["state"] == "lost" and job.record["state"] in ("exited", "killed")


def _duration_of(record: Job) -> float:
    with suppress(TypeError, ValueError, OverflowError):
        end = min(parse_time(record["ended_at"] or ""), datetime.now(timezone.utc))
        return round(max((end - parse_time(record["started_at"] or "")).total_seconds(), 0.0), 4)
    return 0.0
