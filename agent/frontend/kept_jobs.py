"""The last known record of each job, in the store: what is known of the jobs of a workspace that does not run."""

from __future__ import annotations

import json
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from agent.contract.records.job import Job
from agent.frontend.kept_tokens import KeptTokens
from agent.frontend.store_file import dumps

# Of the ended jobs of one workspace: how many, and how long their records are together.
ENDED_MAX, ENDED_BYTES_MAX = 256, 1 << 20
OLDEST = """
DELETE FROM jobs WHERE workspace = ?1 AND id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER newest AS place, sum(length(document)) OVER newest AS size
        FROM jobs WHERE workspace = ?1 AND has_ended WINDOW newest AS (ORDER BY started_at DESC, id))
    WHERE place > ?2 OR size > ?3)
"""
# Jobs of which nothing was heard since they were asked for: their runtimes ended before they had them.
ASKED_MAX = 4096
ASK = """
INSERT INTO asked_jobs (workspace, id) SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM workspaces WHERE name = ?1)
"""
OLDEST_ASKED = "DELETE FROM asked_jobs WHERE number <= (SELECT max(number) FROM asked_jobs) - ?"
HEARD = "DELETE FROM asked_jobs WHERE workspace = ? AND id = ?"
# A runtime that is heard late must not bring back what was deleted.
PUT = """
INSERT OR REPLACE INTO jobs SELECT ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM workspaces WHERE name = ?)
"""


class KeptJob(NamedTuple):
    """A job as it was last known; `is_asked` when it was started at this agent, so that its end has an audit record."""

    record: Job
    is_asked: bool

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self.record["state"] not in ("waiting", "running")


class KeptJobs(KeptTokens):
    """The store with its jobs. They are no part of a change: they are written at once."""

    def get_job(self, workspace: str, job: str) -> Optional[KeptJob]:
        """Return a job; None when there is none."""
        row = self._one("SELECT document, is_asked FROM jobs WHERE workspace = ? AND id = ?", workspace, job)
        return None if row is None else KeptJob(json.loads(row[0]), bool(row[1]))

    def list_jobs(self, workspace: str) -> List[KeptJob]:
        """Return the jobs of a workspace, newest first."""
        sql = "SELECT document, is_asked FROM jobs WHERE workspace = ? ORDER BY started_at DESC, id"
        return [KeptJob(json.loads(row[0]), bool(row[1])) for row in self._all(sql, workspace)]

    def workspaces_with_jobs(self) -> List[str]:
        """Return the workspaces of which jobs are known, or were asked for."""
        sql = "SELECT workspace FROM jobs UNION SELECT workspace FROM asked_jobs ORDER BY workspace"
        return [row[0] for row in self._all(sql)]

    def asked_jobs(self) -> List[Tuple[str, str]]:
        """Return the jobs that were asked for and not heard of yet, oldest first; none when the store is damaged."""
        rows = [] if self.damage else self._all("SELECT workspace, id FROM asked_jobs ORDER BY number")
        return [(row[0], row[1]) for row in rows]

    def put_asked(self, workspace: str, job: str) -> None:
        """Write that a job is asked for. The oldest of those that nobody hears of go."""
        with self._lock:
            self.database.write((ASK, workspace, job), (OLDEST_ASKED, ASKED_MAX))

    def remove_asked(self, workspace: str, job: str) -> None:
        """Forget that a job was asked for."""
        with self._lock:
            self.database.write((HEARD, workspace, job))

    def running_jobs(self) -> Dict[str, List[str]]:
        """Return the ids of the jobs that have not ended, by workspace."""
        found: Dict[str, List[str]] = {}
        for workspace, job in self._all("SELECT workspace, id FROM jobs WHERE NOT has_ended"):
            found.setdefault(workspace, []).append(job)
        return found

    def count_running_jobs(self, workspace: str) -> int:
        """Return how many jobs of a workspace have not ended."""
        row = self._one("SELECT count(*) FROM jobs WHERE workspace = ? AND NOT has_ended", workspace)
        return 0 if row is None else int(row[0])

    def put_jobs(self, workspace: str, jobs: Sequence[KeptJob], line: Optional[str] = None) -> int:
        """Write jobs, and the audit record of an end; return the id of that record. The oldest ended ones go."""
        statements = [
            (PUT, workspace, job.record["id"], job.record["started_at"] or "", job.has_ended, job.is_asked,
             dumps(job.record), workspace)
            for job in jobs
        ]  # fmt: skip
        heard = [(HEARD, workspace, job.record["id"]) for job in jobs if job.is_asked]
        oldest = (OLDEST, workspace, ENDED_MAX, ENDED_BYTES_MAX)
        audited = [] if line is None else [("INSERT INTO records (line) VALUES (?)", line)]
        with self._lock:
            cursor = self.database.write(*statements, *heard, oldest, *audited)
            return int(cursor.lastrowid or 0)

    def remove_jobs(self, workspace: str, jobs: Sequence[str]) -> None:
        """Forget jobs."""
        if jobs:
            with self._lock:
                self.database.write(
                    *(("DELETE FROM jobs WHERE workspace = ? AND id = ?", workspace, job) for job in jobs)
                )
