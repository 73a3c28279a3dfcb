"""job.*: what the front end does for them. The supervisor of a workspace is the authority on its jobs."""

from __future__ import annotations

import secrets
import time
from typing import Any, Callable, Dict, List, NoReturn, Optional, TypeVar

from agent.contract.records.job import Job, JobDeleted, JobLogs, StartedJob, StreamToken
from agent.frontend import job_answers, workspace_records
from agent.frontend.agent_forwarding import caller_uid
from agent.frontend.callers import name_of_caller
from agent.frontend.commands import working_directory
from agent.frontend.context import Context
from agent.frontend.runtime_client import NotRunning, RuntimeSilent
from agent.shared.errors import AgentError, InUse, NotFound

ID_BYTES = 6
# A supervisor that does not answer is not waited for: what is known is told.
LOOK_TIMEOUT_S = 2.0
# Beyond what the caller waits for: the supervisor's own time to end what a job started.
GRACE_S = 30.0
# For what the watch of a runtime that ended just now still has to say.
SETTLE_S = 3.0
PAUSE_S = 0.05
Answer = TypeVar("Answer")


def start(context: Context, workspace: str, *, ends_with_stream: bool, **asked: Any) -> StartedJob:
    """Start a job, or keep what is asked for until its stream comes."""
    document = workspace_records.find_ready(context, workspace)
    fields = {
        **asked, "id": secrets.token_hex(ID_BYTES), "cwd": working_directory(asked["cwd"]), "env": asked["env"] or {},
        "stdin": asked["stdin"] or "none", "by": name_of_caller(),
    }  # fmt: skip
    if ends_with_stream:
        token, expires_at = context.stream_tokens.give(document, "run", fields, caller_uid.get())
        return {**waiting(workspace, fields), "stream": {"token": token, "expires_at": expires_at}}
    context.job_records.note_asked(workspace, fields["id"])
    try:
        answer = context.runtimes.call(workspace, "job_start", **fields)
        job = job_answers.check_job(workspace, answer.get("job"), fields["id"])
    except RuntimeSilent:
        raise  # it may run: if so, the watch learns of it
    except AgentError:
        context.job_records.forget_asked(workspace, fields["id"])
        raise
    context.job_records.learn(workspace, [job], of=document["id"])
    return {**job, "stream": None}


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
    document = workspace_records.find(context, workspace)
    return _unless_it_waits(
        context, workspace, job, lambda: _look(context, document, job) or _known(context, workspace, job), _show
    )


def list_(context: Context, workspace: str, state: Optional[str]) -> List[Job]:
    """Return the jobs of a workspace, newest first. Starts nothing."""
    workspace_records.find(context, workspace)
    tokens = context.stream_tokens
    # One that starts meanwhile is among these, or its runtime has it.
    asked = {fields["id"]: fields for fields in (*tokens.waiting(workspace), *tokens.starting(workspace))}
    try:
        answer = context.runtimes.ask(workspace, "job_list", reply_timeout_s=LOOK_TIMEOUT_S, state=None)
        found = job_answers.check_jobs(workspace, answer.get("jobs"))
        jobs = [context.job_records.complete(workspace, job) for job in found]
    except (NotRunning, AgentError):
        jobs = context.job_records.list(workspace)
    there = {job["id"] for job in jobs}
    waiting_jobs = [waiting(workspace, fields) for job, fields in asked.items() if job not in there]
    return [job for job in (*waiting_jobs, *jobs) if state in (None, job["state"])]


def logs(context: Context, workspace: str, job: str, stream: str, offset: int, limit: int) -> JobLogs:
    """Return a piece of a log, which lies with the login."""
    workspace_records.find_ready(context, workspace)
    answer = _unless_it_waits(
        context, workspace, job,
        lambda: _call(context, workspace, "job_logs", job, stream=stream, offset=offset, limit=limit), _refuse,
    )  # fmt: skip
    return job_answers.check_logs(answer, offset)


def attach(context: Context, workspace: str, job: str, offset: Optional[int]) -> StreamToken:
    """Return a token for a stream with a job."""
    document = workspace_records.find_ready(context, workspace)
    _unless_it_waits(context, workspace, job, lambda: _call(context, workspace, "job_get", job), _refuse)
    fields = {"id": job, "offset": offset}
    token, expires_at = context.stream_tokens.give(document, "job_attach", fields, caller_uid.get())
    return {"token": token, "expires_at": expires_at}


