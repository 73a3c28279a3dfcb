"""The lines that CODESMITH_DEBUG=ssh,rpc prints on stderr: names, sizes and times, never secrets."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator


def is_shown(layer: str) -> bool:
    """Tell whether CODESMITH_DEBUG names this layer (`ssh` or `rpc`)."""
    return layer in os.environ.get("CODESMITH_DEBUG", "").split(",")


def show(layer: str, text: str, begun: float) -> None:
    """Print one line about an action that began at `begun` (time.monotonic)."""
    if is_shown(layer):
        sys.stderr.write(f"{layer} {text} in {(time.monotonic() - begun) * 1000:.1f} ms\n")


@contextlib.contextmanager
def shown(layer: str, what: str) -> Iterator[list[str]]:
    """Print one line when the block ends: `what`, then the texts that the caller appended, or the error's class."""
    begun, results = time.monotonic(), list[str]()
    try:
        yield results
    except BaseException as error:
        show(layer, f"{what} -> {type(error).__name__}", begun)
        raise
    show(layer, " -> ".join([what, *results]), begun)
