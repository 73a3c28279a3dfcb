"""The bearer token of a port: a new one each time the port is opened, in a file that only its owner can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

TOKEN_BYTES = 32


def write_token(path: Path) -> str:
    """Write a new token to `path`, 0600 from its first instant, in place of the old one; return it."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(f"{token}\n")
    temporary.rename(path)
    return token


def remove_token(path: Path) -> None:
    """Remove the file, so that no new client can call the port."""
    path.unlink(missing_ok=True)
