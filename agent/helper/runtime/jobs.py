"""Commands of a workspace, each in a transient unit that PID 1 starts: the helper's own sandbox does not reach them.

Argv and environment travel on standard input, not in the unit: a unit's properties and systemd-run's argv can be read
by every user of the node, and systemd would expand `$` and `%` in them.
"""

from __future__ import annotations

import functools
import os
import secrets
import select
import shlex
import signal
import socket
import subprocess
import time
from typing import Any, BinaryIO, Dict, List, Optional, Tuple

from agent.helper.accounts import accounts
from agent.helper.runtime import proxies
from agent.helper.runtime.output import Output
from agent.helper.runtime.sandboxes import Sandbox
from agent.shared.errors import CommandFailed
from agent.shared.names import BASE, home_of, login_of, path_of
from agent.shared.paths import JOB_PATH
from agent.shared.run import ENVIRONMENT, find, run

CHUNK_BYTES = 65536
GRACE_S = 20.0
# Variables that /bin/sh, be it dash or bash, keeps for itself: exporting them fails, or tells something else.
OF_THE_SHELL = (
    "BASHOPTS", "BASHPID", "BASH_ALIASES", "BASH_ARGC", "BASH_ARGV", "BASH_CMDS", "BASH_COMMAND", "BASH_LINENO",
    "BASH_SOURCE", "BASH_SUBSHELL", "BASH_VERSINFO", "DIRSTACK", "EPOCHREALTIME", "EPOCHSECONDS", "EUID", "GROUPS",
    "HISTCMD", "LINENO", "OPTIND", "PPID", "RANDOM", "SECONDS", "SHELLOPTS", "SHLVL", "SRANDOM", "UID", "_",
)  # fmt: skip
SHIM = 'IFS= read -r line && eval "$line" && exec "$@"'
# TERM, INT and HUP are a clean end to systemd: failing here makes the unit fail, so that how it ended can be asked. On
# control groups v1 systemd does not see that the kernel killed for memory; here it can still be read.
OUT_OF_MEMORY = 99
AFTERWARDS = (
    'g=/sys/fs/cgroup/memory$$(sed -n "s/.*:memory://p" /proc/self/cgroup)/memory.oom_control; '
    f'grep -qs "^oom_kill [1-9]" $$g && exit {OUT_OF_MEMORY}; test $$EXIT_CODE != killed'
)
BASELINE = (
    # No UMask=: systemd 247 makes mount points below TemporaryFileSystem= with it, closed to users. The shim sets it.
    "NoNewPrivileges=yes", "CapabilityBoundingSet=", "LimitCORE=0",
    "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes",
    "ProtectProc=invisible", "ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes", "ProtectClock=yes", "ProtectHostname=yes", "RestrictRealtime=yes",
    "LockPersonality=yes",
    "SystemCallArchitectures=native", "KeyringMode=private", "OOMPolicy=kill", "TimeoutStopSec=5",
    "InaccessiblePaths=-/run/codesmith -/run/codesmith-helper -/run/docker.sock -/run/containerd/containerd.sock",
    "InaccessiblePaths=-/run/dbus/system_bus_socket -/run/systemd/private -/run/screen",
    f"TemporaryFileSystem={BASE}:ro", "TemporaryFileSystem=/dev/shm:mode=1777",
    f"ExecStopPost=/bin/sh -c '{AFTERWARDS}'",
    # Who asked for a job is told when it ends: without the helper there is nobody to tell, and the job ends too.
    "BindsTo=codesmith-helper.service", "After=codesmith-helper.service",
)  # fmt: skip


# Directives that came after systemd 247, the oldest we run on, and the version they came with.
LATER = ((248, "PrivateIPC=yes"),)
# 0 on nodes where somebody has forbidden them; units that want one do not start there.
MAX_USER_NAMESPACES = "/proc/sys/user/max_user_namespaces"


@functools.cache
def systemd_version() -> int:
    """Return the version of systemd; asked once, before the first fork."""
    return int(run("systemctl", "--version").stdout.split()[1])


@functools.cache
def own_users() -> Tuple[str, ...]:
    """Return what gives a job a user namespace, if the kernel has any to give.

    Without it a job reaches what its login runs elsewhere (ptrace, /proc/PID/root), and so all that it does not see.
    """
    try:
        with open(MAX_USER_NAMESPACES, encoding="ascii") as file:
            return ("PrivateUsers=yes",) if int(file.read()) else ()
    except OSError:
        return ()


