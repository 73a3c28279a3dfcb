"""Run commands of a workspace, each in a transient unit that PID 1 starts, outside the helper's own sandbox.

Argv and environment are sent on standard input, not in the unit: every user of the node can read a unit's properties
and systemd-run's argv, and systemd would expand `$` and `%` in them.
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
from agent.helper.runtime.entry import Entry
from agent.helper.runtime.output import Output
from agent.shared.errors import CommandFailed
from agent.shared.names import BASE, home_of, login_of, path_of
from agent.shared.paths import JOB_PATH
from agent.shared.run import ENVIRONMENT, find, run

CHUNK_BYTES = 65536
GRACE_S = 20.0
# Variables that /bin/sh (dash or bash) sets itself: exporting them fails, or has another value.
SHELL_VARIABLES = (
    "BASHOPTS", "BASHPID", "BASH_ALIASES", "BASH_ARGC", "BASH_ARGV", "BASH_CMDS", "BASH_COMMAND", "BASH_LINENO",
    "BASH_SOURCE", "BASH_SUBSHELL", "BASH_VERSINFO", "DIRSTACK", "EPOCHREALTIME", "EPOCHSECONDS", "EUID", "GROUPS",
    "HISTCMD", "LINENO", "OPTIND", "PPID", "RANDOM", "SECONDS", "SHELLOPTS", "SHLVL", "SRANDOM", "UID", "_",
)  # fmt: skip
SHIM = 'IFS= read -r line && eval "$line" && exec "$@"'
# TERM, INT and HUP are a clean end to systemd. Failing here makes the unit fail, and only then does it stay so that we
# can ask how it ended. With control groups v1 systemd does not see a kill for lack of memory; it can be read here.
OUT_OF_MEMORY = 99
EXEC_STOP_POST = (
    'g=/sys/fs/cgroup/memory$$(sed -n "s/.*:memory://p" /proc/self/cgroup)/memory.oom_control; '
    f'grep -qs "^oom_kill [1-9]" $$g && exit {OUT_OF_MEMORY}; test $$EXIT_CODE != killed'
)
BASELINE = (
    # No UMask=: systemd 247 applies it to mount points below TemporaryFileSystem=, which closes them to users. The shim
    # sets it.
    "NoNewPrivileges=yes", "CapabilityBoundingSet=", "LimitCORE=0",
    "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes",
    "ProtectProc=invisible", "ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes", "ProtectClock=yes", "ProtectHostname=yes", "RestrictRealtime=yes",
    "LockPersonality=yes",
    "SystemCallArchitectures=native", "KeyringMode=private", "OOMPolicy=kill", "TimeoutStopSec=5",
    "InaccessiblePaths=-/run/codesmith -/run/codesmith-helper -/run/docker.sock -/run/containerd/containerd.sock",
    "InaccessiblePaths=-/run/dbus/system_bus_socket -/run/systemd/private -/run/screen",
    f"TemporaryFileSystem={BASE}:ro", "TemporaryFileSystem=/dev/shm:mode=1777",
    f"ExecStopPost=/bin/sh -c '{EXEC_STOP_POST}'",
    # The helper reports the result of a job. Without the helper nobody would get it, so the job ends too.
    "BindsTo=codesmith-helper.service", "After=codesmith-helper.service",
)  # fmt: skip


# Directives newer than systemd 247, our oldest, and the version that introduced each.
NEWER_DIRECTIVES = ((248, "PrivateIPC=yes"),)
# 0 on nodes that forbid them; units that want one do not start there.
MAX_USER_NAMESPACES = "/proc/sys/user/max_user_namespaces"


@functools.cache
def systemd_version() -> int:
    """Return the version of systemd. The helper calls it beside its first child, so it is read once or twice."""
    return int(run("systemctl", "--version").stdout.split()[1])


@functools.cache
def user_namespace() -> Tuple[str, ...]:
    """Return the directive that gives a job a user namespace; nothing where the kernel allows none.

    Without it a job can reach its login's other processes (ptrace, /proc/PID/root), and through them what is hidden
    from the job.
    """
    try:
        with open(MAX_USER_NAMESPACES, encoding="ascii") as file:
            return ("PrivateUsers=yes",) if int(file.read()) else ()
    except OSError:
        return ()


def run_job(
    entry: Entry,
    *,
    argv: List[str],
    cwd: str,
    env: Dict[str, str],
    timeout_s: float,
    caller: socket.socket,
    stdin: bytes = b"",
    encoding: str = "text",
    job: Optional[str] = None,
    descriptor: Optional[int] = None,
) -> Dict[str, Any]:
    """Run `argv` as the workspace's login, in its sandbox, and return an Execution; stop when the caller goes away.

    `encoding` is that of both outputs (text or base64). `job` names the unit for callers that must find it again. A
    `descriptor` is sent ahead of standard input, with a NUL byte; standard input is a socket then. CommandFailed when
    the job does not start.
    """
    unit = unit_of(entry.workspace, job or secrets.token_hex(8))
    line = shim_line(entry.workspace, argv, cwd, env)
    started = time.monotonic()
    source, sink, ahead = _standard_input(line.encode("utf-8", "surrogateescape") + b"\n", descriptor)
    options = _options(unit, entry, timeout_s)
    with source:
        child = subprocess.Popen(
            [find("systemd-run"), *options, "--", "/bin/sh", "-c", SHIM, "sh"],
            stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, cwd="/",
        )  # fmt: skip
    try:
        pipes = _Pipes(child, sink, ahead + stdin, caller)
        if not pipes.pump(started + timeout_s + GRACE_S):
            stop(unit)
        exit_code = child.wait(GRACE_S)
    finally:
        if child.poll() is None:
            stop(unit)
            child.kill()
            child.wait()
    return {
        **_read_result(unit, exit_code, pipes.stderr),
        **_encode_outputs(pipes.stdout, pipes.stderr, encoding),
        "duration_s": round(time.monotonic() - started, 4),
    }


def _encode_outputs(stdout: Output, stderr: Output, encoding: str) -> Dict[str, Any]:
    fields: Dict[str, Any] = {"omitted_bytes": 0}
    for name, output in (("stdout", stdout), ("stderr", stderr)):
        fields[name], fields[f"{name}_encoding"], omitted_bytes = output.encode(encoding)
        fields["omitted_bytes"] += omitted_bytes
    return {**fields, "truncated": fields["omitted_bytes"] > 0}


def _standard_input(line: bytes, descriptor: Optional[int]) -> Tuple[BinaryIO, BinaryIO, bytes]:
    """Return both ends of a job's standard input, and the bytes to write first."""
    if descriptor is None:
        source, sink = os.pipe2(os.O_CLOEXEC)
        return open(source, "rb", 0), open(sink, "wb", 0), line
    helper_end, job_end = socket.socketpair()
    with helper_end, job_end:
        # The shell reads its line byte by byte, so it does not receive a descriptor that comes with a later byte.
        helper_end.sendall(line)
        socket.send_fds(helper_end, [b"\0"], [descriptor])
        return open(os.dup(job_end.fileno()), "rb", 0), open(os.dup(helper_end.fileno()), "wb", 0), b""


