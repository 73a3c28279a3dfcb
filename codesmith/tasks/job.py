"""Jobs: commands that run in a workspace whoever is connected."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypedDict, Unpack

from invoke.context import Context

from codesmith.cli import arguments, output
from codesmith.cli.hints import completed
from codesmith.cli.task import task
from codesmith.errors import CodeSmithError
from codesmith.fleet import one_node
from codesmith.fleet.one_node import OneNode
from codesmith.sdk.api import Job, JobDeleted, JobLogs


class Manner(TypedDict):
    """How a job is shown: as JSON at its end, and with which commands."""

    json: bool
    complete: Callable[[str], str]


COLUMNS = ("id", "name", "state", "exit_code", "killed_by", "started_at", "ended_at", "command")
JOB_HELP = {
    "workspace": "The workspace's name.",
    "id": "The job's id, as job.list shows it, or its name: the newest job so called.",
}


def exit_code_of(result: object) -> int:
    """Return the exit code of a job that has ended; 0 for all else that a task returns."""
    if not isinstance(result, Job) or result.state == "running":
        return 0
    return 1 if result.exit_code is None else int(result.exit_code)


@task(
    help={
        "workspace": "The workspace's name.",
        "argv": "The command and its arguments; on a command line they follow `--`.",
        "name": "What you call it, up to 64 characters (default: nothing).",
        "cwd": "The directory to run in, relative to the workspace (default: the workspace).",
        "env": "An environment variable as KEY=VALUE; repeatable (default: none).",
        "keep_stdin": "It reads what those who attach send (default: it reads nothing).",
        "tty": "Give it a terminal: for programs that want one; job.attach is then interactive (default: none).",
        "timeout": "Seconds after which it is ended (default: none).",
        "follow": "Show what it writes until it ends, and end with its exit code; Ctrl-C leaves it running.",
        "json": "Print the job as JSON; with --follow when it has ended, and its output goes to standard error.",
    },
    remainder="argv",
    exit_code=exit_code_of,
)
def start(
    c: Context,
    workspace: str,
    argv: list[str] | None = None,
    name: str | None = None,
    cwd: str | None = None,
    env: list[str] | None = None,
    keep_stdin: bool = False,
    tty: bool = False,
    timeout: float | None = None,
    follow: bool = False,
    **where: Unpack[OneNode],
) -> Job:
    """Start a command in a workspace that goes on without a connection.

    Example: job.start demo --name build --cwd code/site -- make all
    Example: job.start demo --follow -- make test
    """
    from codesmith.workspace import console, jobs

    if not argv or not argv[0].strip():
        raise CodeSmithError("no command to run", hint=f"inv job.start {workspace} -- make")
    variables = arguments.parse_pairs(env or [], "--env")
    terminal = console.wanted_tty(tty=tty, no_tty=False, by_default=False)
    with one_node.connect(where) as client:
        started = client.job.start(
            workspace=workspace, argv=argv, cwd=cwd, env=variables, stdin="stream" if keep_stdin or tty else None,
            tty=terminal, name=name, timeout_s=timeout,
        )  # fmt: skip
        job = jobs.job_of(started)
        if not follow:
            _show(where, job)
            jobs.say_started(client, job, _completer(where))
            return job
        return jobs.attach(
            client, job, 0, takes_input=keep_stdin or tty, json=where.get("json", False), complete=_completer(where)
        )


@task(
    name="list",
    help={
        "workspace": JOB_HELP["workspace"],
        "state": "Only jobs in this state (default: all).",
        "all": "The commands of workspace.exec too; they have no log (default: only jobs that outlive a connection).",
    },
    choices={"state": ("running", "exited", "killed", "lost")},
    harmless=True,
    watchable=True,
)
def list_(
    c: Context,
    workspace: str,
    state: str | None = None,
    all: bool = False,  # noqa: A002
    **where: Unpack[OneNode],
) -> list[Job]:
    """Show the jobs of a workspace, newest first.

    Example: job.list shop --state running
    """
    from codesmith.workspace import jobs

    with one_node.connect(where) as client:
        found = jobs.of_workspace(client, workspace, state=state, execs=all)
    _show(where, found)
    return found


@task(help=JOB_HELP, harmless=True, watchable=True)
def get(c: Context, workspace: str, id: str, **where: Unpack[OneNode]) -> Job:  # noqa: A002
    """Show one job.

    Example: job.get shop build --json
    """
    from codesmith.workspace import denied_hosts, jobs

    with one_node.connect(where) as client:
        job = client.job.get(workspace=workspace, id=jobs.id_of(client, workspace, id))
        denied_hosts.say_of_job(client, job)
    _show(where, job, ("id", "workspace", *COLUMNS[1:], "signal", "tty", "stdout_bytes", "stderr_bytes", "by"))
    return job


@task(
    help={
        **JOB_HELP,
        "follow": "Show what it writes until it ends, and end with its exit code; Ctrl-C leaves it running.",
        "stream": "Only what it wrote to this one; both is in the order of writing (default: both).",
        "offset": "Begin at this byte: where an earlier look ended; each stream counts its own (default: 0).",
        "tail": "Begin with the last lines, this many (default: all).",
        "json": "Print JSON: the piece with its offsets, or with --follow a line for each piece.",
    },
    choices={"stream": ("stdout", "stderr", "both")},
    exit_code=exit_code_of,
    harmless=True,
)
def logs(
    c: Context,
    workspace: str,
    id: str,  # noqa: A002
    follow: bool = False,
    stream: str = "both",
    offset: int | None = None,
    tail: int | None = None,
    **where: Unpack[OneNode],
) -> JobLogs | Job:
    """Show what a job wrote, on standard output, byte for byte; of a long log the beginning and the end are kept.

    With --follow a cut connection is replaced, and nothing is lost or shown twice. A Python caller gets the log, with
    follow=True the job.

    Example: job.logs demo build --tail 20 --follow
    Example: job.logs demo 4be1f0c29a77 --stream stderr
    """
    from codesmith.workspace import jobs

    with one_node.connect(where) as client:
        begin, job = jobs.Begin(stream, offset, tail), jobs.id_of(client, workspace, id)
        if follow:
            return jobs.logs_to_the_end(client, workspace, job, begin, json=where.get("json", False))
        return jobs.logs(client, workspace, job, begin, json=where.get("json", False))


@task(
    help={
        **JOB_HELP,
        "offset": "Show first what it wrote from this byte on, of both streams (default: what it writes from now on).",
        "no_stdin": "Send it nothing of what is typed or piped here (default: it is sent).",
        "json": "Print the job as JSON on standard output when it has ended; its output goes to standard error.",
    },
    exit_code=exit_code_of,
)
def attach(
    c: Context,
    workspace: str,
    id: str,  # noqa: A002
    offset: int | None = None,
    no_stdin: bool = False,
    **where: Unpack[OneNode],
) -> Job:
    """Join a running job: see what it writes, and type what it reads.

    Enter ~ . detaches at a terminal of its own, Ctrl-C from a job without one; the job goes on. It ends with the job,
    and its exit code. A cut connection is replaced.

    Example: job.attach demo build --offset 0
    """
    from codesmith.workspace import jobs

    with one_node.connect(where) as client:
        job = client.job.get(workspace=workspace, id=jobs.id_of(client, workspace, id))
        if job.state not in jobs.RUNNING:
            log = _completer(where)(f"inv job.logs {workspace} {job.id}")
            output.say(f"job {job.id} {jobs.how_it_ended(job)}; its log: {log}")
        return jobs.attach(
            client, job, offset, takes_input=not no_stdin, json=where.get("json", False), complete=_completer(where)
        )


@task(
    help={
        **JOB_HELP,
        "timeout": "Seconds to wait at most; if it runs on then, the exit code is 124 (default: no limit).",
    },
    exit_code=exit_code_of,
    harmless=True,
)
def wait(c: Context, workspace: str, id: str, timeout: float | None = None, **where: Unpack[OneNode]) -> Job:  # noqa: A002
    """Wait for the end of a job, and end with its exit code; Ctrl-C leaves it running.

    Example: job.wait shop build --timeout 600
    """
    from codesmith.workspace import jobs

    with one_node.connect(where) as client:
        job = jobs.wait(client, workspace, jobs.id_of(client, workspace, id), timeout)
    _show(where, job)
    return job


@task(
    help={
        **JOB_HELP,
        "signal": "What it gets first, such as SIGINT (default: SIGTERM).",
        "grace": "Seconds until all that it started is killed, 0 to 60 (default: 5).",
    }
)
def stop(
    c: Context,
    workspace: str,
    id: str,  # noqa: A002
    signal: str | None = None,
    grace: float | None = None,
    **where: Unpack[OneNode],
) -> Job:
    """End a job with all that it started, and return when everything has ended.

    Example: job.stop shop build --grace 20
    """
    from codesmith.workspace import jobs

    with one_node.connect(where) as client:
        job = jobs.id_of(client, workspace, id)
        stopped = client.job.stop(workspace=workspace, id=job, signal=signal, grace_s=grace)
    _show(where, stopped)
    return stopped


@task(help={**JOB_HELP, "id": "The job's id, as job.list shows it, or its name if no other job is so called."})
def delete(c: Context, workspace: str, id: str, yes: bool = False, **where: Unpack[OneNode]) -> JobDeleted:  # noqa: A002
    """Forget a job that has ended, and its log.

    Example: job.delete shop build
    """
    from codesmith.workspace import jobs, losses

    with one_node.connect(where) as client:
        job = jobs.id_of(client, workspace, id, unique=True)
    return one_node.destroy(
        where,
        f"job {id}",
        lambda client: losses.of_job(client, workspace, job),
        lambda client: client.job.delete(workspace=workspace, id=job),
        yes=yes,
    )


def _completer(where: OneNode) -> Callable[[str], str]:
    """Return what makes a command ready to paste, with the node and the file of this command line."""
    return partial(completed, node=where.get("node") or "", file=where.get("file") or "")


def _manner(where: OneNode) -> Manner:
    """Return how jobs.attach shows a job."""
    return {"json": where.get("json", False), "complete": _completer(where)}


def _show(where: OneNode, found: Job | list[Job], columns: Sequence[str] = COLUMNS) -> None:
    """Show jobs to people with their commands, to programs as they are."""
    if where.get("json", False):
        one_node.show(where, found)
        return
    from codesmith.workspace import jobs

    one_node.show(where, [jobs.row(one) for one in found] if isinstance(found, list) else jobs.row(found), columns)
