"""Clones a repository: the credential, the host keys and the commit that was asked for."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
from typing import Any, Dict, Iterator, List, Optional

from agent.git import agent_forwarding, grammar, known_hosts, way_out
from agent.git.command import GitFailed, GitSetup, git

SSH_CONFIG = "/etc/ssh/ssh_config"
# The largest depth that git takes. --unshallow fails where nothing is shallow.
ALL_HISTORY = 2**31 - 1
# ssh never asks, never replaces a stored host key and never trusts an unknown host.
SSH_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=20",
    "ForwardAgent=no",
    "UpdateHostKeys=no",
    "ControlPath=none",
)


def clone(request: Dict[str, Any], target: str, forwarded: Optional[socket.socket] = None) -> None:
    """Clone into `target`; GitFailed or DiskShort otherwise. A commit is checked out without a branch."""
    ref, depth = request["ref"] or "", [f"--depth={request['depth']}"] if request["depth"] else []
    is_commit = grammar.is_commit(ref)
    words = ["clone", "--quiet", "--template=", "--no-recurse-submodules", "--no-local", *depth]
    words += ["--no-checkout"] if is_commit else [f"--branch={ref}"] if ref else []
    with setup_for(request, forwarded) as setup:
        reach(*words, "--", request["url"], target, setup=setup)
        if is_commit:
            check_out(ref, target, depth, setup)
    if "password" in request["credential"]:
        name_next_step(target, request)
    known_hosts.keep(request["known_hosts"])


def reach(*words: str, setup: GitSetup) -> str:
    """Run a git command that reaches the URL, and return what it prints; its error tells what is wrong with the key."""
    try:
        return git(*words, setup=setup, is_watched=True)
    except GitFailed as failure:
        if setup.way_out is not None:
            setup.way_out.check_refused()
            reason = setup.way_out.why_unreached()
            if reason:
                raise GitFailed(failure.command, failure.exit_code, f"{reason}\n") from None
        raise GitFailed(failure.command, failure.exit_code, key_problem(setup.key) + failure.stderr) from None


def name_next_step(target: str, request: Dict[str, Any]) -> None:
    """Let a plain `git pull` say how the operator lends the credential again, which is not kept.

    It is the last credential helper that git asks, and it gives none: helpers of the login come first.
    """
    place = f"{request['workspace']} {request['name']}"
    text = (
        f"codesmith: no credential for {request['host']} is kept in this workspace. The operator gives it with "
        f"inv repo.pull {place} --credential-file FILE, or repo.fetch, repo.push"
    )
    helper = f'!f() {{ test "$1" != get || echo "{text}" >&2; }}; f'
    git("-C", target, "config", f"credential.{request['host']}.helper", helper)


def key_problem(path: str) -> str:
    """Return why ssh cannot use a private key, as a line; ssh itself skips a key with a passphrase silently."""
    if not path or shutil.which("ssh-keygen") is None:
        return ""
    words = ["ssh-keygen", "-y", "-P", "", "-f", path]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.stderr.decode("utf-8", "replace") if done.returncode else ""


def check_out(commit: str, target: str, depth: List[str], setup: GitSetup) -> None:
    """Check out a commit. When the branches and tags that were fetched do not have it, fetch it by its hash."""
    within = ("-C", target)
    find_commit = (*within, "rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}")
    if git(*find_commit, quiet_codes=(1, 128)) != commit:
        try:
            git(*within, "fetch", "--quiet", "--no-tags", *depth, "origin", commit, setup=setup, is_watched=True)
        except GitFailed:
            if not depth:
                raise
            # Not every server gives a commit by its hash: fetch everything.
            git(*within, "remote", "set-branches", "origin", "*")
            git(*within, "fetch", "--quiet", f"--depth={ALL_HISTORY}", "origin", setup=setup, is_watched=True)
    if git(*find_commit, quiet_codes=(1, 128)) != commit:
        raise GitFailed("git fetch", 128, f"fatal: {commit} is no commit of this repository")
    git(*within, "checkout", "--quiet", "--detach", commit, is_watched=True)


@contextlib.contextmanager
def setup_for(request: Dict[str, Any], forwarded: Optional[socket.socket]) -> Iterator[GitSetup]:
    """Yield the setup with which git reaches the URL; the credential is offered only to the URL's own host."""
    credential = request["credential"]
    # The node's configuration, not the login's: a ProxyCommand of the login would run outside of the sandbox's limits.
    ssh = ["ssh", "-F", SSH_CONFIG if os.path.exists(SSH_CONFIG) else "none"]
    ssh += [part for option in SSH_OPTIONS for part in ("-o", option)]
    settings: List[str] = []
    key = ""
    with contextlib.ExitStack() as held:
        way = held.enter_context(way_out.opened(request["url"], request.get("git_hosts", ())))
        ssh += way.ssh_options(ssh)
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
        yield GitSetup(tuple(settings), shlex.join(ssh), key, way_out=way)


@contextlib.contextmanager
def secret_file(text: str) -> Iterator[str]:
    """Keep a text in memory that only this login can open, and yield its path."""
    descriptor = os.memfd_create("codesmith")
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, text.encode())
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)
