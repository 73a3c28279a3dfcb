"""What nobody has foreseen: one sentence with a reference for people, the traceback in a file."""

from __future__ import annotations

import os
import sys

from codesmith.cli.output import escape
from codesmith.errors import CodeSmithError


class Unexpected(CodeSmithError):
    """A bug of ours, or a node that answers as no node does; its cause is the exception."""


def explained(name: str, error: Exception) -> Unexpected:
    """Return what to say of `error`, met by `name`; its traceback goes to a log (to stderr with CODESMITH_DEBUG)."""
    import secrets
    import traceback

    reference = secrets.token_hex(4)
    text = "".join(traceback.format_exception(error))
    if os.environ.get("CODESMITH_DEBUG"):
        sys.stderr.write(text)
    problem = f"{name} met something unexpected: {type(error).__name__}: {error} (reference {reference})"
    try:
        hint = "cat " + _log(reference, f"{name}\n{text}")
    except (OSError, CodeSmithError):
        hint = "CODESMITH_DEBUG=1 and the same again shows where"
    told = Unexpected(escape(problem), hint=hint)
    told.__cause__ = error
    return told


def _log(reference: str, text: str) -> str:
    from codesmith import paths

    folder = paths.ensure_private(paths.state_dir() / "log")
    where = folder / f"error-{reference}.log"
    where.write_text(text)
    return str(where)
