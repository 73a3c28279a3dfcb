"""Unexpected exceptions: one sentence with a reference for people, the traceback in a file."""

from __future__ import annotations

import os
import sys

from codesmith.cli.cells import escape
from codesmith.errors import CodeSmithError


class Unexpected(CodeSmithError):
    """A bug, or a node that answers in a way no node should; `__cause__` is the exception."""


def crash_report(name: str, error: Exception) -> Unexpected:
    """Return the error that reports `error`, raised by the task or node `name`.

    The traceback goes to a file in `log/` of the state directory, and with CODESMITH_DEBUG to stderr too.
    """
    import secrets
    import traceback

    reference = secrets.token_hex(4)
    text = "".join(traceback.format_exception(error))
    if os.environ.get("CODESMITH_DEBUG"):
        sys.stderr.write(text)
    problem = f"{name} failed unexpectedly: {type(error).__name__}: {error} (reference {reference})"
    try:
        hint = "cat " + _log(reference, f"{name}\n{text}")
    except (OSError, CodeSmithError):
        hint = "run it again with CODESMITH_DEBUG=1 to see the traceback"
    report = Unexpected(escape(problem), hint=hint)
    report.__cause__ = error
    return report


def _log(reference: str, text: str) -> str:
    """Write the log and return its path."""
    from codesmith import paths

    folder = paths.ensure_private(paths.state_dir() / "log")
    path = folder / f"error-{reference}.log"
    path.write_text(text)
    return str(path)
