"""Runs the files of failed tests once more, with nothing beside them: `python -m tests.once_more -m 'not long'`.

A race that only a full machine shows is listed and does not end the run; what fails again does, and so do many.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FAILED = Path(".pytest_cache/v/cache/lastfailed")
FILES_MAX = 5


def main(*options: str) -> int:
    """Run them, and return pytest's exit code; 1 if there are none, or too many to be by chance."""
    failed = sorted(json.loads(FAILED.read_text())) if FAILED.exists() else []
    files = sorted({name.partition("::")[0] for name in failed})
    if not 0 < len(files) <= FILES_MAX:
        return 1
    print("failed, and run once more by themselves:", *failed, sep="\n  ", flush=True)
    return subprocess.call([sys.executable, "-m", "pytest", "--numprocesses=0", *options, *files])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
