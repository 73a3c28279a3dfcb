"""Refusals of file.*: a word for the front end, which gives it its kind and its hint, and a sentence for people."""

from __future__ import annotations

import errno
from typing import Any, Dict

# What a system call refuses, as a word of the front end's table; any other error is `failed`.
REASONS = {
    errno.EAGAIN: "busy",
    errno.EDQUOT: "quota",
    errno.EEXIST: "exists",
    errno.EFBIG: "too_large",
    errno.ENOENT: "missing",
    errno.ENOMEM: "memory",
    errno.ENOSPC: "full",
    errno.ENOTEMPTY: "not_empty",
    errno.ESTALE: "missing",
    errno.ETXTBSY: "busy",
    errno.EXDEV: "other_file_system",
}
# Those that a path of the caller's causes.
OF_PATHS = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR)


class Refused(Exception):
    """A request that is not carried out. `reason` is a word that the front end knows."""

    def __init__(self, reason: str, text: str, **data: Any) -> None:
        super().__init__(text)
        self.reason, self.text, self.data = reason, text, data

    def to_dict(self) -> Dict[str, Any]:
        """Return the answer."""
        return {"refused": self.reason, "message": self.text, **self.data}


def wrong(field: str, problem: str, **data: Any) -> Refused:
    """Return the refusal of one parameter."""
    return Refused("wrong", problem, field=field, **data)


def of_system(error: OSError, what: str, field: str = "path") -> Refused:
    """Return the refusal for an error of the system; `what` is the path that it is about."""
    text = f"{what}: {error.strerror}"
    if error.errno in OF_PATHS:
        return wrong(field, text)
    return Refused(REASONS.get(error.errno or 0, "failed"), text)
