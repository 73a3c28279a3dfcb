"""job.*: what the front end does for them."""

from __future__ import annotations

from typing import Any, List, Optional

from agent.contract.types import Job, JobDeleted, JobLogs, StartedJob, StreamToken
from agent.frontend.context import Context


def start(context: Context, workspace: str, **fields: Any) -> StartedJob:
    """Start a job."""
    raise NotImplementedError


def get(context: Context, workspace: str, job: str) -> Job:
    """Return a job."""
    raise NotImplementedError


def list_(context: Context, workspace: str, state: Optional[str]) -> List[Job]:
    """Return jobs."""
    raise NotImplementedError


def logs(context: Context, workspace: str, job: str, stream: str, offset: int, limit: int) -> JobLogs:
    """Return a piece of a log."""
    raise NotImplementedError


def attach(context: Context, workspace: str, job: str, offset: Optional[int]) -> StreamToken:
    """Return a token."""
    raise NotImplementedError


def wait(context: Context, workspace: str, job: str, timeout_s: float) -> Job:
    """Wait for a job."""
    raise NotImplementedError


def stop(context: Context, workspace: str, job: str, signal: str, grace_s: float) -> Job:
    """End a job."""
    raise NotImplementedError


def delete(context: Context, workspace: str, job: str) -> JobDeleted:
    """Forget a job."""
    raise NotImplementedError
