"""Carry out a plan on a node: one order after the other, under a lock, each result reported as a line of JSON.

Runs on the node as root: `python3 -I -S -c PROGRAM`. Standard input: a line of JSON {"orders", "expect", ...}, then the
agent, compressed. Every order may be repeated: a prepare that was cut off anywhere is simply run again.
"""

from __future__ import annotations

import fcntl
import glob
import grp
import hashlib
import json
import os
import pwd
import signal
import stat
import subprocess
import sys
import time
import zlib
from typing import Any, Callable

LOCK = "/run/codesmith-prepare.lock"
TEMPORARY = ".codesmith-tmp-"
COMMAND_TIMEOUT_S = 180
PACKAGE_TIMEOUT_S = 900
STDERR_MAX = 2000
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
    "NEEDRESTART_SUSPEND": "1",
}
APT = ("apt-get", "--quiet", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120")
INSTALL = {
    "apt-get": (*APT, "install", "--"),
    "dnf": ("dnf", "--assumeyes", "--setopt=install_weak_deps=False", "install", "--"),
    "zypper": ("zypper", "--non-interactive", "install", "--no-recommends", "--"),
    "pacman": ("pacman", "--sync", "--noconfirm", "--needed", "--"),
}
REFRESH = {
    "apt-get": ("apt-get", "--quiet", "update"),
    "dnf": ("dnf", "--assumeyes", "makecache"),
    "zypper": ("zypper", "--non-interactive", "refresh"),
    "pacman": ("pacman", "--sync", "--refresh"),
}


class Failed(Exception):
    """An order that could not be carried out: the command, and what it said."""

    def __init__(self, message: str, command: str = "", stderr: str = "") -> None:
        super().__init__(message)
        self.command, self.stderr = command, stderr


def report(**line: Any) -> None:
    """Tell the controller. A controller that has gone away stops nothing."""
    try:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(argv: list[str], timeout_s: float = COMMAND_TIMEOUT_S, allowed: tuple[int, ...] = (0,)) -> str:
    """Run one command to its end: clean environment, no input, a time limit; Failed unless its status is allowed."""
    shown = " ".join(argv)
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=ENVIRONMENT,
            timeout=timeout_s,
            check=False,
        )
    except OSError as error:
        raise Failed(str(error), shown) from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"did not end within {timeout_s:.0f} s", shown) from error
    said = (done.stderr or done.stdout).decode(errors="replace").strip()[-STDERR_MAX:]
    if done.returncode not in allowed:
        raise Failed(f"ended with status {done.returncode}", shown, said)
    return said


