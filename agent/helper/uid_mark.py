"""The next uid, kept beside the trees too: a ledger from a backup, or a new one, does not give a uid again.

Ledger and mark are equal unless one of them went back. Then all uids count that accounts and trees of ours have.
"""

from __future__ import annotations

import os
import pwd
import secrets
from typing import Iterator

from agent import names
from agent.claims import is_uid
from agent.helper import trees

MARK = ".next-uid"
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def next_uid(ledger_has: int) -> int:
    """Return the lowest uid that was never given out, as far as ledger, mark, accounts and trees tell."""
    mark = read()
    return ledger_has if mark == ledger_has else max((ledger_has, mark, *(uid + 1 for uid in _uids_seen())))


def read() -> int:
    """Return the mark; 0 when there is none."""
    with trees.open_base(names.BASE) as base:
        try:
            descriptor = os.open(MARK, READ, dir_fd=base)
        except OSError:
            return 0
    try:
        text = os.read(descriptor, 16)
        return int(text) if text.strip().isdigit() else 0
    except OSError:
        return 0
    finally:
        os.close(descriptor)


def write(uid: int) -> None:
    """Write the next uid to the mark, durably."""
    with trees.open_base(names.BASE) as base:
        temporary = f"{MARK}.{secrets.token_hex(8)}"
        try:
            trees.write_file(base, trees.Entry(temporary, 0o600, f"{uid}\n".encode()), 0)
            os.rename(temporary, MARK, src_dir_fd=base, dst_dir_fd=base)
        except OSError as error:
            if trees.is_in(base, temporary):
                os.unlink(temporary, dir_fd=base)
            raise OSError(error.errno, error.strerror, f"{names.BASE}/{MARK}") from None
        os.fsync(base)


def _uids_seen() -> Iterator[int]:
    """Give the uids of our range that accounts of ours, and what is at the top of our directories, belong to."""
    prefix = names.home_of("")
    yield from (one.pw_uid for one in pwd.getpwall() if one.pw_dir.startswith(prefix) and is_uid(one.pw_uid))
    for place in (names.HOMES, names.WORKSPACES, names.STAGING, names.TRASH):
        with trees.open_base(place) as folder, os.scandir(folder) as entries:
            owners = (entry.stat(follow_symlinks=False).st_uid for entry in entries)
            yield from (uid for uid in owners if is_uid(uid))
