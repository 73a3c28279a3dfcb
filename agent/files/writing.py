"""New contents for a file, whole or not at all; or something added to its end.

A write makes a temporary file beside the file, which then takes its name. All writes in a directory go one after the
other, so an etag that was compared still holds; and a temporary file that is there then was left by a killed one.
"""

from __future__ import annotations

import base64
import fcntl
import os
import signal
import stat
import time
from contextlib import contextmanager, suppress
from typing import Any, Dict, Iterator, List, Optional, Tuple

from agent.files.entries import Record, etag_of, record
from agent.files.errors import Refused, of_system, wrong
from agent.files.no_replace import rename_no_replace
from agent.files.places import Place, Tree, check_file, may_write, open_file
from agent.files.reading import read_at
from agent.shared.paths import UPLOAD

TEMPORARY = ".codesmith-write-"
# An upload is written to disk after each so many bytes, so that its move does not wait for all of it.
SYNC_BYTES = 64 << 20
# One that is this old was left behind.
UPLOAD_S = 86400
ABSENT = "absent"
MODE = 0o644
# A file is read whole to be edited.
EDIT_BYTES_MAX = 16 << 20
LOCK_WAIT_S = 10.0
# Access lists and the login's own attributes go to the new file; capabilities and labels are the system's.
ATTRIBUTES = ("user.", "system.posix_acl_access")


def write(tree: Tree, request: Dict[str, Any]) -> Record:
    """Write a file, or add to its end with `append`; a link is followed, and stays."""
    data = base64.b64decode(request["data"])
    with _file_held(tree, request["path"], request["if_etag"]) as (place, directory):
        if request["append"] and place.status is not None:
            return _append(place, data, request["mode"])
        return _replace(place, directory, data, request["mode"], must_be_new=request["if_etag"] == ABSENT)


def edit(tree: Tree, request: Dict[str, Any]) -> Record:
    """Replace the one occurrence of `old` by `new`."""
    old, new = base64.b64decode(request["old"]), base64.b64decode(request["new"])
    with _file_held(tree, request["path"], request["if_etag"]) as (place, directory):
        data = _read_whole(place)
        at = data.find(old)
        if at < 0:
            raise wrong("old", f"does not occur in {place.path}", count=0)
        if data.find(old, at + 1) >= 0:
            count = max(2, data.count(old))
            raise wrong("old", f"occurs {count} times in {place.path}; it must occur once", count=count)
        return _replace(place, directory, data[:at] + new + data[at + len(old) :], None, must_be_new=False)


def is_upload(place: Place) -> bool:
    """Return whether a file collects pieces; it is on disk when it is moved to its name, not before."""
    return place.name.startswith(UPLOAD)


@contextmanager
def locked_directory(place: Place, field: str = "path") -> Iterator[int]:
    """Hold the directory of a place, so that no other write there comes between; yield a descriptor of it."""
    try:
        directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place.parent)
    except OSError as error:
        raise of_system(error, os.path.dirname(place.path) or ".", field) from None
    try:
        _lock(directory, place.path)
        yield directory
    finally:
        os.close(directory)


@contextmanager
def _file_held(tree: Tree, path: str, if_etag: Optional[str]) -> Iterator[Tuple[Place, int]]:
    """Hold the directory of a file, and yield what has its name now and may be written."""
    place = tree.find(path)
    with locked_directory(place) as directory:
        place = tree.look(place.parent, place.name, place.path)
        if place.status is not None and stat.S_ISLNK(place.status.st_mode):
            raise Refused("busy", f"{place.path} has become a link meanwhile")
        check_file(place)
        check_etag(place, if_etag)
        if place.status is not None and not may_write(place):
            raise _protected(place.path, place.status)
        try:
            yield place, directory
        except OSError as error:
            raise of_system(error, place.path) from None


def _protected(path: str, status: os.stat_result) -> Refused:
    owner = "" if status.st_uid == os.geteuid() else f" and its owner uid {status.st_uid}"
    return Refused("failed", f"{path} may not be written: its mode is {stat.S_IMODE(status.st_mode):04o}{owner}")