def lock(timeout_s: int) -> None:
    """Hold the node's lock until this program ends: one prepare at a time."""
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def late(_number: int, _frame: Any) -> None:
        raise Failed(f"another prepare has been at work for more than {timeout_s} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(timeout_s)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    signal.alarm(0)


def read_json(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def install_file(path: str, data: bytes, sha256: str, mode: int) -> None:
    """Put a file in place in one step: complete, checked and on disk before its name appears."""
    folder = os.path.dirname(path)
    for left in glob.glob(os.path.join(glob.escape(folder), TEMPORARY + "*")):
        os.unlink(left)
    temporary = os.path.join(folder, TEMPORARY + os.urandom(6).hex())
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        if hashlib.sha256(file.read()).hexdigest() != sha256:
            os.unlink(temporary)
            raise Failed(f"{path}: the sha256 is not the one that was sent")
        os.fchown(file.fileno(), 0, 0)
        os.fchmod(file.fileno(), mode)
    os.replace(temporary, path)
    sync_folder(folder)


def do_write(order: dict[str, Any]) -> None:
    ensure_directory(os.path.dirname(order["path"]), 0o755)
    install_file(order["path"], order["text"].encode(), order["sha256"], order["mode"])


def do_release(order: dict[str, Any], data: bytes) -> None:
    ensure_directory(order["folder"], 0o755)
    os.chown(order["folder"], 0, 0)
    os.chmod(order["folder"], 0o755)  # noqa: S103 (code that everyone may read)
    install_file(order["path"], data, order["sha256"], order["mode"])
    sync_folder(os.path.dirname(order["folder"]))


def ensure_directory(path: str, mode: int) -> None:
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise Failed(f"{path} is not a directory") from None


def do_directory(order: dict[str, Any]) -> None:
    """Make or mend one directory, by descriptor: a link put there meanwhile is not followed."""
    ensure_directory(order["path"], order["mode"])
    descriptor = os.open(order["path"], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchown(descriptor, pwd.getpwnam(order["owner"]).pw_uid, grp.getgrnam(order["group"]).gr_gid)
        os.fchmod(descriptor, order["mode"])
    finally:
        os.close(descriptor)


def do_link(order: dict[str, Any]) -> None:
    path = order["path"]
    temporary = os.path.join(os.path.dirname(path), TEMPORARY + os.urandom(6).hex())
    os.symlink(order["target"], temporary)
    os.replace(temporary, path)
    sync_folder(os.path.dirname(path))


def do_run(order: dict[str, Any]) -> None:
    if not is_there(order.get("unless", {})):
        if order.get("stop"):
            run(["systemctl", "stop", "--", *order["stop"]])
        run(order["argv"])


def is_there(accounts: dict[str, str]) -> bool:
    try:
        for kind, name in accounts.items():
            (grp.getgrnam if kind == "group" else pwd.getpwnam)(name)
    except KeyError:
        return False
    return bool(accounts)


def do_package(order: dict[str, Any]) -> None:
    """Install from what the package manager knows; refresh that only if it is not enough."""
    install = [*INSTALL[order["manager"]], *order["names"]]
    try:
        run(install, PACKAGE_TIMEOUT_S)
    except Failed as first:
        try:
            run(list(REFRESH[order["manager"]]), PACKAGE_TIMEOUT_S)
        except Failed:
            raise first from None
        run(install, PACKAGE_TIMEOUT_S)


def do_units(order: dict[str, Any]) -> None:
    if order["stop"]:
        run(["systemctl", "stop", "--", *order["stop"]])
    if order["start"]:
        run(["systemctl", "reset-failed", "--", *order["start"]], allowed=(0, 1))
    for unit in order["start"]:
        run(["systemctl", "start", "--", unit])


DO: dict[str, Callable[[dict[str, Any]], None]] = {
    "directory": do_directory,
    "link": do_link,
    "package": do_package,
    "run": do_run,
    "units": do_units,
    "write": do_write,
}


def carry_out(number: int, order: dict[str, Any], data: bytes) -> bool:
    """Do one order and report how it went."""
    begun = time.monotonic()
    failure: Exception | None = None
    try:
        if order["do"] == "release":
            do_release(order, data)
        else:
            DO[order["do"]](order)
    except (Failed, OSError, KeyError) as error:
        failure = error
    line: dict[str, Any] = {"step": number, "ok": failure is None, "seconds": round(time.monotonic() - begun, 3)}
    if failure is not None:
        line.update(
            message=str(failure), command=getattr(failure, "command", ""), stderr=getattr(failure, "stderr", "")
        )
    report(**line)
    return failure is None


def main() -> int:
    """Carry out the orders on standard input; stop at the first that fails."""
    os.umask(0o022)
    job = json.loads(sys.stdin.buffer.readline())
    data = sys.stdin.buffer.read()
    data = zlib.decompress(data) if data else b""
    try:
        lock(job["lock_timeout_s"])
    except (Failed, OSError) as error:
        report(refused=str(error))
        return 1
    if {path: read_json(path) for path in job["expect"]} != job["expect"]:
        report(stale=True)
        return 0
    for number, order in enumerate(job["orders"]):
        if not carry_out(number, order, data):
            return 1
    report(done=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
