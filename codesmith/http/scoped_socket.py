"""A local socket that leads to a node's socket of tokens, and the file with the secret to show there."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import NamedTuple

from codesmith.errors import CodeSmithError

SECRET = "[0-9a-f]{64}"  # noqa: S105  (its grammar)


class ScopedSocket(NamedTuple):
    """Where to connect, and what to show. Each connection reads the file again."""

    path: Path
    token_file: Path

    @property
    def url(self) -> str:
        """The address as CODESMITH_ENDPOINT has it."""
        return f"unix:{self.path}"

    def read_token(self) -> str:
        """Return the secret; CodeSmithError if there is none, or others may read it."""
        return read_secret(self.token_file)


def socket_of(url: str) -> Path:
    """Return the path of `unix:PATH`; CodeSmithError unless that is absolute."""
    path = Path(url.removeprefix("unix:"))
    if not path.is_absolute():
        problem = f"{url!r} is not an endpoint; expected unix:/PATH or http://127.0.0.1:PORT"
        raise CodeSmithError(problem, hint="inv token.create WORKSPACE --endpoint  # names one")
    return path


def read_secret(file: Path) -> str:
    """Return the secret of a token; CodeSmithError if the file has none, or others may read it."""
    try:
        with file.open(encoding="ascii") as opened:
            mode = stat.S_IMODE(file.stat().st_mode)
            text = opened.read(4096).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        raise CodeSmithError(f"cannot read the token in {file}: {why}", hint="inv token.create WORKSPACE") from None
    if mode & 0o077:
        raise CodeSmithError(f"others may read the token in {file} (mode {mode:04o})", hint=f"chmod 600 {file}")
    if not re.fullmatch(SECRET, text):
        raise CodeSmithError(f"{file} holds no token", hint="inv token.create WORKSPACE")
    return text
