"""Installs the Debian packages that the lab needs: `python -m codesmith.lab.setup [PROGRAM ...]`.

Each PROGRAM is one more that is needed, from the Debian package of the same name, or of another: PROGRAM=PACKAGE.
Nothing happens if all are installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from codesmith.errors import CodeSmithError, Unsupported
from codesmith.lab import requirements
from codesmith.lab.programs import PATH, environment


def main(programs: list[str]) -> int:
    """Install what is missing and return the exit code; errors are printed, not raised."""
    try:
        install(requirements.missing_packages() + [package for package in map(_missing, programs) if package])
        requirements.check()
    except CodeSmithError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _missing(word: str) -> str:
    """Return the package of a PROGRAM or PROGRAM=PACKAGE that is not installed, else ""."""
    program, _, package = word.partition("=")
    return "" if shutil.which(program, path=PATH) else package or program


def install(packages: list[str]) -> None:
    """Install Debian packages with apt-get; Unsupported without root or apt-get, CodeSmithError if it fails."""
    if not packages:
        return
    by_hand = f"sudo apt-get update && sudo apt-get install --yes {' '.join(packages)}"
    if os.geteuid() != 0:
        raise Unsupported(f"the lab needs packages that only root can install: {' '.join(packages)}", hint=by_hand)
    if shutil.which("apt-get", path=PATH) is None:
        raise Unsupported(f"this machine has no apt-get; the lab needs what Debian calls {' '.join(packages)}")
    sys.stderr.write(f"lab: installing {' '.join(packages)}\n")
    quiet = ("apt-get", "--quiet=2", "--option=Dpkg::Use-Pty=0")
    for step in (("update",), ("install", "--yes", "--no-install-recommends", *packages)):
        # apt's output is progress, so it goes to stderr.
        done = subprocess.run(
            (*quiet, *step), stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False,
            env={**environment(), "DEBIAN_FRONTEND": "noninteractive"},
        )  # fmt: skip
        if done.returncode:
            raise CodeSmithError(f"`apt-get {' '.join(step)}` ended with {done.returncode}", hint=by_hand)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
