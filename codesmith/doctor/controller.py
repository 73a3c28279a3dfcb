"""The checks of this machine: programs, files, sockets, the forwarder. They change nothing."""

from __future__ import annotations

import fcntl
import os
import platform
import shlex
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from codesmith import __version__, paths
from codesmith.doctor.finding import Finding, Reporter
from codesmith.errors import CodeSmithError
from codesmith.nodes.registry import Registry

# The least versions that pyproject.toml allows.
LIBRARIES = {"fabric": (3, 2), "invoke": (2, 2), "paramiko": (3, 2)}
SSH_AGENT_TIMEOUT_S = SOCKET_TIMEOUT_S = 2.0
LOG_TAIL_BYTES = 32 * 1024
ON_CONTROLLER = Reporter()


def check_controller(registry: Registry | None) -> list[Finding]:
    """Return the findings about this machine; `registry` is None if nodes.yaml could not be read."""
    # First of all: `paths.state_dir` and its kind repair the modes of these directories.
    directories = [
        _check_directory("state.directory", paths.state_place),
        _check_directory("runtime.directory", paths.runtime_place),
    ]
    found = [check_versions(), _ssh(), _ssh_agent(), *directories]
    if registry is not None:
        found.append(_known_hosts(registry.path.parent / "known_hosts"))
    if all(one.status != "fail" for one in directories):
        found += [_sockets(paths.runtime_place()), *_forwarder()]
    return found


