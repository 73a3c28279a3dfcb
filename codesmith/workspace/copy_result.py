"""What a copy did, and the errors of one, whatever copied."""

from __future__ import annotations

import re
from dataclasses import dataclass

from codesmith.errors import CodeSmithError, UnknownName

# A folder, or the end of a name, of what has arrived in part.
PARTIAL = ".codesmith-partial"


@dataclass(frozen=True)
class Copied:
    """How many files were copied, their bytes, and how many entries were deleted."""

    files: int
    bytes: int
    deleted: int


class NoSuchPath(UnknownName):
    """The source of a copy, or the directory for it, is not there."""


def failure(text: str) -> CodeSmithError:
    """Return the error for what the system said about a path."""
    problem = re.sub(r" \(\d+\)$", "", text)
    if "No such file or directory" in text:
        return NoSuchPath(problem, hint="a path in a workspace is relative to its directory")
    if "No space left" in text or "Disk quota exceeded" in text:
        return CodeSmithError(problem, hint="inv workspace.usage NAME; here: df -h .")
    if text.endswith(": Failure"):  # all that SFTP says
        problem = f"{problem}: no space is left, it is read-only, or something is in the way"
        return CodeSmithError(problem, hint="inv workspace.usage NAME")
    if "Permission denied" in text:
        return CodeSmithError(problem, hint="inside, a copy is made by the workspace's login")
    return CodeSmithError(problem)
