"""A rename that replaces nothing, whoever makes something of that name meanwhile."""

from __future__ import annotations

import ctypes
import errno
import os

RENAME_NOREPLACE = 1  # renameat2(2)
# A file system that cannot do it, or a kernel that has no such call.
CANNOT = (errno.EINVAL, errno.ENOSYS)


def rename_no_replace(source: int, name: str, target: int, new_name: str) -> None:
    """Rename `name` in one directory to `new_name` in another; FileExistsError when there is something."""
    library = ctypes.CDLL(None, use_errno=True)
    if not library.renameat2(source, os.fsencode(name), target, os.fsencode(new_name), RENAME_NOREPLACE):
        return
    number = ctypes.get_errno()
    if number not in CANNOT:
        raise OSError(number, os.strerror(number))
    try:
        os.stat(new_name, dir_fd=target, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
