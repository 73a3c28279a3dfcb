"""What a copy did, and the errors of one, whatever copied."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from codesmith.errors import CodeSmithError, UnknownName
from codesmith.workspace.copy_place import Place
from codesmith.workspace.sftp import Refused

# A folder, or the end of a name, of what has arrived in part.
PARTIAL = ".codesmith-partial"
# What `part_of` makes of a name.
PART = re.compile(rf"\.([^/]*)\.[0-9a-f]{{16}}{re.escape(PARTIAL)}$")


@dataclass(frozen=True)
class Copied:
    """How many files were copied, their bytes, and how many entries were deleted."""

    files: int
    bytes: int
    deleted: int


class NoSuchPath(UnknownName):
    """The source of a copy, or the directory for it, is not there."""


def part_of(name: bytes) -> bytes:
    """Return the name of a copy by SFTP that is not whole yet: another one for each name, at most 255 bytes."""
    return b".%s.%s%s" % (name[:180], hashlib.sha256(name).hexdigest()[:16].encode(), PARTIAL.encode())


def sftp_failure(error: OSError, source: Place, destination: Place) -> CodeSmithError:
    """Return the error for what a copy by SFTP met."""
    path = PART.sub(r"\1", os.fsdecode(error.filename)).removesuffix("/.") if error.filename else ""
    is_source = isinstance(error, Refused) == bool(source.workspace) or error.filename == source.raw
    place = f"{path}: " if path else ""
    is_missing = isinstance(error, Refused) and error.is_missing
    text = os.strerror(errno.ENOENT) if is_missing else error.strerror or error
    return failure(f"{place}{text}", source, destination, is_source=is_source)


def failure(text: str, source: Place, destination: Place, *, is_source: bool = False) -> CodeSmithError:
    """Return the error for what the system said about a path of one of the two places."""
    place = source if is_source else destination
    workspace = source.workspace or destination.workspace
    problem = re.sub(r" \(\d+\)$", "", text)
    if place.workspace:
        problem = _as_typed(problem, workspace)
    if "No such file or directory" in text:
        return NoSuchPath(problem, hint=_hint_of_missing(source, destination, is_source=is_source))
    if "destination must be a directory" in text:
        hint = f"a directory goes into a directory: inv workspace.copy {source.quoted} {destination.folder.quoted}"
        return CodeSmithError(f"{destination.word} is no directory", hint=hint)
    if "No space left" in text or "Disk quota exceeded" in text:
        return CodeSmithError(problem, hint=f"inv workspace.usage {workspace}; here: df -h .")
    if text.endswith(": Failure"):  # all that SFTP says
        problem = f"{problem}: no space is left, it is read-only, or something is in the way"
        return CodeSmithError(problem, hint=f"inv workspace.usage {workspace}")
    if "Permission denied" in text:
        return CodeSmithError(
            problem, hint="inside, a copy is made by the workspace's login" if place.workspace else ""
        )
    return CodeSmithError(problem)


def _as_typed(problem: str, workspace: str) -> str:
    """Return a path of a workspace as one writes it: NAME:PATH."""
    problem = re.sub(rf"/srv/codesmith/workspaces/{workspace}/(\./)?", f"{workspace}:", problem)
    return f"{workspace}:{problem.removeprefix('./')}" if problem.startswith(("./", "/")) else problem


def _hint_of_missing(source: Place, destination: Place, *, is_source: bool) -> str:
    if is_source and source.workspace:
        return f"a path in a workspace is relative to its directory: inv file.list {source.workspace}"
    if is_source:
        return "a place without NAME: is a path of this machine, relative to the current directory"
    is_dir = destination.is_contents or source.is_contents or Path(source.path).is_dir()
    folder = (destination if is_dir else destination.folder).path.rstrip("/")
    if destination.workspace and folder.startswith("/"):
        return f"inv workspace.exec {destination.workspace} -- mkdir -p {shlex.quote(folder)}"
    if destination.workspace:
        return f"inv file.make-directory {destination.workspace} {shlex.quote(folder)} --parents"
    return f"mkdir -p {shlex.quote(folder)}"
