"""Access lists (POSIX ACLs) of files: rights that neither owner nor mode shows, and that new entries inherit."""

from __future__ import annotations

import errno
import os
from typing import Union

# The rights themselves, and those that what is made in a directory inherits.
ATTRIBUTES = ("system.posix_acl_access", "system.posix_acl_default")
NONE = (errno.ENODATA, errno.EOPNOTSUPP)


def exist(where: Union[int, str]) -> bool:
    """Tell whether a file or directory has an access list; False where it is gone or the file system has none."""
    for attribute in ATTRIBUTES:
        try:
            os.getxattr(where, attribute)
        except OSError:
            continue
        return True
    return False


def remove(where: Union[int, str]) -> None:
    """Remove the access lists of a file or directory; the mode stays what it shows."""
    for attribute in ATTRIBUTES:
        try:
            os.removexattr(where, attribute)
        except OSError as error:
            if error.errno not in NONE:
                raise
