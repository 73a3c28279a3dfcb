"""job.*: commands that run in a workspace whoever is connected; their output is kept, and can be followed."""

from __future__ import annotations

from typing import Annotated, List, Literal, Optional

from agent.contract.fields import (
    Argv,
    Environment,
    JobId,
    JobState,
    Keywords,
    Name,
    RequestId,
    Tty,
    WorkingDirectory,
)
from agent.contract.method import BY_HELPER, method
from agent.contract.records.job import Job, JobDeleted, JobLogs, StartedJob, StreamToken
from agent.frontend import jobs
from agent.frontend.context import Context
from agent.shared.errors import Disabled, NotFound

LOOKS = (NotFound, *BY_HELPER)
ERRORS = (Disabled, *LOOKS)
WAIT_MAX_S = 3600.0
GRACE_MAX_S = 60.0
# What one call returns at most.
LOG_BYTES_MAX = 1 << 19
Signal = Annotated[
    str,
    Keywords({"pattern": "^SIG[A-Z0-9]{1,12}$", "errorMessage": "must be the name of a signal, like SIGINT"}),
]
JOB_NAME = Keywords(
    {
        "pattern": "^[^\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]{1,64}$",
        "errorMessage": "must be 1 to 64 characters, none of them a control character",
        "description": "What you call it; two may have one name.",
    }
)
Offset = Annotated[Optional[int], Keywords({"minimum": 0})]


@method("job.start", scope="work", errors=ERRORS, mutates=True, is_resumable=False, fleeting=("stream",))
def start(
    context: Context,
    *,
    workspace: Name,
    argv: Argv,
    cwd: WorkingDirectory = None,
    env: Environment = None,
    stdin: Annotated[
        Optional[Literal["none", "stream"]],
        Keywords({"description": "stream: what those who attach send. Default: none."}),
    ] = None,
    tty: Annotated[Optional[Tty], Keywords({"description": "Gives it a terminal; stderr is part of stdout."})] = None,
    name: Annotated[Optional[str], JOB_NAME] = None,
    timeout_s: Annotated[
        Optional[float],
        Keywords({"exclusiveMinimum": 0, "maximum": 31536000, "description": "Default: as long as it wants."}),
    ] = None,
    ends_with_stream: Annotated[
        bool, Keywords({"description": "It starts and ends, with all it started, with its one stream; keeps no log."})
    ] = False,
    request_id: Optional[RequestId] = None,
) -> StartedJob:
    """Start a command in a workspace that goes on without a connection; job.logs and job.attach show what it writes.

    It outlives its caller, the agent and an upgrade of it, and ends with the runtime. No shell is involved.
    """
    return jobs.start(
        context, workspace, argv=argv, cwd=cwd, env=env, stdin=stdin, tty=tty, name=name, timeout_s=timeout_s,
        ends_with_stream=ends_with_stream,
    )  # fmt: skip


@method("job.get", scope="read", errors=LOOKS)
def get(context: Context, *, workspace: Name, id: JobId) -> Job:
    """Return one job. Starts nothing."""
    return jobs.get(context, workspace, id)


@method("job.list", scope="read", errors=LOOKS)
def list_(context: Context, *, workspace: Name, state: Optional[JobState] = None) -> List[Job]:
    """Return the jobs of a workspace, newest first; with `state` those in it. Starts nothing."""
    return jobs.list_(context, workspace, state)


@method("job.logs", scope="read", errors=ERRORS)
def logs(
    context: Context,
    *,
    workspace: Name,
    id: JobId,
    stream: Annotated[
        Optional[Literal["stdout", "stderr", "both"]],
        Keywords({"description": "both: in the order in which they were written. Each has offsets of its own."}),
    ] = None,
    offset: Offset = None,
    limit: Annotated[Optional[int], Keywords({"minimum": 1, "maximum": LOG_BYTES_MAX})] = None,
) -> JobLogs:
    """Return what a job wrote, from `offset` on, up to `limit` bytes (default and maximum 512 KiB).

    A long log keeps its beginning and its end. Text ends at a whole character. `stream` defaults to both.
    """
    return jobs.logs(context, workspace, id, stream or "both", offset or 0, limit or LOG_BYTES_MAX)


@method("job.attach", scope="work", errors=ERRORS, is_audited=True)
def attach(context: Context, *, workspace: Name, id: JobId, offset: Offset = None) -> StreamToken:
    """Return a one-time token for a stream with a running job: what it writes and its end; input, sizes and signals.

    With `offset`, what it wrote from there on (of both streams) comes first; without, what it writes from now on.
    """
    return jobs.attach(context, workspace, id, offset)


@method("job.wait", scope="read", errors=LOOKS)
def wait(
    context: Context,
    *,
    workspace: Name,
    id: JobId,
    timeout_s: Annotated[
        Optional[float],
        Keywords({"exclusiveMinimum": 0, "maximum": WAIT_MAX_S, "description": "Default 60.", "x-default-s": 60.0}),
    ] = None,
) -> Job:
    """Return a job when it has ended, or as it is after `timeout_s`."""
    return jobs.wait(context, workspace, id, timeout_s or 60.0)


@method("job.stop", scope="work", errors=LOOKS, mutates=True, is_resumable=False, makes_room=True)
def stop(
    context: Context,
    *,
    workspace: Name,
    id: JobId,
    signal: Optional[Signal] = None,
    grace_s: Annotated[
        Optional[float],
        Keywords({"minimum": 0, "maximum": GRACE_MAX_S, "description": "Default 5.", "x-default-s": 5.0}),
    ] = None,
    request_id: Optional[RequestId] = None,
) -> Job:
    """End a job: `signal` (default SIGTERM) to its process group, and after `grace_s` SIGKILL to all that it started.

    Returns when everything has ended. A job that has ended stays as it is.
    """
    return jobs.stop(context, workspace, id, signal or "SIGTERM", 5.0 if grace_s is None else grace_s)


@method("job.delete", scope="work", errors=ERRORS, mutates=True, is_resumable=False, makes_room=True)
def delete(
    context: Context,
    *,
    workspace: Name,
    id: JobId,
    request_id: Optional[RequestId] = None,
) -> JobDeleted:
    """Forget a job that has ended, and its log; InUse while it runs."""
    return jobs.delete(context, workspace, id)
