"""Paths of a workspace, resolved one component at a time, so that none leads out of it, whoever changes it meanwhile.

Each directory on the way is held by a descriptor; links are read by theirs and followed here, not by the kernel.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Callable, List, NamedTuple, Optional, Tuple

from agent.files.errors import Refused, of_system, wrong

LINKS_MAX = 40
# Of directories on the way: each of them is held by a descriptor.
DEPTH_MAX = 256
LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
TYPES = (
    (stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISLNK, "link"), (stat.S_ISFIFO, "fifo"),
    (stat.S_ISSOCK, "socket"),
)  # fmt: skip


class Place(NamedTuple):
    """A name in a directory, and the entry that has it, if there is one.

    `parent` and `descriptor` are open with O_PATH; `path` is relative to the workspace and has no links in it.
    """

    parent: int
    name: str
    path: str
    descriptor: Optional[int]
    status: Optional[os.stat_result]

    @property
    def is_workspace(self) -> bool:
        """Whether it is the workspace's own directory."""
        return self.path == "."


class Tree:
    """The directory of a workspace; use it as a context manager, which closes what it has opened.

    `names` are absolute paths that mean the same directory.
    """

    def __init__(self, directory: str, *names: str) -> None:
        self._opened: List[int] = []
        self._root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._names = names

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in (self._root, *self._opened):
            os.close(descriptor)

    def find(
        self, path: str, *, follow: bool = True, field: str = "path", make: Optional[Callable[[int, str], None]] = None
    ) -> Place:
        """Return the place of a path; Refused when it leads out, or a directory on the way is missing.

        `follow`: also a link at its end. `make` is called for a directory on the way that is missing.
        """
        way: List[Tuple[int, str]] = [(self._root, "")]
        todo, links = self._split(path, path, field, way), 0
        while todo:
            name = todo.pop()
            if name == "..":
                if len(way) == 1:
                    raise _outside(path, field)
                way.pop()
                continue
            place = self.look(way[-1][0], name, _joined(way, name), field)
            if place.status is None and todo and make is not None:
                make(place.parent, name)
                place = self.look(place.parent, name, place.path, field)
            if place.status is None:
                if todo:
                    raise Refused("missing", f"{place.path}: no such directory")
                return place
            if stat.S_ISLNK(place.status.st_mode) and (todo or follow):
                links += 1
                if links > LINKS_MAX:
                    raise wrong(field, f"{path}: too many links")
                todo += self._split(read_link(place), path, field, way)
            elif not todo:
                return place
            elif not stat.S_ISDIR(place.status.st_mode):
                raise wrong(field, f"{place.path} is not a directory")
            elif len(way) > DEPTH_MAX:
                raise wrong(field, f"is deeper than {DEPTH_MAX} directories")
            else:
                way.append((_descriptor(place), name))
        return self._directory(way)

    def look(self, parent: int, name: str, path: str, field: str = "path") -> Place:
        """Return what has this name in a directory now."""
        try:
            descriptor = os.open(name, LOOK, dir_fd=parent)
        except FileNotFoundError:
            return Place(parent, name, path, None, None)
        except OSError as error:
            raise of_system(error, path, field) from None
        except UnicodeEncodeError:
            raise wrong(field, "has half of a surrogate pair that stands for no byte") from None
        self._opened.append(descriptor)
        return Place(parent, name, path, descriptor, os.fstat(descriptor))

    def _directory(self, way: List[Tuple[int, str]]) -> Place:
        descriptor, name = way[-1]
        parent = way[-2][0] if len(way) > 1 else descriptor
        return Place(parent, name or ".", _joined(way[:-1], name), descriptor, os.fstat(descriptor))

    def _split(self, path: str, whole: str, field: str, way: List[Tuple[int, str]]) -> List[str]:
        """Return the components of a path, the last one first; an absolute one begins the way anew."""
        if path.startswith("/"):
            inside = [path[len(name) :] for name in self._names if f"{path}/".startswith(f"{name.rstrip('/')}/")]
            if not inside:
                raise _outside(whole, field)
            path = inside[0]
            del way[1:]
        return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def type_of(status: os.stat_result) -> str:
    """Return the word for the type of an entry."""
    return next((word for is_type, word in TYPES if is_type(status.st_mode)), "device")


def read_link(place: Place) -> str:
    """Return where a link leads."""
    try:
        return os.readlink("", dir_fd=_descriptor(place))
    except OSError as error:
        raise of_system(error, place.path) from None


def check_file(place: Place, field: str = "path") -> None:
    """Refuse what is there and is no regular file."""
    kind = "file" if place.status is None else type_of(place.status)
    if kind != "file":
        raise wrong(field, f"{place.path} is a {kind}, not a file")


def open_file(place: Place, flags: int) -> int:
    """Return a descriptor of the regular file that was found, whatever has its name by now; it never blocks."""
    check_file(place)
    if place.status is None:
        raise Refused("missing", f"{place.path}: no such file")
    try:
        return os.open(_name_of(_descriptor(place)), flags | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise of_system(error, place.path) from None


def open_directory(place: Place, field: str = "path") -> int:
    """Return a descriptor of the directory that was found, for reading it."""
    if place.status is None:
        raise Refused("missing", f"{place.path}: no such directory")
    if not stat.S_ISDIR(place.status.st_mode):
        raise wrong(field, f"{place.path} is a {type_of(place.status)}, not a directory")
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=_descriptor(place))
    except OSError as error:
        raise of_system(error, place.path, field) from None


def may_write(place: Place) -> bool:
    """Return whether the login may write to the file that was found."""
    return os.access(_name_of(_descriptor(place)), os.W_OK)


def change_mode(place: Place, mode: int) -> None:
    """Set the mode of what was found; it must not be a link."""
    os.chmod(_name_of(_descriptor(place)), mode)


def _name_of(descriptor: int) -> str:
    # O_PATH descriptors take neither read() nor fchmod(); this name leads to the same file and to no other.
    return f"/proc/self/fd/{descriptor}"


def _descriptor(place: Place) -> int:
    if place.descriptor is None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    return place.descriptor


def _joined(way: List[Tuple[int, str]], name: str) -> str:
    return "/".join([*(name for _, name in way[1:]), name]) or "."


def _outside(path: str, field: str) -> Refused:
    return wrong(field, f"{path} leads out of the workspace")