def stop_all(*workspaces: str) -> None:
    """Stop every job of the workspaces."""
    if workspaces:
        stop(*(unit_of(workspace, "*") for workspace in workspaces))


def stop(*patterns: str) -> None:
    """Stop units by name or pattern; do nothing when there is none."""
    run("systemctl", "stop", "--", *patterns, allowed=(0, 5))


def unit_of(workspace: str, job: str) -> str:
    """Return the unit of a job. No name contains an "@", so no workspace's pattern matches another's jobs."""
    return f"codesmith-job@{workspace}@{job}.service"


def shim_line(workspace: str, argv: List[str], cwd: str, env: Dict[str, str]) -> str:
    """Return one line of shell that sets "$@", the directory and the environment."""
    base = {
        "PATH": JOB_PATH,
        "HOME": home_of(workspace),
        "USER": login_of(workspace),
        "LOGNAME": login_of(workspace),
        "SHELL": accounts.shell(),
        "LANG": "C.UTF-8",
        "CODESMITH_WORKSPACE": workspace,
        "CODESMITH_DIRECTORY": path_of(workspace),
        # Without it programs show the target of a base that is a link.
        "PWD": os.path.normpath(os.path.join(path_of(workspace), cwd)),
    }
    exports = " ".join(
        f"{key}={_quote(value)}"
        for key, value in {**base, **proxies.environment(), **env}.items()
        if key not in SHELL_VARIABLES
    )
    by_env = [f"{key}={value}" for key, value in env.items() if key in SHELL_VARIABLES]
    words = " ".join(_quote(word) for word in (["/usr/bin/env", *by_env] if by_env else []) + argv)
    change_directory = f"cd -- {_quote(os.path.join(path_of(workspace), cwd))} && " if cwd else ""
    start = "umask 077; nl=$(printf '\\nx') nl=${nl%x}; unset INVOCATION_ID SYSTEMD_EXEC_PID"
    # The caller's variables come last: one of them may be called nl.
    return f"{start}; set -- {words}; {change_directory}export {exports}"


