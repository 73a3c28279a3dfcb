"""Directories within directories, deeper than a path may be long."""

from __future__ import annotations

import os
from pathlib import Path


def make_deep(place: Path, name: str, depth: int) -> None:
    """Make so many directories of this name, each within the one before."""
    directory = os.open(place, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=directory)
        inner = os.open(name, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = inner
    os.close(directory)
