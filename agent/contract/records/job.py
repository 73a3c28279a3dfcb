"""Jobs and their logs."""

from __future__ import annotations

from typing import Annotated, List, Literal, Optional, TypedDict

from agent.contract.fields import Bytes, JobId, JobState, Keywords, Name, OutputEncoding, Time


class Job(TypedDict):
    """A command that runs in a workspace whoever is connected, or that has run there."""

    id: JobId
    workspace: Name
    name: Annotated[Optional[str], Keywords({"description": "What its starter calls it."})]
    argv: Annotated[List[str], Keywords({"description": "The command; arguments beyond 4 KiB are left out."})]
    state: Annotated[
        JobState,
        Keywords(
            {
                "description": "waiting for its stream; running; exited by itself; killed (signal, killed_by); lost: "
                "its end was not seen, as when the node lost power."
            }
        ),
    ]
    exit_code: Annotated[
        Optional[int],
        Keywords({"description": "128 + the signal number when a signal ended it; null while it runs, or lost."}),
    ]
    signal: Optional[str]
    killed_by: Annotated[
        Optional[Literal["timeout", "memory", "operator", "disconnect"]],
        Keywords(
            {
                "description": "operator: job.stop, workspace.stop and the like; disconnect: its stream ended; null "
                "also when the signal came from inside."
            }
        ),
    ]
    tty: bool
    ends_with_stream: bool
    started_at: Annotated[Optional[Time], Keywords({"description": "Null while it waits."})]
    ended_at: Optional[Time]
    stdout_bytes: Bytes
    stderr_bytes: Bytes
    by: Annotated[
        Optional[str],
        Keywords({"description": "The Unix login that started it, or token:ID; null: from inside the workspace."}),
    ]


class StartedJob(Job):
    """A job that was started. One that ends with its stream starts when the stream does."""

    stream: Annotated[
        Optional[StreamToken],
        Keywords(
            {
                "description": "For a job with ends_with_stream, once; null for all others, and for a repeated "
                "request_id."
            }
        ),
    ]


class StreamToken(TypedDict):
    """A token that turns one connection into a stream."""

    token: Annotated[
        str,
        Keywords({"description": "For the header CodeSmith-Token of one POST /stream with Upgrade: codesmith-stream."}),
    ]
    expires_at: Time


class JobLogs(TypedDict):
    """A piece of what a job wrote."""

    data: str
    encoding: OutputEncoding
    offset: Annotated[
        Bytes, Keywords({"description": "Where the data begins; later than asked for where the log left bytes out."})
    ]
    next_offset: Annotated[Bytes, Keywords({"description": "Where to read on."})]
    eof: Annotated[bool, Keywords({"description": "The job has ended, and nothing follows."})]


class JobDeleted(TypedDict):
    """The result of job.delete."""

    id: JobId
    deleted: Literal[True]