def check_versions() -> Finding:
    """Check that the libraries are as new as CodeSmith needs them."""
    found = {"Python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}}
    versions = ", ".join(f"{name} {version}" for name, version in {"CodeSmith": __version__, **found}.items())
    old = [name for name, least in LIBRARIES.items() if _numbers(found[name]) < least]
    if old:
        wanted = ", ".join(f"{name} {'.'.join(map(str, LIBRARIES[name]))}" for name in old)
        upgrade = f"pip install --upgrade {' '.join(old)}"
        return ON_CONTROLLER.fail("controller.versions", f"{versions}; at least {wanted} is needed", upgrade)
    return ON_CONTROLLER.ok("controller.versions", versions)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _ssh() -> Finding:
    found = shutil.which("ssh")
    if found:
        return ON_CONTROLLER.ok("controller.ssh", found)
    detail = "no ssh in PATH: a simpler parser reads ~/.ssh/config (no Match, no canonical names)"
    return ON_CONTROLLER.warn("controller.ssh", detail, "apt-get install openssh-client")


def _ssh_agent() -> Finding:
    path = os.environ.get("SSH_AUTH_SOCK", "")
    if not path:
        return ON_CONTROLLER.ok("controller.ssh-agent", "SSH_AUTH_SOCK is not set; keys come from files")
    problem = _connect_error(path, SSH_AGENT_TIMEOUT_S)
    if problem:
        detail = f"no ssh agent answers at {path} ({problem}): its keys are not tried"
        return ON_CONTROLLER.warn("controller.ssh-agent", detail, 'eval "$(ssh-agent)" && ssh-add')
    return ON_CONTROLLER.ok("controller.ssh-agent", f"answers at {path}")


def _check_directory(code: str, place: Callable[[], Path]) -> Finding:
    path = place()
    try:
        found = path.lstat()
    except FileNotFoundError:
        return ON_CONTROLLER.ok(code, f"{path} is not there yet; it is made on first use")
    except OSError as error:
        return ON_CONTROLLER.fail(code, f"{path}: {error.strerror}", "export CODESMITH_HOME=DIR")
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return ON_CONTROLLER.fail(code, f"{path} is not a directory of yours", "export CODESMITH_HOME=DIR")
    mode = stat.S_IMODE(found.st_mode)
    if mode != 0o700:
        detail = f"{path} has mode {mode:04o}, so others can use it; it should be 0700"
        return ON_CONTROLLER.warn(code, detail, f"chmod 700 {shlex.quote(str(path))}")
    return ON_CONTROLLER.ok(code, str(path))


def _known_hosts(path: Path) -> Finding:
    try:
        found = path.stat()
    except FileNotFoundError:
        return ON_CONTROLLER.ok("registry.known-hosts", f"{path} is not there yet; node.trust makes it")
    except OSError as error:
        return ON_CONTROLLER.fail("registry.known-hosts", f"{path}: {error.strerror}", f"ls -lL {_quoted(path)}")
    if found.st_uid not in (0, os.getuid()):
        detail = f"{path} belongs to another user (uid {found.st_uid}), who decides which nodes are true"
        return ON_CONTROLLER.fail("registry.known-hosts", detail, f"ls -lL {_quoted(path)}")
    if found.st_mode & 0o022:
        detail = f"{path} has mode {stat.S_IMODE(found.st_mode):04o}: others can pin host keys in it"
        return ON_CONTROLLER.fail("registry.known-hosts", detail, f"chmod go-w {_quoted(path)}")
    if not os.access(path, os.R_OK):
        return ON_CONTROLLER.fail("registry.known-hosts", f"{path} cannot be read", f"chmod u+r {_quoted(path)}")
    return ON_CONTROLLER.ok("registry.known-hosts", str(path))


def _sockets(folder: Path) -> Finding:
    found = sorted(folder.glob("*.sock")) if folder.is_dir() else []
    foreign = [path for path in found if not stat.S_ISSOCK(path.lstat().st_mode)]
    if foreign:
        detail = f"not a socket: {_as_words(foreign)}"
        return ON_CONTROLLER.fail("runtime.sockets", detail, f"look at it, then: rm {_as_words(foreign)}")
    stale = [path for path in found if _connect_error(os.fspath(path), SOCKET_TIMEOUT_S)]
    if stale:
        detail = f"no process answers at {_as_words(stale)} (node.connect replaces it)"
        return ON_CONTROLLER.warn("runtime.sockets", detail, f"rm {_as_words(stale)}")
    return ON_CONTROLLER.ok("runtime.sockets", f"{len(found)} in {folder}")


def _as_words(found: list[Path]) -> str:
    return " ".join(map(_quoted, found))


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _connect_error(path: str, timeout_s: float) -> str:
    """Return why a Unix socket refuses connections; "" if it accepts them."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(timeout_s)
        try:
            client.connect(path)
        except (BlockingIOError, TimeoutError):
            return ""  # its queue is full: a process is there, and busy
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _forwarder() -> Iterator[Finding]:
    from codesmith.tunnel import control

    try:  # control.running() would make the directory
        running = control.running() if paths.runtime_place().is_dir() else None
    except CodeSmithError as error:
        yield ON_CONTROLLER.error("forwarder.process", error, "inv node.status")
        return
    if running is None:
        yield _no_forwarder()
    else:
        yield ON_CONTROLLER.ok("forwarder.process", f"pid {running['pid']}")
        yield check_forwarder_version(str(running.get("version", "")))
    yield _forwarder_log(paths.state_place() / "forwarder.log")


def _no_forwarder() -> Finding:
    """Tell a forwarder that holds its lock and does not answer from none."""
    lock = paths.runtime_place() / "forwarder.lock"
    try:
        with open(lock, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = lock.read_text().strip()
        detail = f"pid {pid} holds {lock} and does not answer: no other can start"
        return ON_CONTROLLER.fail("forwarder.process", detail, f"kill {pid}")
    except OSError:
        pass  # none has ever run here
    return ON_CONTROLLER.ok("forwarder.process", "none runs; a call starts it")


def check_forwarder_version(version: str) -> Finding:
    """Check that the forwarder that runs has the version of this CodeSmith."""
    if version == __version__:
        return ON_CONTROLLER.ok("forwarder.version", version)
    detail = f"{version or 'an older one'} runs, this is {__version__}"
    return ON_CONTROLLER.warn("forwarder.version", detail, "inv node.disconnect --all; inv node.connect --all")


def _forwarder_log(path: Path) -> Finding:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ON_CONTROLLER.ok("forwarder.log", f"no {path}")
    errors = [line for line in lines if " ERROR " in line or line.startswith("Traceback")]
    if errors:
        return ON_CONTROLLER.warn("forwarder.log", errors[-1][:200], f"tail {_quoted(path)}")
    return ON_CONTROLLER.ok("forwarder.log", lines[-1][:200] if lines else f"{path} is empty")
