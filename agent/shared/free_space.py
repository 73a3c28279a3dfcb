"""How full a file system may become: watched while git writes, for nobody knows beforehand how large a clone is."""

from __future__ import annotations

import os

SHARE_FREE = 0.05
BYTES_FREE_MAX = 1 << 30
WATCH_S = 0.2


def is_short(path: str) -> bool:
    """Tell whether less is free at `path` than must stay: 5 %, or 1 GiB where that is less; 5 % of the inodes."""
    found = os.statvfs(path)
    floor = min(found.f_blocks * found.f_frsize * SHARE_FREE, BYTES_FREE_MAX)
    # Some file systems (btrfs) count no inodes.
    few_inodes = found.f_files > 0 and found.f_favail < found.f_files * SHARE_FREE
    return found.f_bavail * found.f_frsize < floor or few_inodes
