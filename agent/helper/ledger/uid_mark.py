"""The next uid, also stored beside the trees: a restored or new ledger gives no uid out twice.

Ledger and mark are equal unless one of them was restored from a backup. Then the uids of CodeSmith's accounts and trees
count as used too.
"""

from __future__ import annotations

import json
import os
import pwd
from typing import Dict, Iterator

from agent.helper.trees import trees
from agent.shared import names, uids
from agent.shared.ownership import is_uid
from agent.shared.uids import Range

MARK = ".next-uid"
# Enough for a few ranges.
SIZE_MAX = 4096
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def next_uid(ledger_has: int, within: Range) -> int:
    """Return the lowest uid of a range that was never given out, according to ledger, mark, accounts and trees."""
    mark = _mark_of(read(), within)
    if mark == ledger_has:
        return mark
    return max((ledger_has, mark, *(uid + 1 for uid in _uids_in_use() if within.has(uid))))


def keep_used(uid: int) -> None:
    """Record in the mark that a uid is used up, durably."""
    within = next((one for one in uids.known() if one.has(uid)), Range(uid, uid))
    marks = read()
    if _mark_of(marks, within) <= uid:
        write({**marks, within.first: uid + 1})


def read() -> Dict[int, int]:
    """Return the next uid of each range, by the range's first uid; {} when the mark is missing or damaged."""
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
        temporary = f"{MARK}.{os.urandom(8).hex()}"
        try:
            trees.write_file(base, trees.Entry(temporary, 0o600, json.dumps(marks).encode() + b"\n"), 0)
            os.rename(temporary, MARK, src_dir_fd=base, dst_dir_fd=base)
        except OSError as error:
            if trees.has_entry(base, temporary):
                os.unlink(temporary, dir_fd=base)
            raise OSError(error.errno, error.strerror, f"{names.BASE}/{MARK}") from None
        os.fsync(base)


def _mark_of(marks: Dict[int, int], within: Range) -> int:
    """Return the next uid that the mark has for a range or for one that overlaps with it; 0 if none."""
    return max([0, *(mark for first, mark in marks.items() if first <= within.last and mark > within.first)])


def _uids_in_use() -> Iterator[int]:
    """Yield the uids in CodeSmith's ranges that own an account or an entry of its directories."""
    yield from (one.pw_uid for one in pwd.getpwall() if one.pw_dir == names.NO_HOME and is_uid(one.pw_uid))
    for place in (names.HOMES, names.WORKSPACES, names.STAGING, names.TRASH):
        with trees.open_base(place) as folder, os.scandir(folder) as entries:
            owners = (entry.stat(follow_symlinks=False).st_uid for entry in entries)
            yield from (uid for uid in owners if is_uid(uid))
