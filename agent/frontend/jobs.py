"""job.*: what the front end does for them. The supervisor of a workspace is the authority on its jobs."""

from __future__ import annotations

import secrets
from typing import Any, Dict, List, Optional

from agent.contract.types import Job, JobDeleted, JobLogs, StartedJob, StreamToken
from agent.frontend import job_answers, workspace_records
from agent.frontend.agent_forwarding import caller_uid
from agent.frontend.audit import login_of_uid
from agent.frontend.commands import working_directory
from agent.frontend.context import Context
from agent.frontend.runtime_client import NotRunning
from agent.shared.errors import NotFound

ID_BYTES = 6
LOOK_TIMEOUT_S = 5.0
# Beyond what the caller waits for: the supervisor's own time to end what a job started.
GRACE_S = 30.0


def start(context: Context, workspace: str, *, ends_with_stream: bool, **asked: Any) -> StartedJob:
    """Start a job, or keep what is asked for until its stream comes."""
    document = workspace_records.find_ready(context, workspace)
    fields = {
        **asked, "id": secrets.token_hex(ID_BYTES), "cwd": working_directory(asked["cwd"]), "env": asked["env"] or {},
        "stdin": asked["stdin"] or "none", "by": login_of_uid(caller_uid.get()),
    }  # fmt: skip
    if ends_with_stream:
        token, expires_at = context.stream_tokens.give(document, "run", fields, caller_uid.get())
        return {**waiting(workspace, fields), "stream": {"token": token, "expires_at": expires_at}}
    answer = context.runtimes.call(workspace, "job_start", **fields)
    return {**job_answers.check_job(workspace, answer.get("job"), fields["id"]), "stream": None}


def waiting(workspace: str, fields: Dict[str, Any]) -> Job:
    """Return the record of a job that waits for its stream."""
    return {
        "id": fields["id"], "workspace": workspace, "name": fields["name"], "argv": job_answers.shorten(fields["argv"]),
        "state": "waiting", "exit_code": None, "signal": None, "killed_by": None, "tty": fields["tty"] is not None,
        "ends_with_stream": True, "started_at": None, "ended_at": None, "stdout_bytes": 0, "stderr_bytes": 0,
        "by": fields["by"],
    }  # fmt: skip


def get(context: Context, workspace: str, job: str) -> Job:
    """Return a job. Starts nothing."""
    workspace_records.find(context, workspace)
    try:
        answer = context.runtimes.ask(workspace, "job_get", reply_timeout_s=LOOK_TIMEOUT_S, id=job)
    except NotRunning:
        raise not_found(workspace, job) from None
    return job_answers.check_job(workspace, answer.get("job"), job)


def list_(context: Context, workspace: str, state: Optional[str]) -> List[Job]:
    """Return the jobs of a workspace, newest first. Starts nothing."""
    workspace_records.find(context, workspace)
    try:
        answer = context.runtimes.ask(workspace, "job_list", reply_timeout_s=LOOK_TIMEOUT_S, state=state)
    except NotRunning:
        return []
    jobs = job_answers.check_jobs(workspace, answer.get("jobs"))
    return [job for job in jobs if state in (None, job["state"])]


def logs(context: Context, workspace: str, job: str, stream: str, offset: int, limit: int) -> JobLogs:
    """Return a piece of a log, which lies with the login."""
    workspace_records.find_ready(context, workspace)
    answer = context.runtimes.call(workspace, "job_logs", id=job, stream=stream, offset=offset, limit=limit)
    return job_answers.check_logs(answer)


def attach(context: Context, workspace: str, job: str, offset: Optional[int]) -> StreamToken:
    """Return a token for a stream with a job."""
    document = workspace_records.find_ready(context, workspace)
    job_answers.check_job(workspace, context.runtimes.call(workspace, "job_get", id=job).get("job"), job)
    fields = {"id": job, "offset": offset}
    token, expires_at = context.stream_tokens.give(document, "job_attach", fields, caller_uid.get())
    return {"token": token, "expires_at": expires_at}


def wait(context: Context, workspace: str, job: str, timeout_s: float) -> Job:
    """Return a job when it has ended, or as it is after `timeout_s`."""
    workspace_records.find(context, workspace)
    try:
        answer = context.runtimes.ask(
            workspace, "job_wait", reply_timeout_s=timeout_s + GRACE_S, id=job, timeout_s=timeout_s
        )
    except NotRunning:
        raise not_found(workspace, job) from None
    return job_answers.check_job(workspace, answer.get("job"), job)


def stop(context: Context, workspace: str, job: str, signal: str, grace_s: float) -> Job:
    """End a job with all it started."""
    workspace_records.find(context, workspace)
    try:
        answer = context.runtimes.ask(
            workspace, "job_stop", reply_timeout_s=grace_s + GRACE_S, id=job, signal=signal, grace_s=grace_s
        )
    except NotRunning:
        raise not_found(workspace, job) from None
    return job_answers.check_job(workspace, answer.get("job"), job)


def delete(context: Context, workspace: str, job: str) -> JobDeleted:
    """Forget a job that has ended, and its log."""
    workspace_records.find_ready(context, workspace)
    context.runtimes.call(workspace, "job_delete", id=job)
    return {"id": job, "deleted": True}


def not_found(workspace: str, job: str) -> NotFound:
    """Return the error for a job that nobody knows."""
    return NotFound(f"no job {job} in workspace {workspace!r}", hint=f"inv job.list {workspace}")
