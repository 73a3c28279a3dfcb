"""What runs git, as the workspace's login inside a job: `agent.pyz git`, one request on standard input, one answer.

Nothing here is trusted by the helper: the login it runs as may change what it answers. Everything it is told comes on
standard input, so that neither a command line nor an environment holds a secret; git and ssh read it from memory that
has no name in any file system.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from agent.git import agent_forwarding, grammar
from agent.git.errors import STDERR_MAX
from agent.shared import free_space, os_errors
from agent.shared.paths import JOB_PATH

MARK = "codesmith"  # in the repository's .git: which call made it
OUTPUT_BYTES_MAX = CHUNK_BYTES = 65536
READ_TIMEOUT_S = 10.0
# Only https and ssh; no hooks, no submodules, no file system monitor; no helper that would keep a credential.
SETTINGS = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.askPass=", "credential.helper=",
    "submodule.recurse=false", "gc.auto=0", "maintenance.auto=false", "advice.detachedHead=false",
)  # fmt: skip
QUOTA = os.strerror(errno.EDQUOT)
FULL = (*os_errors.NO_ROOM_TEXTS, "unable to write file")
COMMANDS = ("checkout", "clone", "fetch", "init")
BRANCHES = "refs/heads/"
POINTER = b"version https://git-lfs.github.com/spec/"
POINTERS_MAX = 100  # so many are looked at, of a tree in which some may have been fetched
SSH_CONFIG = "/etc/ssh/ssh_config"
ALL_HISTORY = 2**31 - 1  # what git takes for it; --unshallow fails where nothing is shallow
# Stale keys are never replaced, unknown hosts never trusted, nothing is asked.
SSH_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=20",
    "ForwardAgent=no",
    "UpdateHostKeys=no",
    "ControlPath=none",
)


class GitFailed(Exception):
    """git ended with another exit code than 0."""

    def __init__(self, command: str, exit_code: int, stderr: str) -> None:
        super().__init__(command)
        self.command, self.exit_code, self.stderr = command, exit_code, stderr


class DiskShort(Exception):
    """git was ended: it would have filled the disk."""


class GitSetup(NamedTuple):
    """How git gets at a URL: settings of its own, how it calls ssh, and where that finds the key it was given."""

    settings: Tuple[str, ...] = ()
    ssh: str = ""
    key: str = ""


NO_WAY = GitSetup()


def main() -> int:
    """Carry out the request on standard input."""
    request, forwarded = receive()
    print(json.dumps(answer(request, forwarded)))
    return 0


def receive() -> Tuple[Dict[str, Any], Optional[socket.socket]]:
    """Return the request, and the connection to an ssh agent that came ahead of it, if one did."""
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        return json.loads(sys.stdin.buffer.read()), None
    with socket.socket(fileno=os.dup(0)) as source:
        _, descriptors, _, _ = socket.recv_fds(source, 1, 1, socket.MSG_CMSG_CLOEXEC)
        request = json.loads(b"".join(iter(lambda: source.recv(65536), b"")))
    forwarded = socket.socket(fileno=descriptors[0])
    forwarded.setblocking(True)  # the front end had a time limit on it, which is the connection's, not the descriptor's
    return request, forwarded


def answer(request: Dict[str, Any], forwarded: Optional[socket.socket] = None) -> Dict[str, Any]:
    """Return {repo}, {repos} or {problem}."""
    missing = [program for program in request["programs"] if shutil.which(program, path=JOB_PATH) is None]
    if missing:
        return {"problem": "missing", "program": missing[0]}
    try:
        if request["action"] == "read":
            return {"repos": {name: read(os.path.join("code", name)) for name in request["names"]}}
        return make(request, forwarded)
    except GitFailed as failure:
        found = {"command": failure.command, "exit_code": failure.exit_code, "stderr": failure.stderr}
        # Faster than the watch, or by a quota.
        is_full = any(text in failure.stderr for text in FULL)
        if is_full:
            return {"problem": "quota" if QUOTA in failure.stderr else "full"}
        return {"problem": "failed", **found}
    except DiskShort:
        return {"problem": "full"}
    except OSError as error:
        if error.errno in os_errors.NO_ROOM:
            return {"problem": "quota" if error.errno == errno.EDQUOT else "full"}
        return {"problem": "failed", "command": "git", "exit_code": error.errno or 1, "stderr": str(error.strerror)}


def make(request: Dict[str, Any], forwarded: Optional[socket.socket]) -> Dict[str, Any]:
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
            clone(request, temporary, forwarded)
        write_mark(temporary, token)
        # On disk before it has its name: a power cut leaves the whole repository or none.
        sync(temporary)
        if os.path.lexists(final):
            return {"problem": "exists"}
        os.rename(temporary, final)
        sync("code")
    finally:
        subprocess.run(["rm", "-rf", "--", temporary], stdin=subprocess.DEVNULL, check=False)
    return {"repo": read(final)}


def sync(path: str) -> None:
    """Have all of the file system of `path` on disk; OSError when it is not."""
    if subprocess.run(["sync", "--file-system", path], stdin=subprocess.DEVNULL, check=False).returncode:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def temporary_name(token: str) -> str:
    """Return the name inside code/ that a repository has until it is whole; no Name begins with a full stop."""
    return f".codesmith-{token}"


def clone(request: Dict[str, Any], target: str, forwarded: Optional[socket.socket] = None) -> None:
    """Clone into `target`; a ref that is a commit is checked out without a branch."""
    ref, depth = request["ref"] or "", [f"--depth={request['depth']}"] if request["depth"] else []
    is_commit = grammar.is_commit(ref)
    words = ["clone", "--quiet", "--template=", "--no-recurse-submodules", "--no-local", *depth]
    words += ["--no-checkout"] if is_commit else [f"--branch={ref}"] if ref else []
    with setup_for(request, forwarded) as way:
        try:
            git(*words, "--", request["url"], target, way=way, is_watched=True)
        except GitFailed as failure:
            raise GitFailed(failure.command, failure.exit_code, key_problem(way.key) + failure.stderr) from None
        if is_commit:
            check_out(ref, target, depth, way)


def key_problem(path: str) -> str:
    """Return what makes a key unusable, as a line; ssh passes over one with a passphrase without a word."""
    if not path or shutil.which("ssh-keygen") is None:
        return ""
    words = ["ssh-keygen", "-y", "-P", "", "-f", path]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.stderr.decode("utf-8", "replace") if done.returncode else ""


def check_out(commit: str, target: str, depth: List[str], way: GitSetup) -> None:
    """Check out a commit, asked for by its hash when no branch or tag that was fetched leads to it."""
    there = ("-C", target)
    wanted = (*there, "rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}")
    if git(*wanted, quiet_codes=(1, 128)) != commit:
        try:
            git(*there, "fetch", "--quiet", "--no-tags", *depth, "origin", commit, way=way, is_watched=True)
        except GitFailed:
            if not depth:
                raise
            # Not every server gives a commit by its hash: then all that it has is looked through.
            git(*there, "remote", "set-branches", "origin", "*")
            git(*there, "fetch", "--quiet", f"--depth={ALL_HISTORY}", "origin", way=way, is_watched=True)
    if git(*wanted, quiet_codes=(1, 128)) != commit:
        raise GitFailed("git fetch", 128, f"fatal: {commit} is no commit of this repository")
    git(*there, "checkout", "--quiet", "--detach", commit, is_watched=True)


@contextlib.contextmanager
def setup_for(request: Dict[str, Any], forwarded: Optional[socket.socket]) -> Iterator[GitSetup]:
    """Hold what git needs to get at the URL; the credential is offered to the URL's own host alone."""
    credential = request["credential"]
    # The node's own configuration, not the login's: a ProxyCommand in it would run outside of the sandbox's limits.
    ssh = ["ssh", "-F", SSH_CONFIG if os.path.exists(SSH_CONFIG) else "none"]
    ssh += [part for option in SSH_OPTIONS for part in ("-o", option)]
    settings: List[str] = []
    key = ""
    with contextlib.ExitStack() as held:
        if request["known_hosts"]:
            lines = "".join(f"{line}\n" for line in request["known_hosts"])
            ssh += ["-o", f"UserKnownHostsFile=~/.ssh/known_hosts {held.enter_context(secret_file(lines))}"]
        if "password" in credential:
            text = f"username={credential['username']}\npassword={credential['password']}\n"
            path = held.enter_context(secret_file(text))
            settings.append(f'credential.{request["host"]}.helper=!f() {{ test "$1" != get || cat {path}; }}; f')
        elif "ssh_key" in credential:
            key = held.enter_context(secret_file(credential["ssh_key"]))
            ssh += ["-i", key, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"]
        elif forwarded is not None:
            ssh += [
                "-o",
                "IdentityFile=none",
                "-o",
                f"IdentityAgent={held.enter_context(agent_forwarding.served(forwarded))}",
            ]
        yield GitSetup(tuple(settings), shlex.join(ssh), key)


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
    *words: str,
    way: GitSetup = NO_WAY,
    timeout_s: Optional[float] = None,
    quiet_codes: Any = (),
    is_watched: bool = False,
) -> str:
    """Run git and return what it says; GitFailed otherwise. Its home is empty: no setting of the login's changes it.

    One that `is_watched` ends with DiskShort before it fills the disk.
    """
    environment = {
        "PATH": JOB_PATH,
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "GIT_ALLOW_PROTOCOL": "https:ssh",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_LFS_SKIP_SMUDGE": "1",
        **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")},
        **({"GIT_SSH_COMMAND": way.ssh} if way.ssh else {}),
    }
    flags = [part for one in (*SETTINGS, *way.settings) for part in ("-c", one)]
    with subprocess.Popen(
        ["git", *flags, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment, start_new_session=True,
    ) as child:  # fmt: skip
        output, errors = _await(child, timeout_s, is_watched)
    if child.returncode and child.returncode not in quiet_codes:
        command = next((word for word in words if word in COMMANDS), words[-1])
        raise GitFailed(f"git {command}", child.returncode, errors.decode("utf-8", "replace")[-STDERR_MAX:])
    return output.decode("utf-8", "replace").strip()


def _await(child: subprocess.Popen[bytes], timeout_s: Optional[float], is_watched: bool) -> Tuple[bytes, bytes]:
    """Return the last of both outputs of a process at its end; end it, and what it started, when it may not go on.

    A server decides how much git says: what came before is dropped, not kept in memory.
    """
    deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
    kept: Dict[Any, bytearray] = {child.stdout: bytearray(), child.stderr: bytearray()}
    try:
        with selectors.DefaultSelector() as selector:
            for file in kept:
                selector.register(file, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select(free_space.WATCH_S):
                    data = os.read(key.fd, CHUNK_BYTES)
                    if not data:
                        selector.unregister(key.fileobj)
                    kept[key.fileobj] += data
                    del kept[key.fileobj][:-OUTPUT_BYTES_MAX]
                _check(deadline, is_watched)
        child.wait()
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        raise
    return bytes(kept[child.stdout]), bytes(kept[child.stderr])


def _check(deadline: float, is_watched: bool) -> None:
    """Raise when git may not go on."""
    if is_watched and free_space.is_short("."):
        raise DiskShort
    if time.monotonic() > deadline:
        raise TimeoutError


def read(path: str) -> Dict[str, Any]:
    """Return branch, commit and what a clone leaves out of the repository at `path`; nulls for what is not there."""
    where = (f"--git-dir={path}/.git",)
    try:
        # Not --short: where a tag has the branch's name, that is heads/NAME.
        head = git(*where, "symbolic-ref", "--quiet", "HEAD", timeout_s=READ_TIMEOUT_S, quiet_codes=(1,))
        commit = git(*where, "rev-parse", "--quiet", "--verify", "HEAD", timeout_s=READ_TIMEOUT_S, quiet_codes=(1,))
    except (GitFailed, OSError):
        return {"branch": None, "commit": None, "left_out": []}
    branch = head[len(BRANCHES) :] if head.startswith(BRANCHES) else None
    return {"branch": branch or None, "commit": commit or None, "left_out": left_out(path)}


def left_out(path: str) -> List[str]:
    """Return what a repository has and its working tree has not: the files of Git LFS, submodules."""
    found = ["lfs"] if has_pointers(path) else []
    is_fetched = os.path.isdir(os.path.join(path, ".git", "modules"))
    return [*found, "submodules"] if os.path.lexists(os.path.join(path, ".gitmodules")) and not is_fetched else found


def has_pointers(path: str) -> bool:
    """Tell whether a file that Git LFS keeps elsewhere is only its pointer here."""
    where = ("-C", path, "--git-dir=.git", "--work-tree=.")
    try:
        listed = git(*where, "ls-files", "-z", "--", ":(attr:filter=lfs)", timeout_s=READ_TIMEOUT_S)
    except (GitFailed, OSError):
        return False
    return any(is_pointer(os.path.join(path, name)) for name in listed.split("\0")[:POINTERS_MAX] if name)


def is_pointer(path: str) -> bool:
    """Tell whether a file is a pointer of Git LFS."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with open(descriptor, "rb") as file:
        return file.read(len(POINTER)) == POINTER


def write_mark(path: str, token: str) -> None:
    """Write which call made this repository."""
    with open(os.path.join(path, ".git", MARK), "x", encoding="ascii") as file:
        file.write(token + "\n")
