"""The directory that a copy goes into: it keeps its mode and times, and what the agent put into a workspace stays."""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING

from codesmith.errors import BadArgument, CodeSmithError
from codesmith.workspace import copy_sftp
from codesmith.workspace.copy_place import Place
from codesmith.workspace.copy_result import PARTIAL, sftp_failure

if TYPE_CHECKING:
    from codesmith.workspace.copy_sftp import Side
    from codesmith.workspace.sftp import Sftp

# What the agent keeps in the top directory of a workspace, and what of it nobody inside may write.
READ_ONLY = b".codesmith"
KEPT = (READ_ONLY, b"AGENTS.md")


def must_look(source: Place, destination: Place, *, delete: bool) -> bool:
    """Tell whether a copy may concern a directory that is there, or what the agent keeps; a look costs a session."""
    is_namesake = os.fsdecode(source.raw.rpartition(b"/")[2]) == destination.workspace  # `demo` into `demo:..`
    return delete or source.is_contents or is_namesake


def look(sftp: Sftp, source: Place, destination: Place, *, delete: bool) -> list[bytes] | None:
    """Return the names in `source` that go into a directory that is there; None if the copy makes one of its own.

    Raises BadArgument if `--delete` is for what the agent keeps, or why the source is not read.
    """
    from_, to = copy_sftp.as_sides(sftp, comes_in=not source.workspace)
    if destination.workspace and (delete or not source.is_contents):
        ensure_kept(sftp, source, destination, delete=delete)
    if not source.is_contents:
        return None
    try:
        names = _names(from_, to, source, destination)
        return names if not names or not left_out(sftp, destination) else [one for one in names if one != READ_ONLY]
    except CodeSmithError:
        raise
    except OSError as error:
        raise sftp_failure(error, source, destination) from error


def _names(from_: Side, to: Side, source: Place, destination: Place) -> list[bytes] | None:
    inside = destination.raw.rstrip(b"/") + b"/."
    there = to.lstat(destination.raw)
    try:
        is_dir = there is not None and to.lstat(inside) is not None
    except OSError:  # a file, or a link to one
        is_dir = False
    if there is not None and not is_dir:
        hint = f"a directory goes into a directory: inv workspace.copy {source.quoted} {destination.folder.quoted}"
        raise BadArgument(f"{destination.word} is no directory", hint=hint)
    if there is None:
        return None
    entry = from_.lstat(source.raw)
    if entry is not None and entry.is_file:
        raise BadArgument(f"{source.word} is a file", hint="without the slash at its end it is copied")
    names = from_.list(source.raw.rstrip(b"/") + b"/.")
    return sorted(name for name in names if not name.endswith(os.fsencode(PARTIAL)))


def left_out(sftp: Sftp, destination: Place) -> list[bytes]:
    """Return the paths that nothing is copied to, so that a workspace that was copied out can be put back."""
    try:
        is_top = destination.workspace and sftp.real_path(destination.raw) == sftp.real_path(b".")
    except OSError:  # it is not there
        is_top = False
    return [destination.raw + b"/" + READ_ONLY] if is_top else []


def ensure_kept(sftp: Sftp, source: Place, destination: Place, *, delete: bool) -> None:
    """Return if a copy neither replaces a workspace itself nor deletes what it always has; else raise BadArgument."""
    top = sftp.real_path(b".")
    path = destination.raw
    if not source.is_contents:
        path += b"/" + source.raw.rpartition(b"/")[2]
    try:
        path = sftp.real_path(path)
    except OSError:  # it is not there
        path = posixpath.normpath(posixpath.join(top, path))
    if top == path and not delete:
        hint = f"inv workspace.copy {Place(source.workspace, source.path + '/').quoted} {destination.workspace}:"
        raise BadArgument(f"that would be {destination.workspace} itself", hint=hint)
    if not delete:
        return
    if top == path or top.startswith(path.rstrip(b"/") + b"/"):
        hint = "name a directory in it, as `code/`; or leave --delete out"
        raise BadArgument(f"--delete would empty {destination.workspace} itself", hint=hint)
    for name in KEPT:
        if path == top + b"/" + name or path.startswith(top + b"/" + name + b"/"):
            problem = f"--delete would delete in {destination.workspace}:{name.decode()}, which CodeSmith keeps"
            raise BadArgument(problem, hint="leave --delete out")
