"""What the system refuses, told as an error of the contract."""

from __future__ import annotations

from typing import Any

from agent.errors import CommandFailed


def told(error: OSError, verb: str, **data: Any) -> CommandFailed:
    """Return what an OSError of a verb means to the caller: a full disk, a read-only file system."""
    text = f"{verb} failed: {error.strerror or error}"
    return CommandFailed(text, command=verb, exit_code=error.errno, stderr=str(error.strerror), **data)
