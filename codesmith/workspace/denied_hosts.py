"""Hosts that an allow-list has refused, and the command that allows each. Programs inside chose the names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from codesmith.cli import output
from codesmith.errors import CodeSmithError

if TYPE_CHECKING:
    from codesmith.sdk.api import DeniedHost, Job
    from codesmith.sdk.client import Client

# A command is for pasting: whatever else a program asked for is shown without one.
HOST = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?"
ADDRESS_6 = r"[0-9a-f:]*:[0-9a-f:.]*"
USUAL_PORTS = (80, 443)


class Denied(Protocol):
    """A host that was refused, as sandbox.get and workspace.usage have it."""

    host: str
    port: int
    count: int
    last_at: str


def entry(host: str, port: int) -> str | None:
    """Return the entry of a list for a host and port; None when the host is none."""
    host = host.lower()
    if re.fullmatch(ADDRESS_6, host):
        return host if port in USUAL_PORTS else f"[{host}]:{port}"
    if not re.fullmatch(HOST, host):
        return None
    return host if port in USUAL_PORTS else f"{host}:{port}"


def notes(workspace: str, denied: Iterable[Denied]) -> list[str]:
    """Return a line for each refused host, with the command that allows it."""
    found = []
    for one in denied:
        times = "once" if one.count == 1 else f"{one.count} times"
        allowed = entry(one.host, one.port)
        command = f"; to allow it: inv sandbox.update {workspace} --allow {allowed}" if allowed else ""
        found.append(f"denied: {one.host}:{one.port}, {times}, last at {one.last_at}{command}")
    return found


def say_of_command(client: Client, workspace: str, argv: Sequence[str], exit_code: int | None) -> None:
    """Say which hosts were refused while a command of workspace.exec ran, unless it succeeded."""
    if exit_code == 0:
        return
    with suppress(CodeSmithError):
        if client.sandbox.get(workspace=workspace).denied:
            jobs = client.job.list(workspace=workspace)  # newest first
            for ran in [job for job in jobs if job.ends_with_stream and job.argv == list(argv)][:1]:
                say_of_job(client, ran)


def say_of_job(client: Client, job: Job) -> None:
    """Say which hosts were refused while a job ran, with the commands that allow them; nothing if it succeeded."""
    for line in notes(job.workspace, of_job(client, job)):
        output.say(line)


def of_job(client: Client, job: Job) -> list[DeniedHost]:
    """Return the hosts that were refused last while a job ran; none of a job that succeeded, or without a list.

    Which job of the workspace wanted them is not known: the proxy sees none.
    """
    return of_jobs(client, [job])[job.id]


def of_jobs(client: Client, jobs: Sequence[Job]) -> dict[str, list[DeniedHost]]:
    """Return the refused hosts of each job, by its id; the jobs are of one workspace."""
    failed = [job for job in jobs if job.started_at and not (job.state == "exited" and job.exit_code == 0)]
    denied: Sequence[DeniedHost] = ()
    if failed:
        with suppress(CodeSmithError):  # without a sandbox, or nobody answers: there is nothing to add
            denied = client.sandbox.get(workspace=failed[0].workspace).denied
    found: dict[str, list[DeniedHost]] = {job.id: [] for job in jobs}
    for job in failed:
        # Times of one clock, in one form.
        begun, ended = str(job.started_at), job.ended_at or "9999"
        found[job.id] = [one for one in denied if begun <= one.last_at <= ended]
    return found
