"""What runs git, as the workspace's login inside a job: `agent.pyz git`, one request on standard input, one answer.

Nothing here is trusted by the helper: the login it runs as may change what it answers. Everything it is told comes on
standard input, so that neither a command line nor an environment holds a secret; git and ssh read it from memory that
has no name in any file system.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from typing import Any, Dict, Iterator, List, Optional, Sequence

MARK = "codesmith"  # in the repository's .git: which call made it
STDERR_MAX = 2000
READ_TIMEOUT_S = 10.0
# Only https and ssh; no hooks, no submodules, no file system monitor; no helper that would keep a credential.
SETTINGS = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.askPass=", "credential.helper=",
    "submodule.recurse=false", "gc.auto=0", "maintenance.auto=false", "advice.detachedHead=false",
)  # fmt: skip
# Stale keys are never replaced, unknown hosts never trusted, nothing is asked.
SSH_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=20",
    "ForwardAgent=no",
    "UpdateHostKeys=no",
)


class GitFailed(Exception):
    """git ended with another exit code than 0."""

    def __init__(self, command: str, exit_code: int, stderr: str) -> None:
        super().__init__(command)
        self.command, self.exit_code, self.stderr = command, exit_code, stderr


def main() -> int:
    """Carry out the request on standard input."""
    request = json.loads(sys.stdin.buffer.read())
    print(json.dumps(answer(request)))
    return 0


def answer(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return {repo}, {repos} or {problem}."""
    missing = [program for program in request["programs"] if shutil.which(program) is None]
    if missing:
        return {"problem": "missing", "program": missing[0]}
    try:
        if request["action"] == "read":
            return {"repos": {name: read(os.path.join("code", name)) for name in request["names"]}}
        return make(request)
    except GitFailed as failure:
        found = {"command": failure.command, "exit_code": failure.exit_code, "stderr": failure.stderr}
        return {"problem": "failed", **found}
    except OSError as error:
        return {"problem": "failed", "command": "git", "exit_code": error.errno or 1, "stderr": str(error.strerror)}


def make(request: Dict[str, Any]) -> Dict[str, Any]:
    """Make a repository under a temporary name and rename it into place when it is whole."""
    token, final = request["token"], os.path.join("code", request["name"])
    if os.path.lexists(final):
        return {"problem": "exists"}
    os.makedirs("code", mode=0o700, exist_ok=True)
    temporary = os.path.join("code", temporary_name(token))
    try:
        if request["action"] == "init":
            # symbolic-ref and not --initial-branch: git 2.30 is the oldest that must do.
            git("init", "--quiet", "--template=", "--", temporary)
            git("-C", temporary, "symbolic-ref", "HEAD", f"refs/heads/{request['branch']}")
        else:
            clone(request, temporary)
        write_mark(temporary, token)
        # On disk before it has its name: a power cut leaves the whole repository or none.
        subprocess.run(["sync", "--file-system", temporary], stdin=subprocess.DEVNULL, check=False)
        if os.path.lexists(final):
            return {"problem": "exists"}
        os.rename(temporary, final)
        subprocess.run(["sync", "--file-system", "code"], stdin=subprocess.DEVNULL, check=False)
    finally:
        subprocess.run(["rm", "-rf", "--", temporary], stdin=subprocess.DEVNULL, check=False)
    return {"repo": read(final)}


def temporary_name(token: str) -> str:
    """Return the name inside code/ that a repository has until it is whole; no Name begins with a full stop."""
    return f".codesmith-{token}"


def clone(request: Dict[str, Any], target: str) -> None:
    """Clone into `target`; the credential is offered to the URL's own host alone."""
    credential = request["credential"]
    words = ["clone", "--quiet", "--template=", "--no-recurse-submodules", "--no-local"]
    words += [f"--branch={request['ref']}"] if request["ref"] else []
    words += [f"--depth={request['depth']}"] if request["depth"] else []
    ssh = ["ssh", *(part for option in SSH_OPTIONS for part in ("-o", option))]
    settings: List[str] = []
    with contextlib.ExitStack() as held:
        if request["known_hosts"]:
            lines = "".join(f"{line}\n" for line in request["known_hosts"])
            ssh += ["-o", f"UserKnownHostsFile=~/.ssh/known_hosts {held.enter_context(secret_file(lines))}"]
        if "password" in credential:
            text = f"username={credential['username']}\npassword={credential['password']}\n"
            path = held.enter_context(secret_file(text))
            settings.append(f'credential.{request["host"]}.helper=!f() {{ test "$1" != get || cat {path}; }}; f')
        elif "ssh_key" in credential:
            path = held.enter_context(secret_file(credential["ssh_key"]))
            ssh += ["-i", path, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"]
        git(*words, "--", request["url"], target, settings=settings, ssh=shlex.join(ssh))


@contextlib.contextmanager
def secret_file(text: str) -> Iterator[str]:
    """Hold a text in memory that only this login can open, and yield the path by which it does."""
    descriptor = os.memfd_create("codesmith")
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, text.encode())
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)


def git(
    *words: str, settings: Sequence[str] = (), ssh: str = "", timeout_s: Optional[float] = None, quiet_codes: Any = ()
) -> str:
    """Run git and return what it says; GitFailed otherwise. Its home is empty: no setting of the login's changes it."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "GIT_ALLOW_PROTOCOL": "https:ssh",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_LFS_SKIP_SMUDGE": "1",
        **({"GIT_SSH_COMMAND": ssh} if ssh else {}),
    }
    flags = [part for one in (*SETTINGS, *settings) for part in ("-c", one)]
    done = subprocess.run(
        ["git", *flags, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment, timeout=timeout_s, check=False,
    )  # fmt: skip
    if done.returncode and done.returncode not in quiet_codes:
        command = next((word for word in words if word in ("init", "clone")), words[-1])
        raise GitFailed(f"git {command}", done.returncode, done.stderr.decode("utf-8", "replace")[-STDERR_MAX:])
    return done.stdout.decode("utf-8", "replace").strip()


def read(path: str) -> Dict[str, Optional[str]]:
    """Return branch and commit of the repository at `path`; nulls for what is not there or not readable."""
    where = (f"--git-dir={path}/.git",)
    try:
        branch = git(*where, "symbolic-ref", "--quiet", "--short", "HEAD", timeout_s=READ_TIMEOUT_S, quiet_codes=(1,))
        commit = git(*where, "rev-parse", "--quiet", "--verify", "HEAD", timeout_s=READ_TIMEOUT_S, quiet_codes=(1,))
    except (GitFailed, OSError, subprocess.TimeoutExpired):
        return {"branch": None, "commit": None}
    return {"branch": branch or None, "commit": commit or None}


def write_mark(path: str, token: str) -> None:
    """Write which call made this repository."""
    with open(os.path.join(path, ".git", MARK), "x", encoding="ascii") as file:
        file.write(token + "\n")
