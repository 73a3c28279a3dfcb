"""Opens the operator's browser on a file."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

OPENERS = ("xdg-open", "open", "sensible-browser")


def open_file(path: Path) -> bool:
    """Have the desktop's browser open a file; return False if there is no desktop or no program for it."""
    opener = next(filter(None, map(shutil.which, OPENERS)), None)
    has_desktop = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")) or opener == shutil.which("open")
    if opener is None or not has_desktop:
        return False
    # The file's path is no secret; the token in it is.
    subprocess.Popen(
        [opener, str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    return True
