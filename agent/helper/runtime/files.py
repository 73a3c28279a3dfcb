"""The files of root's that a runtime starts with, in the directory of its socket: the front end alone may enter it."""

from __future__ import annotations

import json
import os
from typing import Any, Dict

from agent.shared.names import RUNTIMES


def read(name: str) -> Dict[str, Any]:
    """Return what is in such a file of JSON; {} when it is not there."""
    try:
        with open(f"{RUNTIMES}/{name}", encoding="utf-8") as file:
            known: Dict[str, Any] = json.load(file)
            return known
    except (OSError, ValueError):
        return {}


def write(name: str, text: str, mode: int) -> None:
    """Write such a file whole."""
    with open(f"{RUNTIMES}/{name}.new", "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    os.replace(f"{RUNTIMES}/{name}.new", f"{RUNTIMES}/{name}")


def remove(name: str) -> None:
    """Remove the files of a runtime, or of a probe."""
    for kind in ("json", "passwd", "group"):
        try:
            os.unlink(f"{RUNTIMES}/{name}.{kind}")
        except FileNotFoundError:
            pass