def wait(context: Context, workspace: str, job: str, timeout_s: float) -> Job:
    """Return a job when it has ended, or as it is after `timeout_s`."""
    document = workspace_records.find(context, workspace)
    deadline = time.monotonic() + timeout_s

    def ask() -> Job:
        left_s = max(deadline - time.monotonic(), 0.0)
        return _job_after(context, document, job, "job_wait", left_s + GRACE_S, timeout_s=left_s)

    while True:
        found = _unless_it_waits(context, workspace, job, ask, _show)
        if found["state"] != "waiting" or time.monotonic() >= deadline:
            return found
        time.sleep(PAUSE_S)


def stop(context: Context, workspace: str, job: str, signal: str, grace_s: float) -> Job:
    """End a job with all it started. Starts nothing."""
    document = workspace_records.find(context, workspace)
    return _unless_it_waits(
        context, workspace, job,
        lambda: _job_after(context, document, job, "job_stop", grace_s + GRACE_S, signal=signal, grace_s=grace_s),
        _refuse,
    )  # fmt: skip


def delete(context: Context, workspace: str, job: str) -> JobDeleted:
    """Forget a job that has ended, and its log, which lies with the login."""
    workspace_records.find_ready(context, workspace)

    def ask() -> None:
        try:
            _call(context, workspace, "job_delete", job)
        except NotFound:
            if context.job_records.get(workspace, job) is None:
                raise

    _unless_it_waits(context, workspace, job, ask, _refuse)
    context.job_records.forget(workspace, job)
    return {"id": job, "deleted": True}


def _show(job: Job) -> Job:
    return job


def _refuse(job: Job) -> NoReturn:
    text = f"job {job['id']} waits for its stream: nothing of it runs yet"
    raise InUse(text, hint="it is gone when its token expires")


def _call(context: Context, workspace: str, request: str, job: str, **fields: Any) -> Dict[str, Any]:
    """Return what a runtime answers about a job, which starts it if need be."""
    try:
        return context.runtimes.call(workspace, request, id=job, **fields)
    except NotFound:
        raise not_found(workspace, job) from None


def _job_after(
    context: Context, document: Dict[str, Any], job: str, request: str, within_s: float, **fields: Any
) -> Job:  # fmt: skip
    """Return a job when a request has done something for it; as it is known when its runtime has ended."""
    workspace = document["name"]
    try:
        answer = context.runtimes.ask(workspace, request, reply_timeout_s=within_s, id=job, **fields)
    except (NotRunning, RuntimeSilent):
        context.job_records.wait_ended(workspace, job, SETTLE_S)
        return _known(context, workspace, job)
    except NotFound:
        raise not_found(workspace, job) from None
    found = job_answers.check_job(workspace, answer.get("job"), job)
    context.job_records.learn(workspace, [found], of=document["id"])
    return context.job_records.complete(workspace, found)


def _look(context: Context, document: Dict[str, Any], job: str) -> Optional[Job]:
    """Return what a running runtime says of a job; None when it does not answer so."""
    workspace = document["name"]
    try:
        answer = context.runtimes.ask(workspace, "job_get", reply_timeout_s=LOOK_TIMEOUT_S, id=job)
        found = job_answers.check_job(workspace, answer.get("job"), job)
    except NotFound:
        raise not_found(workspace, job) from None
    except (NotRunning, AgentError):
        return None
    context.job_records.learn(workspace, [found], of=document["id"])
    return context.job_records.complete(workspace, found)


def _known(context: Context, workspace: str, job: str) -> Job:
    found = context.job_records.get(workspace, job)
    if found is None:
        raise not_found(workspace, job)
    return found


def _unless_it_waits(
    context: Context, workspace: str, job: str, ask: Callable[[], Answer], if_it_waits: Callable[[Job], Answer]
) -> Answer:  # fmt: skip
    """Return what is answered of a job, unless it waits for its stream.

    One that nobody knows waits still if its stream has come only now.
    """
    tokens = context.stream_tokens
    for fields in tokens.waiting(workspace):
        if fields["id"] == job:
            return if_it_waits(waiting(workspace, fields))
    starting = [fields for fields in tokens.starting(workspace) if fields["id"] == job]
    try:
        return ask()
    except NotFound:
        if not starting:
            raise
        return if_it_waits(waiting(workspace, starting[0]))


def not_found(workspace: str, job: str) -> NotFound:
    """Return the error for a job that nobody knows."""
    return NotFound(f"no job {job} in workspace {workspace!r}", hint=f"inv job.list {workspace}")
