"""Where CodeSmith keeps files on the operator's machine.

`CODESMITH_HOME` moves the state and the sockets; `CODESMITH_NODES` names another registry file.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from codesmith.errors import BadRegistry, CodeSmithError

# A socket path has 107 bytes at most, beside a NUL. "/", 16 digits, ".sock" and a temporary suffix need up to 40.
SOCKET_DIR_MAX = 107 - 1 - 40
ANOTHER_HOME = "name another one: export CODESMITH_HOME=DIR"


def variable(name: str) -> str:
    """Return a CODESMITH_ environment variable, "" if it is not set; CodeSmithError if it is set and empty."""
    value = os.environ.get(name)
    if value is not None and not value.strip():
        raise CodeSmithError(f"the environment variable {name} is set and empty", hint=f"unset {name}")
    return value or ""


def state_dir() -> Path:
    """Return the state directory (known node ids, caches, logs), creating it with mode 0700."""
    return ensure_private(state_place())


def state_place() -> Path:
    """Return the path of the state directory, without creating it."""
    home = variable("CODESMITH_HOME")
    if home:
        return given(home)
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    # XDG calls a relative path invalid; besides, the forwarder has another working directory.
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "codesmith"


def runtime_dir() -> Path:
    """Return the directory of the local sockets, creating it: mode 0700, and short enough for a socket path."""
    if variable("CODESMITH_HOME"):
        state_dir()
    return ensure_private(runtime_place())


def runtime_place() -> Path:
    """Return the path of the directory of the local sockets, without creating it."""
    if variable("CODESMITH_HOME"):
        folder = state_place() / "run"
        if len(os.fsencode(folder)) <= SOCKET_DIR_MAX:
            return folder
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
        return Path(f"/tmp/codesmith-{os.getuid()}-{digest}")
    base = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if len(os.fsencode(base)) + len("/codesmith") <= SOCKET_DIR_MAX and _is_ours(base):
        return base / "codesmith"
    return Path(f"/tmp/codesmith-{os.getuid()}")


def _is_ours(base: Path) -> bool:
    """Tell whether a runtime directory exists and is the user's own: after `su`, XDG_RUNTIME_DIR may be another's."""
    try:
        return base.is_absolute() and base.stat().st_uid == os.getuid()
    except OSError:
        return False


def ensure_private(path: Path) -> Path:
    """Create `path` as a directory with mode 0700, or set that mode; refuse a link and another user's directory."""
    with writing(path):
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            pass
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise CodeSmithError(f"{path} is not a directory of yours", hint=ANOTHER_HOME)
        if stat.S_IMODE(status.st_mode) != 0o700:
            path.chmod(0o700)
    return path


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError from writing `path`, below the state directory, into a CodeSmithError with a next step."""
    try:
        yield
    except OSError as error:
        existing = next(folder for folder in path.parents if os.path.isdir(folder))  # noqa: PTH112 (is_dir may raise)
        hint = f"df -h {shlex.quote(str(existing))}  # full or read-only? else {ANOTHER_HOME}"
        raise CodeSmithError(f"cannot write {path}: {error.strerror}", hint=hint) from error


def given(word: str) -> Path:
    """Return an absolute path for what a person typed, `~` expanded."""
    try:
        return expanded(word).absolute()
    except OSError as error:
        raise CodeSmithError(f"the current folder cannot be used: {error.strerror}", hint="cd") from error


def expanded(word: str) -> Path:
    """Return the path with `~` expanded; unchanged if `~NAME` names no user."""
    try:
        return Path(word).expanduser()
    except RuntimeError:
        return Path(word)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder above it may not be read
        return False


def checkout() -> Path | None:
    """Return the top of the source checkout this package runs from; None for an installed wheel."""
    top = Path(__file__).resolve().parent.parent
    return top if (top / "agent" / "openrpc.json").is_file() else None


def nodes_file(named: str = "") -> Path:
    """Return the registry file: `named`, else CODESMITH_NODES, else nodes.yaml here or above, else the checkout's."""
    chosen = named or variable("CODESMITH_NODES")
    if chosen:
        return given(chosen)
    here = given(".")
    for folder in (here, *here.parents):
        file = folder / "nodes.yaml"
        if _is_file(file):
            if file.stat().st_uid not in (0, os.getuid()):
                # The file decides hosts, logins and host keys, and anyone can put one into /tmp.
                raise BadRegistry(
                    f"{file} belongs to another user", hint=f"if you trust it: export CODESMITH_NODES={file}"
                )
            return file
    top = checkout()
    if top is not None:
        return top / "nodes.yaml"
    raise BadRegistry(
        f"no nodes.yaml in {here} or above it",
        hint="create one (`inv node.add NAME --host HOST --file nodes.yaml`) or set CODESMITH_NODES",
    )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other writers of a folder out, by a lock on the folder itself: no file of it is left."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
