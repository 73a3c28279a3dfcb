"""The next uid, kept beside the trees too: a ledger from a backup, or a new one, does not give a uid again.

Ledger and mark are equal unless one of them went back. Then all uids count that accounts and trees of ours have.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
from typing import Dict, Iterator

from agent.helper.trees import trees
from agent.shared import names, uids
from agent.shared.ownership import is_uid
from agent.shared.uids import Range

MARK = ".next-uid"
# A few ranges at most.
SIZE_MAX = 4096
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def next_uid(ledger_has: int, within: Range) -> int:
    """Return the lowest uid of a range that was never given out, as far as ledger, mark, accounts and trees tell."""
    mark = _in(read(), within)
    if mark == ledger_has:
        return mark
    return max((ledger_has, mark, *(uid + 1 for uid in _uids_seen() if within.has(uid))))


def keep_used(uid: int) -> None:
    """Write to the mark that a uid is used up, durably."""
    within = next((one for one in uids.known() if one.has(uid)), Range(uid, uid))
    marks = read()
    if _in(marks, within) <= uid:
        write({**marks, within.first: uid + 1})


def read() -> Dict[int, int]:
    """Return the next uid of each range, by its first; nothing when there is no mark, or a damaged one."""
    with trees.open_base(names.BASE) as base:
        try:
            descriptor = os.open(MARK, READ, dir_fd=base)
        except OSError:
            return {}
    try:
        found = json.loads(os.read(descriptor, SIZE_MAX))
        return {int(first): int(mark) for first, mark in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    finally:
        os.close(descriptor)


def write(marks: Dict[int, int]) -> None:
    """Write the mark, durably."""
    with trees.open_base(names.BASE) as base:
        temporary = f"{MARK}.{secrets.token_hex(8)}"
        try:
            trees.write_file(base, trees.Entry(temporary, 0o600, json.dumps(marks).encode() + b"\n"), 0)
            os.rename(temporary, MARK, src_dir_fd=base, dst_dir_fd=base)
        except OSError as error:
            if trees.is_in(base, temporary):
                os.unlink(temporary, dir_fd=base)
            raise OSError(error.errno, error.strerror, f"{names.BASE}/{MARK}") from None
        os.fsync(base)


def _in(marks: Dict[int, int], within: Range) -> int:
    """Return what the mark says of a range, or of one that overlaps with it."""
    return max([0, *(mark for first, mark in marks.items() if first <= within.last and mark > within.first)])


def _uids_seen() -> Iterator[int]:
    """Give the uids of our range that accounts of ours, and what is at the top of our directories, belong to."""
    prefix = names.home_of("")
    yield from (one.pw_uid for one in pwd.getpwall() if one.pw_dir.startswith(prefix) and is_uid(one.pw_uid))
    for place in (names.HOMES, names.WORKSPACES, names.STAGING, names.TRASH):
        with trees.open_base(place) as folder, os.scandir(folder) as entries:
            owners = (entry.stat(follow_symlinks=False).st_uid for entry in entries)
            yield from (uid for uid in owners if is_uid(uid))