def check_etag(place: Place, if_etag: Optional[str]) -> None:
    """Refuse what is not as the caller knows it."""
    if if_etag == ABSENT and place.status is not None:
        raise Refused("changed", f"{place.path} is there already")
    if if_etag not in (None, ABSENT):
        if place.status is None:
            raise Refused("changed", f"{place.path} is not there any more")
        if etag_of(place.status) != if_etag:
            raise Refused("changed", f"{place.path} has changed: its etag is {etag_of(place.status)}")


def _lock(directory: int, path: str) -> None:
    def too_long(*_: object) -> None:
        raise Refused("busy", f"{path}: another program holds a lock of its directory")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, LOCK_WAIT_S)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _replace(place: Place, directory: int, data: bytes, mode: Optional[int], *, must_be_new: bool) -> Record:
    """Give the name to a new file with this data; until then, and on any error, the old one has it.

    The mode stays, without setuid and setgid, as with any write. Other hard links keep the old file.
    """
    _remove_leftovers(directory)
    temporary = TEMPORARY + os.urandom(8).hex()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        _write_all(descriptor, data)
        if place.status is not None:
            _copy_attributes(place, descriptor)
        kept = MODE if place.status is None else stat.S_IMODE(place.status.st_mode) & 0o777
        os.fchmod(descriptor, kept if mode is None else mode)
        if not is_upload(place):  # on disk before it gets its name: a power cut leaves the old file or the new one
            os.fsync(descriptor)
        if must_be_new:
            rename_no_replace(directory, temporary, directory, place.name)
        else:
            os.replace(temporary, place.name, src_dir_fd=directory, dst_dir_fd=directory)
        if not is_upload(place):
            os.fsync(directory)
        return record(place.path, os.fstat(descriptor))
    except FileExistsError:
        raise Refused("changed", f"{place.path} is there already") from None
    finally:
        os.close(descriptor)
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)


def _append(place: Place, data: bytes, mode: Optional[int]) -> Record:
    """Add to the end of a file; if that fails, cut off what was added."""
    descriptor = open_file(place, os.O_WRONLY | os.O_APPEND)
    try:
        size = os.fstat(descriptor).st_size
        try:
            _write_all(descriptor, data)
            if not is_upload(place) or size // SYNC_BYTES != (size + len(data)) // SYNC_BYTES:
                os.fsync(descriptor)
        except OSError:
            # Unless another program has added something too: that is not ours to cut off.
            if size < os.fstat(descriptor).st_size <= size + len(data):
                os.ftruncate(descriptor, size)
            raise
        if mode is not None:
            os.fchmod(descriptor, mode)
        return record(place.path, os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _read_whole(place: Place) -> bytes:
    descriptor = open_file(place, os.O_RDONLY)
    try:
        data = read_at(descriptor, 0, EDIT_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    if len(data) > EDIT_BYTES_MAX:
        raise Refused("too_large", f"{place.path} is larger than {EDIT_BYTES_MAX >> 20} MiB, too large for an edit")
    return data


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _copy_attributes(place: Place, descriptor: int) -> None:
    """Copy extended attributes, as far as the login may read and the file system takes them."""
    source = f"/proc/self/fd/{place.descriptor}"
    with suppress(OSError):
        for name in os.listxattr(source):
            if name.startswith(ATTRIBUTES):
                with suppress(OSError):
                    os.setxattr(descriptor, name, os.getxattr(source, name))


def _remove_leftovers(directory: int) -> None:
    for name in _leftovers(directory):
        with suppress(OSError):
            os.unlink(name, dir_fd=directory)


def _leftovers(directory: int) -> List[str]:
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(TEMPORARY):
                found.append(entry.name)
            elif entry.name.startswith(UPLOAD):
                with suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < time.time() - UPLOAD_S:
                        found.append(entry.name)
    return found
