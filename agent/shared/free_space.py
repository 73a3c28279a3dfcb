"""How full a file system may become. Checked while git writes, because the size of a clone is not known before."""

from __future__ import annotations

import os

SHARE_FREE = 0.05
BYTES_FREE_MAX = 1 << 30
WATCH_S = 0.2


def is_short(path: str) -> bool:
    """Return whether too little is free at `path`: less than 5 % (1 GiB at most) of the bytes, or 5 % of the inodes."""
    disk = os.statvfs(path)
    bytes_min = min(disk.f_blocks * disk.f_frsize * SHARE_FREE, BYTES_FREE_MAX)
    # Some file systems (btrfs) do not count inodes.
    has_few_inodes = disk.f_files > 0 and disk.f_favail < disk.f_files * SHARE_FREE
    return disk.f_bavail * disk.f_frsize < bytes_min or has_few_inodes
