"""The secrets of tokens: made here, kept in files that only the operator can read; the node has their SHA-256."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from codesmith.errors import BadArgument, CallLost, CodeSmithError
from codesmith.paths import ensure_private, given, state_dir, writing

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@contextmanager
def looked_for_if_lost(workspace: str, node: str) -> Iterator[None]:
    """Have a lost answer to a creation say how to look: the same again has another secret, so it is another change."""
    try:
        yield
    except CallLost as error:
        look = f"inv token.list --workspace {workspace} --node {node}"
        raise CallLost(error.problem, hint=f"{look}  # revoke one that is there, its secret is lost") from error


@dataclass(frozen=True)
class Secret:
    """A new secret."""

    text: str

    @classmethod
    def make(cls) -> Secret:
        """Return a secret that nobody can guess."""
        return cls(secrets.token_hex(32))

    @property
    def sha256(self) -> str:
        """What the node gets of it."""
        return hashlib.sha256(self.text.encode("ascii")).hexdigest()

    def write(self, file: Path) -> None:
        """Write it to a new file with mode 0600; CodeSmithError if there is one."""
        try:
            with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as opened:
                opened.write(f"{self.text}\n")
        except FileExistsError:
            raise CodeSmithError(f"{file} exists; a token is not written over it", hint="name another --out") from None
        except OSError as error:
            raise CodeSmithError(f"cannot write {file}: {error.strerror}", hint=f"ls -ld {file.parent}") from error


def file_for(token: str, out: str | None = None) -> Path:
    """Return where the secret of a token goes: `out`, or a file named after the token in the state directory."""
    if out is not None:
        return given(out)
    folder = state_dir() / "tokens"
    ensure_private(folder)
    return folder / token


def forget(token: str) -> None:
    """Remove the file of a token that was revoked, if it is in the state directory."""
    with writing(state_dir()):
        (state_dir() / "tokens" / token).unlink(missing_ok=True)


def expiry(text: str | None) -> str | None:
    """Return when a token expires: a time as it is, or 30m, 8h, 7d from now."""
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", text)
    if found is None:
        if "T" not in text:
            raise BadArgument(f"--expires takes 30m, 8h, 7d or a time such as 2026-12-24T18:00:00Z, not {text!r}")
        return text
    at = datetime.now(UTC) + timedelta(seconds=int(found[1]) * UNITS[found[2]])
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
