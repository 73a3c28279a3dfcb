"""Runs git as a workspace's login, in a fork of its supervisor: one request, one answer.

The front end does not trust the answer: the login that this runs as may change it. No command line or environment holds
a secret: git and ssh read secrets from memory without a name in any file system.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
from typing import Any, Dict, Optional

from agent.git import clone, errors, exchange, locks, own_directory, way_out
from agent.git.command import DiskShort, GitFailed, git
from agent.git.grammar import temporary_name
from agent.git.repository import read, sync, write_mark
from agent.shared import os_errors
from agent.shared.paths import JOB_PATH

QUOTA = os.strerror(errno.EDQUOT)
NO_MEMORY = ("Out of memory", "Cannot allocate memory")
EXCHANGES = {"settle": exchange.settle, "tidy": exchange.tidy}
FULL = (*os_errors.NO_ROOM_TEXTS, "unable to write file")


def run(request: Dict[str, Any], descriptor: Optional[int]) -> None:
    """Carry out a request and print the answer; `descriptor` is a connection to a forwarded ssh agent, if any."""
    forwarded = None if descriptor is None else socket.socket(fileno=descriptor)
    if forwarded is not None:
        forwarded.setblocking(True)  # the front end set a timeout on the connection, which this descriptor shares
    print(json.dumps(answer(request, forwarded)), flush=True)


def answer(request: Dict[str, Any], forwarded: Optional[socket.socket] = None) -> Dict[str, Any]:
    """Return the answer to a request: what was done, or {problem} (busy, exists, failed, full, gone, quota ...)."""
    missing = [program for program in request["programs"] if shutil.which(program, path=JOB_PATH) is None]
    if missing:
        return {"problem": "missing", "program": missing[0]}
    try:
        if request["action"] == "read":
            return {"repos": {name: read(os.path.join("code", name)) for name in request["names"]}}
        if request["action"] == "transfer":
            return exchange.transfer(request, forwarded)
        if request["action"] in EXCHANGES:
            return EXCHANGES[request["action"]](request)
        return create(request, forwarded)
    except locks.Busy:
        return {"problem": "busy"}
    except own_directory.NoRepository:
        return {"problem": "gone"}
    except way_out.Refused as refusal:
        return {"problem": "refused", "text": str(refusal)}
    except GitFailed as failure:
        # The disk filled up before free space was checked again, or a quota is used up.
        if any(text in failure.stderr for text in FULL):
            return {"problem": "quota" if QUOTA in failure.stderr else "full"}
        if any(text in failure.stderr for text in NO_MEMORY):
            return {"problem": "memory"}
        secrets = errors.proxy_secrets(os.environ)
        stderr = errors.redact(failure.stderr, request.get("credential", {}), secrets)
        details = {"command": failure.command, "exit_code": failure.exit_code, "stderr": stderr}
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
