"""What a runtime says of its jobs, checked: it is the word of the workspace's login."""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Dict, List, Optional

from agent.contract.records.job import Job, JobLogs
from agent.frontend.runtime_client import EXIT_CODE_MAX, TIME, is_count, nonsense

ID = "[0-9a-f]{12}"
SIGNAL = "SIG[A-Z0-9]{1,12}"
NAME = r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,64}"
# More than any log, file or clock has; all numbers of an answer fit into a database.
COUNT_MAX = 1 << 53
STATES = ("running", "exited", "killed", "lost")
CAUSES = (None, "timeout", "memory", "operator", "disconnect")
# Of a command as JSON text, in which a character may take six.
ARGV_JSON_MAX = 8192
ARGUMENTS_MAX = 1024
# The ended jobs that a runtime keeps, and those that run.
JOBS_MAX = 256 + 200
# Half a megabyte in base64.
DATA_CHARACTERS_MAX = 4 * ((1 << 19) // 3 + 1)


def check_job(workspace: str, record: Any, job: Optional[str] = None) -> Job:
    """Return the record of a job, of this one if given; CommandFailed when it is none."""
    record = record if isinstance(record, dict) else {}
    state, ended_at, code = record.get("state"), record.get("ended_at"), record.get("exit_code")
    has_ended, is_seen = state != "running", state in ("exited", "killed")
    if not (
        (_is_text(record.get("id"), ID) and record["id"] == (job or record["id"]))
        and state in STATES
        and (_is_exit_code(code) if is_seen else code is None)
        and (record.get("signal") is None or (is_seen and _is_text(record["signal"], SIGNAL)))
        and (record.get("killed_by") in CAUSES and (is_seen or record.get("killed_by") is None))
        and _is_text(record.get("started_at"), TIME)
        and (_is_text(ended_at, TIME) if is_seen else ended_at is None or (has_ended and _is_text(ended_at, TIME)))
        and (record.get("name") is None or _is_text(record["name"], NAME))
        and (record.get("by") is None or _is_text(record["by"], NAME))
        and isinstance(record.get("tty"), bool)
        and isinstance(record.get("ends_with_stream"), bool)
        and _is_size(record.get("stdout_bytes"))
        and _is_size(record.get("stderr_bytes"))
    ):
        raise nonsense()
    return {
        "id": record["id"], "workspace": workspace, "name": record.get("name"), "argv": shorten(record.get("argv")),
        "state": record["state"], "exit_code": code, "signal": record.get("signal"),
        "killed_by": record.get("killed_by"), "tty": record["tty"], "ends_with_stream": record["ends_with_stream"],
        "started_at": record["started_at"], "ended_at": ended_at, "stdout_bytes": record["stdout_bytes"],
        "stderr_bytes": record["stderr_bytes"], "by": record.get("by"),
    }  # fmt: skip


def check_jobs(workspace: str, records: Any) -> List[Job]:
    """Return the records of all jobs, newest first; CommandFailed when one is none, or there are too many."""
    if not isinstance(records, list) or len(records) > JOBS_MAX:
        raise nonsense()
    jobs = {record["id"]: record for record in (check_job(workspace, record) for record in records)}
    return sorted(jobs.values(), key=lambda record: record["started_at"] or "", reverse=True)


def check_logs(result: Dict[str, Any], asked: int) -> JobLogs:
    """Return a piece of a log from `asked` on; CommandFailed when the answer is none."""
    data: Any = result.get("data")
    offset: Any = result.get("offset")
    end: Any = result.get("next_offset")
    if not (
        isinstance(data, str)
        and len(data) <= DATA_CHARACTERS_MAX
        and result.get("encoding") in ("text", "base64")
        and (_is_size(offset) and _is_size(end) and asked <= offset)
        and isinstance(result.get("eof"), bool)
    ):
        raise nonsense()
    encoding: Any = result["encoding"]
    try:
        read = data.encode("utf-8", "surrogatepass") if encoding == "text" else base64.b64decode(data, validate=True)
    except ValueError:
        raise nonsense() from None
    if len(read) != end - offset:  # who reads on would never come to an end
        raise nonsense()
    return {"data": data, "encoding": encoding, "offset": offset, "next_offset": end, "eof": result["eof"]}


def shorten(argv: Any) -> List[str]:
    """Return a command without the arguments beyond ARGV_JSON_MAX; CommandFailed when it is none."""
    if not isinstance(argv, list) or len(argv) > ARGUMENTS_MAX or not all(isinstance(one, str) for one in argv):
        raise nonsense()
    kept, room = [], ARGV_JSON_MAX
    for argument in argv:
        room -= len(json.dumps(argument))
        if room < 0:
            break
        kept.append(argument)
    return kept


def duration_of(record: Any) -> float:
    """Return how long a job ran, as its runtime says; 0 where it does not."""
    duration_s: Any = record.get("duration_s") if isinstance(record, dict) else None
    is_number = isinstance(duration_s, (int, float)) and not isinstance(duration_s, bool)
    return round(float(duration_s), 4) if is_number and 0 <= duration_s < COUNT_MAX else 0.0


def _is_text(value: Any, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _is_size(value: Any) -> bool:
    return is_count(value) and value <= COUNT_MAX


def _is_exit_code(value: Any) -> bool:
    return is_count(value) and value <= EXIT_CODE_MAX
