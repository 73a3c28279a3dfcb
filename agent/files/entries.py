"""What is known of an entry: its type, size, mode, time, target and etag."""

from __future__ import annotations

import itertools
import os
import stat
from typing import Any, Dict, List

from agent.files.errors import Refused, of_system
from agent.files.places import Place, Tree, open_directory, read_link, type_of

# Of one directory; the records of so many have some megabytes.
ENTRIES_MAX = 10_000
Record = List[Any]


def list_(tree: Tree, request: Dict[str, Any]) -> List[Record]:
    """Return the entries of a directory, by name."""
    place = tree.find(request["path"])
    directory = open_directory(place)
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in itertools.islice(entries, ENTRIES_MAX + 1))
        if len(names) > ENTRIES_MAX:
            raise Refused("too_large", f"{place.path} has more than {ENTRIES_MAX} entries")
        found = []
        for name in names:
            path = name if place.is_workspace else f"{place.path}/{name}"
            try:
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                target = os.readlink(name, dir_fd=directory) if stat.S_ISLNK(status.st_mode) else None
            except OSError:
                continue  # it has gone, or is another one by now
            found.append(record(path, status, target))
        return found
    except OSError as error:
        raise of_system(error, place.path) from None
    finally:
        os.close(directory)


def stat_(tree: Tree, request: Dict[str, Any]) -> Record:
    """Return one entry; a link is not followed."""
    return describe(tree.find(request["path"], follow=False))


def describe(place: Place) -> Record:
    """Return the record of what was found."""
    if place.status is None:
        raise Refused("missing", f"{place.path}: no such file or directory")
    target = read_link(place) if stat.S_ISLNK(place.status.st_mode) else None
    return record(place.path, place.status, target)


def record(path: str, status: os.stat_result, target: Any = None) -> Record:
    """Return a record: path, type, size of its contents, mode, time in ns, target of a link, etag."""
    mode = stat.S_IMODE(status.st_mode)
    # What a directory takes differs between file systems, and says nothing.
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return [path, type_of(status), size, mode, status.st_mtime_ns, target, etag_of(status)]


def etag_of(status: os.stat_result) -> str:
    """Return a text that changes whenever the entry does.

    The kernel sets ctime at every change of contents, mode or name, also where mtime is set back.
    """
    return f"{status.st_dev:x}-{status.st_ino:x}-{status.st_size:x}-{max(status.st_ctime_ns, 0):x}"