def run_job(
    workspace: str,
    user: str,
    *,
    argv: List[str],
    cwd: str,
    env: Dict[str, str],
    timeout_s: float,
    caller: socket.socket,
    stdin: bytes = b"",
    encoding: str = "text",
    job: Optional[str] = None,
    sandbox: Optional[Sandbox] = None,
    descriptor: Optional[int] = None,
) -> Dict[str, Any]:
    """Run `argv` as the workspace's login and return an Execution; ends early when the caller goes away.

    `encoding` is how its outputs are shown. `job` names its unit, for who must find it again. A `descriptor` travels
    ahead of its standard input, which then is a socket: a NUL byte comes with it.
    """
    unit = unit_of(workspace, job or secrets.token_hex(8))
    line = shim_line(workspace, user, argv, cwd, env)
    begun = time.monotonic()
    source, sink, ahead = _standard_input(line.encode("utf-8", "surrogateescape") + b"\n", descriptor)
    options = _options(unit, workspace, user, timeout_s, sandbox)
    with source:
        child = subprocess.Popen(
            [find("systemd-run"), *options, "--", "/bin/sh", "-c", SHIM, "sh"],
            stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, cwd="/",
        )  # fmt: skip
    try:
        output = _Pipes(child, sink, ahead + stdin, caller)
        ended = output.pump(begun + timeout_s + GRACE_S)
        if not ended:
            stop(unit)
        exit_code = child.wait(GRACE_S)
    finally:
        if child.poll() is None:
            stop(unit)
            child.kill()
            child.wait()
    result = _how_it_ended(unit, exit_code, output)
    return {
        **result,
        **_shown(output.stdout, output.stderr, encoding),
        "duration_s": round(time.monotonic() - begun, 4),
    }


def _shown(stdout: Output, stderr: Output, encoding: str) -> Dict[str, Any]:
    found: Dict[str, Any] = {"omitted_bytes": 0}
    for name, output in (("stdout", stdout), ("stderr", stderr)):
        found[name], found[f"{name}_encoding"], omitted = output.shown(encoding)
        found["omitted_bytes"] += omitted
    return {**found, "truncated": found["omitted_bytes"] > 0}


def _standard_input(line: bytes, descriptor: Optional[int]) -> Tuple[BinaryIO, BinaryIO, bytes]:
    """Return both ends of a job's standard input, and what is to be written first."""
    if descriptor is None:
        source, sink = os.pipe2(os.O_CLOEXEC)
        return open(source, "rb", 0), open(sink, "wb", 0), line
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # The shell reads the line byte by byte, and what comes with a later byte is not touched by it.
        ours.sendall(line)
        socket.send_fds(ours, [b"\0"], [descriptor])
        return open(os.dup(theirs.fileno()), "rb", 0), open(os.dup(ours.fileno()), "wb", 0), b""


def stop_all(*workspaces: str) -> None:
    """End every job of the workspaces."""
    if workspaces:
        stop(*(unit_of(workspace, "*") for workspace in workspaces))


def stop(*patterns: str) -> None:
    """Stop units by name or pattern; nothing happens when there is none."""
    run("systemctl", "stop", "--", *patterns, allowed=(0, 5))


def unit_of(workspace: str, job: str) -> str:
    """Return the unit of a job. The doubled hyphen cannot occur twice in a name: no name is another's prefix."""
    return f"codesmith-job@{workspace}@{job}.service"


def shim_line(workspace: str, user: str, argv: List[str], cwd: str, env: Dict[str, str]) -> str:
    """Return one line of shell that sets "$@", the directory and the environment."""
    base = {
        "PATH": JOB_PATH,
        "HOME": home_of(user),
        "USER": login_of(user),
        "LOGNAME": login_of(user),
        "SHELL": accounts.shell(),
        "LANG": "C.UTF-8",
        "CODESMITH_WORKSPACE": workspace,
        "CODESMITH_DIRECTORY": path_of(workspace),
        # Where the base is a link, programs else tell where it leads.
        "PWD": os.path.normpath(os.path.join(path_of(workspace), cwd)),
    }
    exports = " ".join(
        f"{key}={_quote(value)}"
        for key, value in {**base, **proxies.environment(), **env}.items()
        if key not in OF_THE_SHELL
    )
    by_env = [f"{key}={value}" for key, value in env.items() if key in OF_THE_SHELL]
    words = " ".join(_quote(word) for word in (["/usr/bin/env", *by_env] if by_env else []) + argv)
    enter = f"cd -- {_quote(os.path.join(path_of(workspace), cwd))} && " if cwd else ""
    start = "umask 077; nl=$(printf '\\nx') nl=${nl%x}; unset INVOCATION_ID SYSTEMD_EXEC_PID"
    # The caller's variables last: one of them may be called nl.
    return f"{start}; set -- {words}; {enter}export {exports}"


def _quote(text: str) -> str:
    """Quote a word for one line of shell: a newline in it becomes "$nl"."""
    return '"$nl"'.join(shlex.quote(part) for part in text.split("\n"))


