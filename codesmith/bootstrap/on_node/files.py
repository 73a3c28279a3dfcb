"""Files, directories and links, each put in place in one step and on disk before anything relies on it."""

from __future__ import annotations

import errno
import glob
import grp
import hashlib
import json
import os
import pwd
import stat
from typing import Any

from codesmith.bootstrap.on_node.commands import Failed, run

TEMPORARY = ".codesmith-tmp-"


def read_json(path: str) -> Any:
    """Return the content of a JSON file; None if it is missing or damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def read_link(path: str) -> str:
    """Return where a link leads; empty when there is none."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def sync_folder(path: str) -> None:
    """Write the entries of a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def clear_temporaries(folder: str) -> None:
    """Remove the temporary files that interrupted runs left in a folder."""
    for left in glob.glob(os.path.join(glob.escape(folder), TEMPORARY + "*")):
        os.unlink(left)


def temporary_in(folder: str) -> str:
    """Return a free temporary name in a folder, after removing old ones."""
    clear_temporaries(folder)
    return os.path.join(folder, TEMPORARY + os.urandom(6).hex())


def install_file(path: str, data: bytes, sha256: str, mode: int) -> None:
    """Put a file in place in one step: its name appears once it is complete, checked and on disk."""
    folder = os.path.dirname(path)
    temporary = temporary_in(folder)
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "r+b") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            if hashlib.sha256(file.read()).hexdigest() != sha256:
                raise Failed(f"{path}: its sha256 differs from the one that was sent")
            remove_acls(file.fileno())
            os.fchown(file.fileno(), 0, 0)
            os.fchmod(file.fileno(), mode)
        os.replace(temporary, path)
    except (Failed, OSError):
        os.unlink(temporary)
        raise
    sync_folder(folder)


def place_link(path: str, target: str) -> None:
    """Make or change a link in one step."""
    temporary = temporary_in(os.path.dirname(path))
    os.symlink(target, temporary)
    os.replace(temporary, path)
    sync_folder(os.path.dirname(path))


def remove_link(path: str) -> None:
    """Remove a link or file; nothing happens when it is gone."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    sync_folder(os.path.dirname(path))


def ensure_directory(path: str, mode: int) -> None:
    """Make a directory if it does not exist; Failed if something else has its name."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise Failed(f"{path} is not a directory") from None


def do_write(order: dict[str, Any]) -> None:
    """Write one file, in a directory that is made if it is missing, and run the command in `then`."""
    ensure_directory(os.path.dirname(order["path"]), 0o755)
    install_file(order["path"], order["text"].encode(), order["sha256"], order["mode"])
    if order.get("then"):
        run(order["then"])


def do_link(order: dict[str, Any]) -> None:
    """Make or change one link."""
    place_link(order["path"], order["target"])


def do_directory(order: dict[str, Any]) -> None:
    """Make or repair one directory, by descriptor: a link that replaced it meanwhile is not followed."""
    ensure_directory(order["path"], order["mode"])
    descriptor = os.open(order["path"], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchown(descriptor, pwd.getpwnam(order["owner"]).pw_uid, grp.getgrnam(order["group"]).gr_gid)
        remove_acls(descriptor)
        os.fchmod(descriptor, order["mode"])
    finally:
        os.close(descriptor)


def remove_acls(descriptor: int) -> None:
    """Remove access lists that a directory above hands down: the mode does not show them, and children inherit them."""
    for attribute in ("system.posix_acl_access", "system.posix_acl_default"):
        try:
            os.removexattr(descriptor, attribute)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                raise
