"""The agent.pyz that is sent to nodes: packed from the checkout, or shipped in the wheel."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

from codesmith import paths
from codesmith.bootstrap import zipapp
from codesmith.errors import Unsupported

SHIPPED = Path(__file__).with_name("agent.pyz")


@dataclass(frozen=True)
class Payload:
    """One agent.pyz: its bytes, their sha256 (which names the build everywhere), and the agent's version."""

    data: bytes
    sha256: str
    version: str

    def module(self, name: str) -> str:
        """Return the source of one of its modules: some also run on nodes that have no agent yet."""
        with zipfile.ZipFile(io.BytesIO(self.data)) as archive:
            return archive.read(f"{name.replace('.', '/')}.py").decode()


def pack(agent: Path | None = None) -> Payload:
    """Return the agent of this CodeSmith: packed from `agent` or the checkout's agent/, else the one in the wheel.

    The same sources give the same bytes. It packs again only if a file's name, size or time has changed; a process
    looks at the checkout's once. Unsupported if an installed CodeSmith has no agent in it.
    """
    if agent is not None:
        return _pack(agent, paths.state_dir())
    top = paths.checkout()
    return _shipped() if top is None else _pack_own(top / "agent", paths.state_dir())


@functools.cache
def _pack_own(agent: Path, state: Path) -> Payload:
    return _pack(agent, state)


def _pack(agent: Path, state: Path) -> Payload:
    cached = paths.ensure_private(state / "pack") / f"{_fingerprint(agent)}.pyz"
    try:
        return _payload(cached.read_bytes())
    except (FileNotFoundError, zipfile.BadZipFile, KeyError, ValueError):
        return pack_into(agent, cached)


def _shipped() -> Payload:
    try:
        return _payload(SHIPPED.read_bytes())
    except FileNotFoundError as error:
        problem = f"this installation of CodeSmith brought no agent ({SHIPPED} is missing)"
        raise Unsupported(problem, hint="pip install --force-reinstall codesmith") from error


def _payload(data: bytes) -> Payload:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        version = zipapp.parse_version(archive.read("agent/__init__.py").decode())
    return Payload(data, hashlib.sha256(data).hexdigest(), version)


def pack_into(agent: Path, cached: Path) -> Payload:
    """Pack the folder `agent` into the file `cached`, in one step, and remove other packs beside it."""
    data = zipapp.build(agent)
    temporary = cached.with_name(f".{os.getpid()}.{os.urandom(4).hex()}")
    with paths.writing(cached):
        temporary.write_bytes(data)
        temporary.replace(cached)
    for other in cached.parent.glob("*.pyz"):
        if other != cached:
            other.unlink(missing_ok=True)
    return _payload(data)


def _fingerprint(agent: Path) -> str:
    """Return a hash of names, sizes and times, which change with every edit; the files are not read."""
    digest = hashlib.sha256(zipapp.MAIN + Path(zipapp.__file__).read_bytes())
    for path, name in zipapp.sources(agent):
        status = path.stat()
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}\n".encode())
    return digest.hexdigest()[:32]
