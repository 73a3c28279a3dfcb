"""The variables that a workspace sets for all that runs in it: NAME=VALUE lines of its file `config/environment`."""

from __future__ import annotations

import os
import re
import stat
from typing import Dict

FILE = "config/environment"
BYTES_MAX, VARIABLES_MAX = 65536, 256
LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
# What says who and where the workspace is.
KEPT = ("HOME", "USER", "LOGNAME", "SHELL")


def read(directory: str) -> Dict[str, str]:
    """Return the variables of a workspace, by its directory; {} without the file, or if it is no plain file.

    A line that is none of NAME=VALUE counts for nothing; neither does a name that says who and where the workspace is.
    """
    try:
        # Neither a link nor a pipe that somebody put there may hold up or lead away what starts.
        descriptor = os.open(os.path.join(directory, FILE), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        data = os.read(descriptor, BYTES_MAX) if is_file else b""
    except OSError:
        return {}
    finally:
        os.close(descriptor)
    found: Dict[str, str] = {}
    for match in filter(None, map(LINE.fullmatch, data.decode("utf-8", "replace").splitlines())):
        name, value = match[1], _unquoted(match[2].strip())
        if name not in KEPT and not name.startswith("CODESMITH_") and value.isprintable():
            found[name] = value
        if len(found) == VARIABLES_MAX:
            break
    return found


def _unquoted(value: str) -> str:
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if is_quoted else value
