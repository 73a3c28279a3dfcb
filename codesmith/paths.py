"""Where CodeSmith keeps things on the operator's machine.

`CODESMITH_HOME` moves all state (and the sockets) elsewhere; `CODESMITH_NODES` names another registry file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path

from codesmith.errors import BadRegistry, CodeSmithError

# sockaddr_un holds 107 bytes and a final NUL; a socket's own name takes "/", 16 digits, ".sock"; a temporary one more.
SOCKET_DIR_MAX = 107 - 1 - 40


def state_dir() -> Path:
    """Return the state directory (known node ids, caches, logs), made 0700 if it is missing."""
    return ensure_private(state_place())


def state_place() -> Path:
    """Return where the state directory is, or will be."""
    named = os.environ.get("CODESMITH_HOME")
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return given(named) if named else base / "codesmith"


def runtime_dir() -> Path:
    """Return the directory of the local sockets: 0700, ours, and short enough for a socket path."""
    if os.environ.get("CODESMITH_HOME"):
        state_dir()
    return ensure_private(runtime_place())


def runtime_place() -> Path:
    """Return where the directory of the local sockets is, or will be."""
    if os.environ.get("CODESMITH_HOME"):
        wanted = state_place() / "run"
        if len(os.fsencode(wanted)) <= SOCKET_DIR_MAX:
            return wanted
        digest = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:12]
        return Path(f"/tmp/codesmith-{os.getuid()}-{digest}")
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and len(os.fsencode(base)) + len("/codesmith") <= SOCKET_DIR_MAX:
        return Path(base) / "codesmith"
    return Path(f"/tmp/codesmith-{os.getuid()}")


def ensure_private(path: Path) -> Path:
    """Make `path` a directory of ours with mode 0700; refuse one that another user owns or a link."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = path.lstat()
    except OSError as error:
        problem = f"cannot make the directory {path}: {error.strerror}"
        raise CodeSmithError(problem, hint="name another one: export CODESMITH_HOME=DIR") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise CodeSmithError(f"{path} is not a directory of yours", hint="name another one: export CODESMITH_HOME=DIR")
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)
    return path


def given(word: str) -> Path:
    """Return the absolute path that a person means, `~` expanded."""
    try:
        return expanded(word).absolute()
    except OSError as error:
        raise CodeSmithError(f"the current folder cannot be used: {error.strerror}", hint="cd") from error


def expanded(word: str) -> Path:
    """Return the path with `~` expanded; as it is where that names a user who is not there."""
    try:
        return Path(word).expanduser()
    except RuntimeError:
        return Path(word)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder above that nobody lets us look into
        return False


def checkout() -> Path | None:
    """Return the top of the source checkout this package runs from; None for an installed wheel."""
    top = Path(__file__).resolve().parent.parent
    return top if (top / "agent" / "openrpc.json").is_file() else None


def nodes_file(named: str = "") -> Path:
    """Return the registry file: `named`, else CODESMITH_NODES, else nodes.yaml here or above, else the checkout's."""
    chosen = named or os.environ.get("CODESMITH_NODES", "")
    if chosen:
        return given(chosen)
    here = given(".")
    for folder in (here, *here.parents):
        found = folder / "nodes.yaml"
        if _is_file(found):
            if found.stat().st_uid not in (0, os.getuid()):
                # It decides hosts, logins and, beside it, host keys: in /tmp anyone could put one.
                raise BadRegistry(
                    f"{found} belongs to another user", hint=f"export CODESMITH_NODES={found}, if you trust it"
                )
            return found
    top = checkout()
    if top is not None:
        return top / "nodes.yaml"
    raise BadRegistry(
        f"no nodes.yaml in {here} or above it",
        hint="write one (`inv node.add NAME --host HOST --file nodes.yaml`) or set CODESMITH_NODES",
    )
