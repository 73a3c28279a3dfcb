"""Entries that are moved, removed and made."""

from __future__ import annotations

import errno
import os
import stat
from typing import Any, Dict, Optional

from agent.files.entries import Record, describe
from agent.files.errors import Refused, of_system, wrong
from agent.files.no_replace import rename_no_replace
from agent.files.places import Place, Tree, change_mode, open_directory, open_file
from agent.files.writing import check_etag, is_upload, locked_directory
from agent.shared.paths import JOB_PATH

MODE = 0o755
STDERR_MAX = 500


def move(tree: Tree, request: Dict[str, Any]) -> Record:
    """Move or rename an entry, a link itself. With `replace`, a file or an empty directory at the new path goes."""
    source = tree.find(request["path"], follow=False)
    target = tree.find(request["new_path"], follow=False, field="new_path")
    _check_is_there(source)
    for place, field in ((source, "path"), (target, "new_path")):
        if place.is_workspace:
            raise wrong(field, "is the workspace itself")
    with locked_directory(target, "new_path"):
        source = tree.look(source.parent, source.name, source.path)
        _check_is_there(source)
        target = tree.look(target.parent, target.name, target.path, "new_path")
        check_etag(target, request["if_etag"])
        if request["replace"] and _leads_to(tree, source, target):
            raise wrong("new_path", f"{target.path} is what {source.path} leads to")
        try:
            if is_upload(source):
                _sync_file(source)
            _rename(source, target, replace=request["replace"])
        except OSError as error:
            raise _not_moved(error, source, target) from None
    for place in (source, target):
        _sync(place)
    return describe(tree.look(target.parent, target.name, target.path))


def _rename(source: Place, target: Place, *, replace: bool) -> None:
    if not replace:
        rename_no_replace(source.parent, source.name, target.parent, target.name)
    elif not _is_same(source, target):
        os.rename(source.name, target.name, src_dir_fd=source.parent, dst_dir_fd=target.parent)
    elif source.path != target.path:
        # Two hard links of one file: rename(2) would leave both.
        os.unlink(source.name, dir_fd=source.parent)


def _leads_to(tree: Tree, source: Place, target: Place) -> bool:
    """Return whether an entry is a link to another one: in its place it would lead to itself."""
    if source.status is None or not stat.S_ISLNK(source.status.st_mode):
        return False
    try:
        return tree.find(source.path).path == target.path
    except Refused:
        return False  # it leads out, or nowhere


def _not_moved(error: OSError, source: Place, target: Place) -> Refused:
    if error.errno == errno.EINVAL:
        return wrong("new_path", f"{target.path} is inside {source.path}")
    if error.errno in (errno.EISDIR, errno.ENOTDIR):
        return wrong("new_path", f"{target.path}: a directory does not replace a file, nor a file a directory")
    if error.errno == errno.EXDEV:
        return Refused("other_file_system", f"{target.path} is on another file system than {source.path}")
    if error.errno == errno.EEXIST and target.status and stat.S_ISDIR(target.status.st_mode):
        text = f"{target.path} is a directory that is there already"
        return Refused("exists", f"{text}; new_path is the whole new path: {target.path}/{source.name}")
    return of_system(error, source.path if error.errno == errno.ENOENT else target.path, "new_path")


def remove(tree: Tree, request: Dict[str, Any]) -> str:
    """Remove an entry, and with `recursive` all that is in it; return its path."""
    place = tree.find(request["path"], follow=False)
    if place.is_workspace:
        raise wrong("path", "is the workspace itself")
    status = _check_is_there(place)
    try:
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(place.name, dir_fd=place.parent)
        elif request["recursive"]:
            _remove_all(place)
        else:
            os.rmdir(place.name, dir_fd=place.parent)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            problem = f"{place.path} is not empty: only `recursive` removes it, with all that is in it"
            raise Refused("not_empty", problem) from None
        raise of_system(error, place.path) from None
    _sync(place)
    return place.path


def make_directory(tree: Tree, request: Dict[str, Any]) -> Record:
    """Make a directory, with `parents` also those above it."""

    def make(parent: int, name: str) -> None:
        try:
            os.mkdir(name, MODE, dir_fd=parent)
        except FileExistsError:
            pass  # another one makes them too
        except OSError as error:
            raise of_system(error, request["path"]) from None
        _set_mode(tree.look(parent, name, request["path"]), MODE)

    place = tree.find(request["path"], make=make if request["parents"] else None)
    if place.status is None:
        try:
            os.mkdir(place.name, MODE, dir_fd=place.parent)
        except FileExistsError:
            raise Refused("exists", f"{place.path} is there already") from None
        except OSError as error:
            raise of_system(error, place.path) from None
        place = tree.look(place.parent, place.name, place.path)
        _set_mode(place, MODE if request["mode"] is None else request["mode"])
        _sync(place)
    elif not request["parents"] or not stat.S_ISDIR(place.status.st_mode):
        raise Refused("exists", f"{place.path} is there already")
    return describe(tree.look(place.parent, place.name, place.path))


def _set_mode(place: Place, mode: int) -> None:
    """Set the mode that the umask has taken bits of; a directory of a group's stays one."""
    if place.status is not None and stat.S_ISDIR(place.status.st_mode):
        change_mode(place, mode | place.status.st_mode & stat.S_ISGID)


def _check_is_there(place: Place) -> os.stat_result:
    if place.status is None:
        raise Refused("missing", f"{place.path}: no such file or directory")
    return place.status


def _is_same(one: Place, other: Place) -> bool:
    return bool(one.status and other.status and os.path.samestat(one.status, other.status))


def _remove_all(place: Place) -> None:
    """Remove a directory with rm: it follows no link, however often the tree is changed, and takes any depth."""
    import subprocess  # 10 ms, and few calls need it

    # The name is said to rm, never a path: its directory is the one that was found.
    done = subprocess.run(
        ["rm", "-rf", "--", place.name],
        cwd=f"/proc/self/fd/{place.parent}", env={"PATH": JOB_PATH, "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr[-STDERR_MAX:].decode("utf-8", "replace").splitlines()
        raise Refused("failed", f"{place.path} is not removed, or in part: {lines[-1] if lines else 'rm failed'}")


def _sync_file(place: Place) -> None:
    """Write an upload to disk before it gets its name: a power cut leaves the old file or the whole new one."""
    if place.status is None or not stat.S_ISREG(place.status.st_mode):
        return
    descriptor = open_file(place, os.O_RDONLY if place.status.st_mode & stat.S_IRUSR else os.O_WRONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(place: Place) -> None:
    """Write the directory of a name to disk, if it may be read."""
    descriptor: Optional[int] = None
    try:
        descriptor = open_directory(place._replace(descriptor=place.parent, status=os.fstat(place.parent)))
        os.fsync(descriptor)
    except (OSError, Refused):
        pass  # what was done stays done; it is on disk a little later
    finally:
        if descriptor is not None:
            os.close(descriptor)
