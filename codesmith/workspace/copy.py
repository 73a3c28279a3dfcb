"""workspace.copy: files and directories into a workspace and out of it, by rsync or else by SFTP.

What goes in is written by the workspace's login, inside. rsync's bytes go by a stream of a command (`rsync_shell.py`),
those of SFTP by one ssh connection.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from codesmith.cli import output
from codesmith.errors import Cancelled, CodeSmithError
from codesmith.workspace import copy_place, copy_rsync, copy_sftp, copy_top, rsync_shell
from codesmith.workspace.copy_place import Place
from codesmith.workspace.copy_progress import CopyProgress
from codesmith.workspace.copy_result import PARTIAL, Copied, sftp_failure
from codesmith.workspace.sftp import Sftp
from codesmith.workspace.shared_ssh import SharedSsh

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node

RSYNC, SFTP = "rsync", "sftp"
ERROR_LINES_MAX = 1000
END_S = 10.0
LOOK = "command -v rsync >/dev/null"


def copy(node: Node, source: str, destination: str, *, delete: bool = False) -> dict[str, Any]:
    """Copy between this machine and a workspace of a node; return what was copied and how.

    Raises BadArgument, UnknownName (no such workspace or path), Unreachable, Cancelled (Ctrl-C) or CodeSmithError. What
    was copied by then stays, each file whole; the same copy again goes on from there.
    """
    pair = copy_place.parse_pair(source, destination)
    workspace = pair[0].workspace or pair[1].workspace
    begun, has_begun = time.monotonic(), False
    try:
        by = RSYNC if has_rsync(node, workspace) and shutil.which("rsync") else SFTP
        has_begun = True
        copied = (_by_rsync if by == RSYNC else _by_sftp)(node, *pair, delete)
    except KeyboardInterrupt:
        if not has_begun:
            raise Cancelled("cancelled: nothing was copied") from None
        problem = (
            f"cancelled: files that were copied by then are whole at {destination}; one begun may be there in part"
        )
        raise Cancelled(problem, hint=f"the same again goes on from there; the part is {PARTIAL}") from None
    row = {"source": source, "destination": destination, "by": by, "files": copied.files, "bytes": copied.bytes}
    return {**row, "deleted": copied.deleted, "seconds": round(time.monotonic() - begun, 2)}


def has_rsync(node: Node, workspace: str) -> bool:
    """Return whether there is rsync inside; raise why there is no workspace. Opens the endpoint."""
    from codesmith.sdk.client import Client

    with Client(node) as client:
        client.workspace.get(name=workspace)
        return client.workspace.exec(name=workspace, argv=["sh", "-c", LOOK]).exit_code == 0


def _by_rsync(node: Node, source: Place, destination: Place, delete: bool) -> Copied:
    workspace = source.workspace or destination.workspace
    names = None
    if copy_top.must_look(source, destination, delete=delete):
        with SharedSsh(node, workspace) as shared, Sftp([*shared.ssh, "-s", shared.alias, "sftp"]) as sftp:
            names = copy_top.look(sftp, source, destination, delete=delete)
    with CopyProgress() as progress, _Lifeline() as lifeline:
        places = rsync_shell.command(node, workspace, lifeline.descriptor), workspace, source, destination
        argv = copy_rsync.command(*places, delete=delete, watched=progress.is_shown, named=names is not None)
        given = lifeline.descriptor, progress, source, destination
        copied = _run(argv, copy_rsync.names(names or []), *given)
        if names is None or not delete:
            return copied
        deleted = _run(copy_rsync.deletion(*places), b"", *given).deleted
        return replace(copied, deleted=copied.deleted + deleted)


class _Lifeline:
    """A pipe that ends when this process does, however it ends: what rsync runs then ends too."""

    def __enter__(self) -> _Lifeline:
        self.descriptor, self._ours = os.pipe()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._ours)
        os.close(self.descriptor)


def _run(
    argv: list[str], given: bytes, lifeline: int, progress: CopyProgress, source: Place, destination: Place
) -> Copied:
    """Run rsync with the bytes `given` as its standard input; return what it did."""
    with tempfile.TemporaryFile() as file:
        file.write(given)
        file.seek(0)
        process = subprocess.Popen(
            argv,
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            start_new_session=True,
            pass_fds=(lifeline,),
        )
    try:
        printed, errors = _read(process, progress)
    except BaseException:
        process.send_signal(signal.SIGINT)  # so that it keeps what has arrived
        try:
            process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        raise
    output.warn([f"{name} is no file, directory or link: left out" for name in copy_rsync.skipped(printed)])
    error, beside = copy_rsync.read_end(process.returncode, errors, source, destination)
    output.warn(beside)
    if error is not None:
        raise error
    return copy_rsync.read_stats(printed)


def _read(process: subprocess.Popen[bytes], progress: CopyProgress) -> tuple[str, str]:
    """Return what rsync writes, less its progress, which is shown."""
    import threading

    errors: deque[bytes] = deque(maxlen=ERROR_LINES_MAX)
    assert process.stdout and process.stderr
    reading = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
    reading.start()
    said = b""
    while data := os.read(process.stdout.fileno(), 65536):
        *lines, said_last = (said + data).split(b"\r")
        for line in [*lines, said_last]:
            found = copy_rsync.read_progress(line)
            if found is not None:
                progress.show(*found)
        said = b"\n".join(line for line in lines if copy_rsync.read_progress(line) is None) + said_last
    process.wait()
    reading.join()
    return said.decode("utf-8", "replace"), b"".join(errors).decode("utf-8", "replace")


def _by_sftp(node: Node, source: Place, destination: Place, delete: bool) -> Copied:
    with (
        SharedSsh(node, source.workspace or destination.workspace) as shared,
        Sftp([*shared.ssh, "-s", shared.alias, "sftp"]) as sftp,
        CopyProgress() as progress,
    ):
        sides = copy_sftp.as_sides(sftp, comes_in=not source.workspace)
        left_out: list[bytes] = []
        if copy_top.must_look(source, destination, delete=delete):
            copy_top.look(sftp, source, destination, delete=delete)
            left_out = copy_top.left_out(sftp, destination) if source.is_contents else []
        try:
            if progress.is_shown:
                progress.expect(copy_sftp.count(sides[0], source.raw))
            work = copy_sftp.Copy(*sides, delete=delete, on_bytes=progress.add, left_out=left_out)
            is_into = destination.is_contents
            copied = work.run(source.raw, destination.raw, is_contents=source.is_contents, is_into=is_into)
        except CodeSmithError:
            raise
        except OSError as error:
            raise sftp_failure(error, source, destination) from error
    output.warn([f"{name} is no file, directory or link: left out" for name in work.skipped])
    return copied
