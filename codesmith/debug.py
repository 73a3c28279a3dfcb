"""What CODESMITH_DEBUG=ssh,rpc shows on stderr of the way to a node: names, sizes and times, and no secret."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator


def is_shown(layer: str) -> bool:
    """Tell whether somebody wants to see `ssh` or `rpc`."""
    return layer in os.environ.get("CODESMITH_DEBUG", "").split(",")


def show(layer: str, text: str, begun: float) -> None:
    """Print one line on what has been under way since `begun` (time.monotonic)."""
    if is_shown(layer):
        sys.stderr.write(f"{layer} {text} in {(time.monotonic() - begun) * 1000:.1f} ms\n")


@contextlib.contextmanager
def shown(layer: str, what: str) -> Iterator[list[str]]:
    """Print one line at the end: `what`, and what the caller adds to the list; or the kind of error it ended with."""
    begun, results = time.monotonic(), list[str]()
    try:
        yield results
    except BaseException as error:
        show(layer, f"{what} -> {type(error).__name__}", begun)
        raise
    show(layer, " -> ".join([what, *results]), begun)
