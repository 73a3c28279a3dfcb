"""`agent.pyz git`: runs git as a workspace's login inside a job; one request on standard input, one answer.

The helper does not trust the answer: the login that this runs as may change it. The whole request comes on standard
input, so that no command line or environment holds a secret. git and ssh read secrets from memory without a name in
any file system.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from typing import Any, Dict, Optional, Tuple

from agent.git import clone
from agent.git.command import DiskShort, GitFailed, git
from agent.git.repository import read, sync, temporary_name, write_mark
from agent.shared import os_errors
from agent.shared.paths import JOB_PATH

QUOTA = os.strerror(errno.EDQUOT)
FULL = (*os_errors.NO_ROOM_TEXTS, "unable to write file")


def main() -> int:
    """Carry out the request on standard input, print the answer, and return 0."""
    request, forwarded = receive()
    print(json.dumps(answer(request, forwarded)))
    return 0


def receive() -> Tuple[Dict[str, Any], Optional[socket.socket]]:
    """Return the request, and the connection to a forwarded ssh agent, if one was passed with it."""
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        return json.loads(sys.stdin.buffer.read()), None
    with socket.socket(fileno=os.dup(0)) as source:
        _, descriptors, _, _ = socket.recv_fds(source, 1, 1, socket.MSG_CMSG_CLOEXEC)
        request = json.loads(b"".join(iter(lambda: source.recv(65536), b"")))
    forwarded = socket.socket(fileno=descriptors[0])
    forwarded.setblocking(True)  # the front end set a timeout on the connection, which this descriptor shares
    return request, forwarded


def answer(request: Dict[str, Any], forwarded: Optional[socket.socket] = None) -> Dict[str, Any]:
    """Return the answer to a request: {repo} or {repos}, or {problem} (exists, failed, full, missing, quota)."""
    missing = [program for program in request["programs"] if shutil.which(program, path=JOB_PATH) is None]
    if missing:
        return {"problem": "missing", "program": missing[0]}
    try:
        if request["action"] == "read":
            return {"repos": {name: read(os.path.join("code", name)) for name in request["names"]}}
        return create(request, forwarded)
    except GitFailed as failure:
        # The disk filled up before free space was checked again, or a quota is used up.
        if any(text in failure.stderr for text in FULL):
            return {"problem": "quota" if QUOTA in failure.stderr else "full"}
        details = {"command": failure.command, "exit_code": failure.exit_code, "stderr": failure.stderr}
        return {"problem": "failed", **details}
    except DiskShort:
        return {"problem": "full"}
    except OSError as error:
        if error.errno in os_errors.NO_ROOM:
            return {"problem": "quota" if error.errno == errno.EDQUOT else "full"}
        return {"problem": "failed", "command": "git", "exit_code": error.errno or 1, "stderr": str(error.strerror)}


def create(request: Dict[str, Any], forwarded: Optional[socket.socket]) -> Dict[str, Any]:
    """Create a repository under a temporary name, and rename it when it is whole and on disk."""
    token, final = request["token"], os.path.join("code", request["name"])
    if os.path.lexists(final):
        return {"problem": "exists"}
    os.makedirs("code", mode=0o700, exist_ok=True)
    temporary = os.path.join("code", temporary_name(token))
    try:
        if request["action"] == "init":
            # symbolic-ref instead of --initial-branch: the oldest supported git is 2.30.
            git("init", "--quiet", "--template=", "--", temporary)
            git("-C", temporary, "symbolic-ref", "HEAD", f"refs/heads/{request['branch']}")
        else:
            clone.clone(request, temporary, forwarded)
        write_mark(temporary, token)
        # On disk before it gets its name: a power cut leaves the whole repository or none.
        sync(temporary)
        if os.path.lexists(final):
            return {"problem": "exists"}
        os.rename(temporary, final)
        sync("code")
    finally:
        subprocess.run(["rm", "-rf", "--", temporary], stdin=subprocess.DEVNULL, check=False)
    return {"repo": read(final)}
