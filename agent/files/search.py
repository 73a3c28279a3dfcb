"""A search for lines that match a regular expression, in text files below a directory, within a time."""

from __future__ import annotations

import os
import re
import signal
import stat
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Pattern, Tuple

from agent.files.errors import Refused, of_system, wrong
from agent.files.places import DEPTH_MAX, Place, Tree, open_directory, open_file

# A client waits 14 s for the beginning of an answer; a runtime has to start within that too.
TIME_S = 8.0
FILES_MAX = 100_000
# Of each file, from its beginning; it is read in blocks, and a line is at most one block.
FILE_BYTES_MAX = 64 << 20
BLOCK_BYTES = 1 << 20
# A file with a NUL among its first bytes is not text, as git and grep have it.
LOOK_BYTES = 8192
LEFT_OUT = (".git", ".codesmith")
# Of a line: the match, with what is before and behind it.
BEFORE, TEXT_MAX = 80, 400
ANSWER_BYTES_MAX = 8 << 20
# Of JSON.
CHARACTER_BYTES_MAX = 6
Match = List[Any]


class Search:
    """One search: what it looks for, and what it has found."""

    def __init__(self, pattern: Pattern[str], limit: int) -> None:
        self.found: List[Match] = []
        self._pattern, self._limit = pattern, limit
        self._files = self._size = 0

    @property
    def is_done(self) -> bool:
        """Whether as much is found as was asked for."""
        return len(self.found) >= self._limit

    def look_into(self, descriptor: int, path: str) -> None:
        """Look for matches in a file."""
        self._files += 1
        if self._files > FILES_MAX:
            raise Refused("too_large", f"there are more than {FILES_MAX} files to search")
        for number, line in _lines(descriptor):
            match = self._pattern.search(line)
            if match is not None:
                start = max(0, match.start() - BEFORE) if len(line) > TEXT_MAX else 0
                self._add(path, number, line[start : start + TEXT_MAX])
                if self.is_done:
                    return

    def _add(self, path: str, number: int, text: str) -> None:
        self._size += CHARACTER_BYTES_MAX * (len(path) + len(text))
        if self._size > ANSWER_BYTES_MAX:
            raise Refused("too_large", "the matches are too long for one answer")
        self.found.append([path, number, text])


def search(tree: Tree, request: Dict[str, Any]) -> List[Match]:
    """Return [path, line, text] of lines that match, in the order of their names; links are not followed."""
    with _time_limit():
        one = Search(_compile(request["pattern"]), request["limit"])
        place = tree.find(request["path"])
        if place.status is not None and stat.S_ISREG(place.status.st_mode):
            descriptor = open_file(place, os.O_RDONLY)
            try:
                one.look_into(descriptor, place.path)
            finally:
                os.close(descriptor)
        else:
            _walk(one, place)
        return one.found


def _compile(pattern: str) -> Pattern[str]:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.compile(pattern)
    except re.error as error:
        raise wrong("pattern", f"is no regular expression: {error}") from None
    except (OverflowError, RecursionError):
        raise wrong("pattern", "is no regular expression: it is nested too deep, or has too large numbers") from None


def _walk(one: Search, place: Place) -> None:
    """Search all below a directory; the directories on the way are held by descriptors."""
    top = open_directory(place)
    way = [(top, "" if place.is_workspace else f"{place.path}/", _names(top))]
    try:
        while way and not one.is_done:
            directory, prefix, names = way[-1]
            name = next(names, None)
            if name is None:
                os.close(way.pop()[0])
                continue
            descriptor = _open(directory, name)
            if descriptor is None:
                continue
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                if len(way) >= DEPTH_MAX:
                    os.close(descriptor)
                    raise Refused("too_large", f"{prefix}{name} is deeper than {DEPTH_MAX} directories")
                way.append((descriptor, f"{prefix}{name}/", _names(descriptor)))
                continue
            try:
                if stat.S_ISREG(mode):
                    one.look_into(descriptor, f"{prefix}{name}")
            except OSError:
                continue  # a file that cannot be read is left out
            finally:
                os.close(descriptor)
    except OSError as error:
        raise of_system(error, place.path) from None
    finally:
        for directory, _, _ in way:
            os.close(directory)


def _names(directory: int) -> Iterator[str]:
    """Return the names of files and directories, in order."""
    try:
        with os.scandir(directory) as entries:
            there = [
                one.name for one in entries if one.is_file(follow_symlinks=False) or one.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return iter(())
    return iter(sorted(name for name in there if name not in LEFT_OUT))


def _open(directory: int, name: str) -> Any:
    try:
        # Without blocking: it may have become a FIFO since its name was read.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(name, flags, dir_fd=directory)
    except OSError:
        return None


def _lines(descriptor: int) -> Iterator[Tuple[int, str]]:
    """Yield the lines of a text file with their numbers; none of a file that is not text."""
    number, rest, room = 1, b"", FILE_BYTES_MAX
    while room > 0:
        block = os.read(descriptor, min(BLOCK_BYTES, room))
        if room == FILE_BYTES_MAX and b"\0" in block[:LOOK_BYTES]:
            return
        room -= len(block)
        lines = (rest + block).split(b"\n")
        rest = lines.pop() if block else b""
        for line in lines:
            yield number, line.decode("utf-8", "replace").rstrip("\r")
            number += 1
        if not block:
            return
        if len(rest) >= BLOCK_BYTES:  # a line without end is searched in parts
            yield number, rest.decode("utf-8", "replace")
            rest = b""
    if rest:
        yield number, rest.decode("utf-8", "replace")


@contextmanager
def _time_limit() -> Iterator[None]:
    """Refuse what takes longer than TIME_S; also a match of a regular expression, which looks for signals."""

    def too_long(*_: object) -> None:
        raise Refused("time", f"the search did not end within {TIME_S:.0f} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, TIME_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
