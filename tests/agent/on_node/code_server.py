"""code-server of npm, the far side of VS Code: a fixed version with a Node of its own, built on this machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.npm_programs import INSTALL, NODE, cached

# The last one whose packages are all in the registry, and that is no larger than 300 MB.
PACKAGES = (f"{NODE}@20.20.2", "code-server@4.100.3", "node-gyp@11.5.0")
SERVER, EDITOR = "node_modules/code-server", "node_modules/code-server/lib/vscode"
PASSWORDS = "node_modules/argon2"
# What is built as it is; the rest of what could be is not needed by the server.
BUILT = tuple(f"{EDITOR}/node_modules/{name}" for name in ("@vscode/spdlog", "native-watchdog", "node-pty"))
HEADERS = f"node_modules/{NODE}"
# What was made on the way, and what made it, is not carried to a node.
LEFT_OUT = (
    "obj.target",
    ".deps",
    "node_modules/node-gyp",
    f"node_modules/{NODE}/include",
    f"node_modules/{NODE}/share",
)
BUILD_S = 500


def install() -> Path:
    """Return the folder it is in, in the cache of the lab. The first time it is built, which takes two minutes."""
    return cached("code-server", PACKAGES, build)


def build(folder: Path) -> None:
    """Install the packages and compile what is native, without scripts: those would fetch from elsewhere."""
    node = folder / HEADERS / "bin" / "node"
    environment = {**os.environ, "PATH": f"{node.parent}:{os.environ['PATH']}"}

    def run(*words: str | Path, within: Path) -> None:
        done = subprocess.run(words, cwd=within, env=environment, capture_output=True, text=True, timeout=BUILD_S)
        assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-2000:])

    run(*INSTALL, folder, *PACKAGES, within=folder)
    for one in (folder / EDITOR, folder / EDITOR / "extensions"):
        run(*INSTALL[:-1], "--omit=dev", within=one)
    for name in BUILT:
        run(node, folder / "node_modules/node-gyp/bin/node-gyp.js", "rebuild", f"--nodedir={folder / HEADERS}",
            within=folder / name)  # fmt: skip
    run(node, folder / "node_modules/.bin/node-pre-gyp", "install", "--build-from-source",
        f"--nodedir={folder / HEADERS}", within=folder / PASSWORDS)  # fmt: skip


def archive(folder: Path) -> list[str]:
    """Return the command that writes it to its output as an archive."""
    return ["tar", "--create", f"--directory={folder}", *(f"--exclude={word}" for word in LEFT_OUT), "."]


def command(folder: str, port: int) -> str:
    """Return the command line that starts it, in a folder there, at a port of the loopback."""
    words = f"{folder}/{HEADERS}/bin/node {folder}/{SERVER}/out/node/entry.js --auth none"
    return f"{words} --bind-addr 127.0.0.1:{port} --disable-telemetry --disable-update-check --disable-workspace-trust"