def _quote(text: str) -> str:
    """Quote a word for one line of shell; a newline in it becomes "$nl"."""
    return '"$nl"'.join(shlex.quote(part) for part in text.split("\n"))


def _options(unit: str, entry: Entry, timeout_s: float) -> List[str]:
    """Return the options of systemd-run for a job."""
    path, home = path_of(entry.workspace), home_of(entry.workspace)
    properties = [
        *BASELINE,
        *(directive for since, directive in NEWER_DIRECTIVES if systemd_version() >= since),
        *user_namespace(),
        f"User={entry.login}",
        f"Group={entry.login}",
        f"WorkingDirectory={path}",
        f"BindPaths={path} {home}",
        f"ReadWritePaths={path} {home}",
        *(entry.sandbox.properties() if entry.sandbox else ()),
        f"RuntimeMaxSec={timeout_s:.3f}",
        f"Description=CodeSmith job in workspace {entry.workspace}",
    ]
    pairs = [part for one in properties for part in ("--property", one)]
    return ["--quiet", "--pipe", "--wait", f"--unit={unit}", "--slice=codesmith.slice", *pairs]


def _read_result(unit: str, exit_code: int, stderr: Output) -> Dict[str, Any]:
    """Return exit_code, signal and killed_by as systemd has them; a unit that ended with 0 is gone already."""
    if exit_code == 0:
        return {"exit_code": 0, "signal": None, "killed_by": None}
    shown = run(
        "systemctl", "show", "--property=LoadState,Result,ExecMainCode,ExecMainStatus,ExecStopPost", "--", unit
    ).stdout
    state = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    run("systemctl", "reset-failed", "--", unit, allowed=(0, 1, 5))
    status = int(state.get("ExecMainStatus") or 0)
    if state.get("LoadState") != "loaded" or (status == 0 and state.get("Result") in ("success", "resources", "")):
        message = stderr.text().strip().splitlines()[-1:] or [f"systemd-run ended with {exit_code}"]
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
    """Writes standard input and reads both outputs."""

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
                left_s = deadline - time.monotonic()
                writing = [] if self._stdin.closed else [self._stdin]
                sources: List[Any] = [*self._outputs, self._caller]
                ready = select.select(sources, writing, [], max(left_s, 0))
                if left_s <= 0 or self._caller in ready[0]:
                    return False
                if ready[1]:
                    self._write_chunk()
                for descriptor in ready[0]:
                    self._read_chunk(descriptor)
            return True
        finally:
            self._stdin.close()
            for file in self._files:
                file.close()

    def _write_chunk(self) -> None:
        try:
            self._data = self._data[os.write(self._stdin.fileno(), self._data[:CHUNK_BYTES]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._data = self._data[:0]
        if not self._data:
            self._stdin.close()

    def _read_chunk(self, descriptor: int) -> None:
        data = os.read(descriptor, CHUNK_BYTES)
        if not data:
            del self._outputs[descriptor]
            return
        self._outputs[descriptor].add(data)


def check_job(argv: Any, cwd: Any, env: Any, timeout_s: Any) -> Optional[str]:
    """Return what is wrong with the arguments of a job, or None. The front end has checked them, but is not trusted."""
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