def _options(unit: str, workspace: str, user: str, timeout_s: float, sandbox: Optional[Sandbox]) -> List[str]:
    path, home = path_of(workspace), home_of(user)
    properties = [
        *BASELINE,
        *(directive for since, directive in LATER if systemd_version() >= since),
        *own_users(),
        f"User={login_of(user)}",
        f"Group={login_of(user)}",
        f"WorkingDirectory={path}",
        f"BindPaths={path} {home}",
        f"ReadWritePaths={path} {home}",
        # Else a job would add a key and leave its sandbox by ssh to this very node.
        f"ReadOnlyPaths=-{home}/.ssh",
        *(sandbox.properties() if sandbox else ()),
        f"RuntimeMaxSec={timeout_s:.3f}",
        f"Description=CodeSmith job in workspace {workspace}",
    ]
    pairs = [part for one in properties for part in ("--property", one)]
    return ["--quiet", "--pipe", "--wait", f"--unit={unit}", "--slice=codesmith.slice", *pairs]


def _how_it_ended(unit: str, exit_code: int, output: _Pipes) -> Dict[str, Any]:
    """Ask systemd how the job ended, unless it ended with 0: then the unit is gone already."""
    if exit_code == 0:
        return {"exit_code": 0, "signal": None, "killed_by": None}
    shown = run(
        "systemctl", "show", "--property=LoadState,Result,ExecMainCode,ExecMainStatus,ExecStopPost", "--", unit
    ).stdout
    state = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    run("systemctl", "reset-failed", "--", unit, allowed=(0, 1, 5))
    status = int(state.get("ExecMainStatus") or 0)
    if state.get("LoadState") != "loaded" or (status == 0 and state.get("Result") in ("success", "resources", "")):
        message = output.stderr.text().strip().splitlines()[-1:] or [f"systemd-run ended with {exit_code}"]
        raise CommandFailed(
            f"the job could not be started: {message[0]}", command="systemd-run", exit_code=exit_code, stderr=message[0]
        )
    killed_by = {"timeout": "timeout", "oom-kill": "memory"}.get(state["Result"])
    if f"status={OUT_OF_MEMORY}" in state.get("ExecStopPost", ""):
        killed_by = "memory"
    if state.get("ExecMainCode") == "1":
        return {"exit_code": status, "signal": None, "killed_by": killed_by}
    return {"exit_code": 128 + status, "signal": signal.Signals(status).name, "killed_by": killed_by}


class _Pipes:
    """Feeds standard input and reads both outputs."""

    def __init__(self, child: subprocess.Popen[bytes], stdin: BinaryIO, data: bytes, caller: socket.socket) -> None:
        assert child.stdout and child.stderr
        self._stdin, self._data, self._caller = stdin, memoryview(data), caller
        self.stdout, self.stderr = Output(), Output()
        self._outputs = {child.stdout.fileno(): self.stdout, child.stderr.fileno(): self.stderr}
        self._files = (child.stdout, child.stderr)
        os.set_blocking(self._stdin.fileno(), False)

    def pump(self, deadline: float) -> bool:
        """Copy until both outputs end; False when the deadline passed or the caller went away first."""
        try:
            while self._outputs:
                left = deadline - time.monotonic()
                writing = [] if self._stdin.closed else [self._stdin]
                sources: List[Any] = [*self._outputs, self._caller]
                ready = select.select(sources, writing, [], max(left, 0))
                if left <= 0 or self._caller in ready[0]:
                    return False
                if ready[1]:
                    self._feed()
                for descriptor in ready[0]:
                    self._take(descriptor)
            return True
        finally:
            self._stdin.close()
            for file in self._files:
                file.close()

    def _feed(self) -> None:
        try:
            self._data = self._data[os.write(self._stdin.fileno(), self._data[:CHUNK_BYTES]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._data = self._data[:0]
        if not self._data:
            self._stdin.close()

    def _take(self, descriptor: int) -> None:
        data = os.read(descriptor, CHUNK_BYTES)
        if not data:
            del self._outputs[descriptor]
            return
        self._outputs[descriptor].add(data)


def check_job(argv: Any, cwd: Any, env: Any, timeout_s: Any) -> Optional[str]:
    """Say what is wrong with the arguments of a job, again and on our own: the front end is not trusted."""
    if not isinstance(argv, list) or not 1 <= len(argv) <= 1024 or not all(_is_text(word) for word in argv):
        return "argv must be 1 to 1024 strings without NUL"
    if not isinstance(cwd, str) or "\0" in cwd or cwd.startswith("/") or ".." in cwd.split("/"):
        return "cwd must be relative to the workspace and stay inside it"
    if not isinstance(env, dict) or not all(_is_variable(key) and _is_text(value) for key, value in env.items()):
        return "env must map names of variables to strings without NUL"
    if not isinstance(timeout_s, float) or not 0 < timeout_s <= 3600:
        return "timeout_s must be between 0 and 3600"
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_variable(key: Any) -> bool:
    return isinstance(key, str) and key.isascii() and key.isidentifier()
