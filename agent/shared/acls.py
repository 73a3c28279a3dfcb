"""Access lists (POSIX ACLs): rights that owner and mode do not show, and that new files in a directory inherit."""

from __future__ import annotations

import errno
import os
from typing import Union

# The rights to a file, and the rights that new files in a directory inherit.
ATTRIBUTES = ("system.posix_acl_access", "system.posix_acl_default")
NONE = (errno.ENODATA, errno.EOPNOTSUPP)


def exist(where: Union[int, str]) -> bool:
    """Return whether a file or directory has an access list; False when it is gone or the file system has no lists."""
    for attribute in ATTRIBUTES:
        try:
            os.getxattr(where, attribute)
        except OSError:
            continue
        return True
    return False


def remove(where: Union[int, str]) -> None:
    """Remove the access lists of a file or directory; its mode does not change."""
    for attribute in ATTRIBUTES:
        try:
            os.removexattr(where, attribute)
        except OSError as error:
            if error.errno not in NONE:
                raise
