"""Finds the Match blocks of sshd_config that win over our settings for some connections only, or for some logins.

`sshd -T -C` shows what holds for one connection of one login. A block for a port, an address or a host that sshd reads
before ours is none of what it shows, and would let people in by its own rules from there.
"""

from __future__ import annotations

import glob
import os
import re
from typing import Iterator, List, NamedTuple

FOLDER = "/etc/ssh"
MAIN = f"{FOLDER}/sshd_config"
# These say whom a block is for; all others from where or how somebody connects.
ABOUT_LOGINS = ("user", "group")
LISTS = ("allowusers", "denyusers", "allowgroups", "denygroups")
DEPTH_MAX = 16


class Block(NamedTuple):
    """A Match block: its line, and as what it reads without its conditions on the connection."""

    line: str
    text: str


def blocks_before(path: str, main: str = MAIN) -> List[Block]:
    """Return the blocks with conditions on the connection that sshd reads before the file `path`."""
    found: List[Block] = []
    try:
        for block in _read(main, path, 0):
            found.append(block)
    except _Reached as reached:
        found += reached.args
    return found


def patterns(main: str = MAIN) -> List[str]:
    """Return the patterns for names of users and groups by which sshd tells logins apart, wherever they are."""
    return list(dict.fromkeys(one for one in _patterns(main, 0) if one))


def _patterns(file: str, depth: int) -> Iterator[str]:
    for line in _lines(file):
        words = _words(line)
        keyword = words[0].lower() if words else ""
        if keyword == "match":
            found = [value for name, value in zip(words[1::2], words[2::2]) if name.lower() in ABOUT_LOGINS]
            yield from (one.lstrip("!") for value in found for one in value.split(","))
        elif keyword in LISTS:
            yield from (one.lstrip("!").partition("@")[0] for one in words[1:])
        elif keyword == "include" and depth < DEPTH_MAX:
            for one in _included(words[1:]):
                yield from _patterns(one, depth + 1)


class _Reached(Exception):
    """The file has been reached; the block before it, if there is one."""


def _read(file: str, path: str, depth: int) -> Iterator[Block]:
    """Yield the blocks of a file and of those that it includes; those within a block are a part of it."""
    match, lines = "", [""]
    for line in _lines(file):
        words = _words(line)
        keyword = words[0].lower() if words else ""
        if keyword == "match":
            yield from _block(match, lines)
            match, lines = line, []
            continue
        lines.append(line)
        if keyword == "include":
            for one in _included(words[1:]):
                if os.path.realpath(one) == os.path.realpath(path):
                    raise _Reached(*_block(match, lines[:-1]))
                if not match and depth < DEPTH_MAX:
                    yield from _read(one, path, depth + 1)
    yield from _block(match, lines)


def _block(match: str, lines: List[str]) -> Iterator[Block]:
    words = _words(match)[1:]
    pairs = list(zip(words[::2], words[1::2]))
    kept = [f'{name} "{value}"' for name, value in pairs if name.lower() in ABOUT_LOGINS]
    if len(kept) < len(pairs):
        yield Block(match, "\n".join([f"Match {' '.join(kept) or 'all'}", *lines, ""]))


def _lines(file: str) -> List[str]:
    try:
        with open(file, encoding="utf-8", errors="surrogateescape") as opened:
            return [line.strip() for line in opened if line.strip() and not line.lstrip().startswith("#")]
    except OSError:
        return []  # sshd says so itself


def _words(line: str) -> List[str]:
    """Return the words of a line as sshd splits it: at blanks and =, but not within quotes."""
    return [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|([^\s="]+)', line)]


def _included(patterns: List[str]) -> List[str]:
    return [one for pattern in patterns for one in sorted(glob.glob(os.path.join(FOLDER, pattern)))]
