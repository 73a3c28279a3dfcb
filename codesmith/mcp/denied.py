"""Hosts that the network kept out, in the answers of tools, with the command of the operator that allows each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from codesmith.workspace import denied_hosts

if TYPE_CHECKING:
    from codesmith.sdk.api import Job
    from codesmith.sdk.client import Client

SCHEMA = {"type": "array", "items": {"type": "string"}, "description": "Hosts that the network kept out."}


def add(client: Client, jobs: Sequence[Job], answers: Sequence[dict[str, Any]]) -> None:
    """Add to the answer about each job what was kept out while it ran, if anything was and it has not succeeded."""
    found = denied_hosts.of_jobs(client, jobs)
    for job, answer in zip(jobs, answers, strict=True):
        if found[job.id]:
            answer["denied"] = [f"{one.host}:{one.port}" for one in found[job.id]]


def lines(workspace: str, answer: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each host of an answer, or of its items, once."""
    places = [*answer.get("denied", ()), *(place for one in answer.get("items", ()) for place in one.get("denied", ()))]
    for place in dict.fromkeys(places):
        host, _, port = place.rpartition(":")
        allowed = denied_hosts.entry(host, int(port))
        command = f"codesmith sandbox.update {workspace} --allow {allowed}"
        yield f"[denied: {place}{f'; the operator allows it with: {command}' if allowed else ''}]"
