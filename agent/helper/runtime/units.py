"""The runtime of a workspace: a transient socket and service of PID 1, with all isolation and limits on the service."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from agent.helper.accounts import accounts
from agent.helper.runtime import egress, etc, facts, files, live_limits, proxies, ptys
from agent.helper.runtime.entry import Entry
from agent.helper.runtime.sandboxes import Sandbox
from agent.shared.errors import CommandFailed, InUse
from agent.shared.names import AGENT_LOGIN, BASE, RUNTIMES, WORKSPACE_USER, home_of, path_of, unit_of
from agent.shared.run import run

IDLE_STOP_S = 300.0
PROBE_S = 20.0
# Tells in the directory of the sockets which release has looked for those of others.
SWEPT = ".swept.json"
# How often systemd is asked again while it still forgets the units that were just stopped.
ATTEMPTS, PAUSE_S = 20, 0.05
# A supervisor takes at most 2 s for the end of what it runs.
ASKED_S = 2.5
TMPFS = "mode=1777,size=25%"
# Where /etc/resolv.conf may point to. The sockets beside them stay hidden.
RESOLVERS = (
    "/run/systemd/resolve/stub-resolv.conf", "/run/systemd/resolve/resolv.conf", "/run/resolvconf/resolv.conf",
    "/run/NetworkManager/resolv.conf",
)  # fmt: skip
ISOLATION = (
    # No UMask=: systemd 247 applies it to mount points below TemporaryFileSystem=, which closes them to logins. The
    # supervisor sets it.
    "NoNewPrivileges=yes", "CapabilityBoundingSet=", "LimitCORE=0",
    "ProtectSystem=strict", "ProtectHome=yes", "PrivateDevices=yes",
    "ProtectProc=invisible", "ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes", "ProtectClock=yes", "ProtectHostname=yes", "RestrictRealtime=yes",
    "LockPersonality=yes", "SystemCallArchitectures=native", "KeyringMode=private",
    # Files that everybody may lock: a lock on wtmp holds up the logins of the node.
    "InaccessiblePaths=-/var/log",
    "TemporaryFileSystem=/run:ro", f"TemporaryFileSystem={BASE}:ro",
    *(f"TemporaryFileSystem={place}:{TMPFS}" for place in ("/tmp", "/var/tmp", "/dev/shm")),
    "BindReadOnlyPaths=" + " ".join(f"-{path}" for path in RESOLVERS),
    # The supervisor goes on when the kernel has ended a job for lack of memory.
    "OOMPolicy=continue", "OOMScoreAdjust=100", "TimeoutStopSec=5",
    "MemoryAccounting=yes", "CPUAccounting=yes", "TasksAccounting=yes",
)  # fmt: skip
SERVICE = ("StandardOutput=null", "StandardError=null", "StartLimitIntervalSec=0")
SOCKET = (
    "SocketUser=root", f"SocketGroup={AGENT_LOGIN}", "SocketMode=0660", "DirectoryMode=0710", "RemoveOnStop=yes",
    # A service that cannot start is not tried for ever, also where a try takes seconds: its socket fails, and the next
    # call makes both anew.
    "TriggerLimitIntervalSec=60", "TriggerLimitBurst=20", "Backlog=1024",
)  # fmt: skip
# Directives newer than systemd 247, our oldest, and the version that introduced each.
NEWER_DIRECTIVES = ((248, "PrivateIPC=yes"),)
# 0 on nodes that forbid them; units that want one do not start there.
MAX_USER_NAMESPACES = "/proc/sys/user/max_user_namespaces"
# A login has a second name, the same for all workspaces: sshd starts its sessions in the workspace.
ACCOUNTS = """\
root:x:0:0:root:/root:/usr/sbin/nologin
{login}:x:{uid}:{uid}:CodeSmith:{home}:{shell}
{second_name}:x:{uid}:{uid}:CodeSmith:{path}:{shell}
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
GROUPS = "root:x:0:\n{login}:x:{uid}:\nnogroup:x:65534:\n"


@functools.cache
def systemd_version() -> int:
    """Return the version of systemd. The helper calls it before its first fork, so it is read once."""
    return int(run("systemctl", "--version").stdout.split()[1])


@functools.cache
def user_namespace() -> Tuple[str, ...]:
    """Return the directive that gives a runtime a user namespace; nothing where the kernel allows none.

    Without it the runtime could reach its login's other processes (ptrace, /proc/PID/root), and through them what is
    hidden from it.
    """
    try:
        with open(MAX_USER_NAMESPACES, encoding="ascii") as file:
            return ("PrivateUsers=yes",) if int(file.read()) else ()
    except OSError:
        return ()


def start(entry: Entry, *, for_clone: bool = False) -> None:
    """Make the socket of a workspace's runtime; its first connection starts the service. A second call changes nothing.

    `for_clone`: with network, whatever the sandbox says, and for git requests alone. InUse when commands run meanwhile.
    The caller holds the ledger's lock, so that nobody disables or deletes the workspace at the same time.
    """
    name = entry.workspace
    settings = _settings(entry, for_clone=for_clone)
    way = _way_out(entry, for_clone=for_clone)
    if _is_active(name, "socket") and files.read(f"{name}.json") == settings and (way is None or egress.is_up(way)):
        egress.write_policy(entry.sandbox)
        write_facts(entry)
        live_limits.settle(entry)
        return
    # One of them is the supervisor.
    if len(live_limits.processes(name)) > 1 and (for_clone or _is_clone(name)):
        what = "commands run in it" if for_clone else "a repository is being cloned into it"
        hint = f"end them (inv job.list {name}), or run git as a command, for hosts that it may reach"
        problem = f"workspace {name!r} has not the whole network, and {what}"
        raise InUse(problem, hint=hint if for_clone else "try again")
    stop(name)
    _write(entry, settings, for_proxy=way is not None)
    facts.ensure_place(entry)
    write_facts(entry)
    if way is not None:
        _retried(lambda: egress.start(way, _sandbox(entry), for_clone=for_clone, release=_release()))
    words = [
        "--quiet", "--collect", f"--unit={unit_of(name, 'service')}", "--slice=codesmith.slice",
        *pairs("--socket-property", [f"ListenStream={RUNTIMES}/{name}.sock", *SOCKET]),
        *pairs("--property", [*properties(entry, way, for_clone=for_clone), *facts.properties(name), *SERVICE]),
        *pairs("--property", [f"StandardInput=file:{RUNTIMES}/{name}.json"]),
        *command("supervisor"),
    ]  # fmt: skip
    _retried(lambda: run("systemd-run", *words))
    live_limits.settle(entry)


def _retried(make: Callable[[], object]) -> None:
    """Make units, again while systemd still forgets those of the same name."""
    for attempt in range(ATTEMPTS):
        try:
            make()
            return
        except CommandFailed as error:
            if "already" not in str(error) or attempt == ATTEMPTS - 1:
                raise
            time.sleep(PAUSE_S)


def stop(*names: str) -> None:
    """End the runtimes of workspaces, with everything in them; nothing starts them again until `start`."""
    for kind in ("socket", "service"):
        if names:
            ours = (*(unit_of(name, kind) for name in names), *egress.units_of(names, kind))
            run("systemctl", "stop", "--", *ours, allowed=(0, 5))
    for name in names:
        files.remove(name)
        facts.remove(name)
        egress.remove_files(name)
        files.remove(f"{name}.probe")


def write_facts(entry: Entry) -> None:
    """Tell a workspace what holds in it now, if it has a runtime."""
    if os.path.exists(f"{RUNTIMES}/{entry.workspace}.json"):
        facts.write(entry, idle_stop_s=IDLE_STOP_S)


def ask_to_end(name: str) -> None:
    """Ask a supervisor to end what runs: so jobs may save their work, and it writes down how they ended.

    It has a moment for that; whoever does not listen is killed by `stop`.
    """
    if not live_limits.processes(name):
        return
    words = ("--kill-who=main", "--signal=TERM", "--", unit_of(name, "service"))
    run("systemctl", "kill", *words, allowed=(0, 1, 4, 5))
    deadline = time.monotonic() + ASKED_S
    while live_limits.processes(name) and time.monotonic() < deadline:
        time.sleep(PAUSE_S / 5)


def has_looked_for_other_releases() -> bool:
    """Tell whether there is nothing to do for `stop_of_other_releases`."""
    return not os.path.isdir(RUNTIMES) or files.read(SWEPT).get("release") == _release()


def stop_of_other_releases() -> None:
    """Forget the sockets that another release has made, where nothing runs: their next start is this release's.

    The caller holds the ledger's lock, so that none of them is made anew meanwhile.
    """
    mine = _release()
    names = [name[: -len(".json")] for name in os.listdir(RUNTIMES) if name.count(".") == 1 and ".json" in name]
    old = [name for name in names if files.read(f"{name}.json").get("release") != mine]
    idle = [name for name in old if not live_limits.processes(name)]
    stop(*idle)
    if len(idle) == len(old):
        files.write(SWEPT, json.dumps({"release": mine}), 0o600)


def probe(entry: Entry) -> Dict[str, Any]:
    """Return what a look from inside such a runtime sees; CommandFailed when it does not start."""
    unit = f"codesmith-probe@{entry.workspace}.service"
    way = _way_out(entry, for_clone=False) and egress.beside_probe(entry.workspace, unit)
    _write(entry, _settings(entry, for_clone=False), for_proxy=way is not None, ending="probe")
    words = [
        "--quiet", "--collect", "--pipe", "--wait", f"--unit={unit}", "--slice=codesmith.slice",
        *pairs("--property", [*properties(entry, way, ending="probe"), f"RuntimeMaxSec={PROBE_S:.0f}"]),
        *command("probe"),
    ]  # fmt: skip
    try:
        if way is not None:
            egress.start(way, _sandbox(entry), for_clone=False, release=_release())
        seen = json.loads(run("systemd-run", *words, timeout_s=2 * PROBE_S).stdout)
    except ValueError:
        seen = None
    finally:
        if way is not None:
            egress.stop(way)
        files.remove(f"{entry.workspace}.probe")
    if not isinstance(seen, dict):
        raise CommandFailed("the look into the sandbox failed", command="systemd-run", exit_code=0, stderr="no answer")
    return seen


def properties(
    entry: Entry, way: Optional[egress.ProxyUnits] = None, *, for_clone: bool = False, ending: str = ""
) -> List[str]:
    """Return the properties of the service: isolation, login, directories, limits of the sandbox, its only way out."""
    path, home, login = path_of(entry.workspace), home_of(entry.workspace), entry.login
    place = f"{RUNTIMES}/{entry.workspace}{'.' + ending if ending else ''}"
    sandbox = entry.sandbox
    if sandbox is not None and for_clone:
        sandbox = sandbox._replace(network="full")
    return [
        *ISOLATION,
        *(directive for since, directive in NEWER_DIRECTIVES if systemd_version() >= since),
        *user_namespace(),
        f"User={login}",
        f"Group={login}",
        f"BindPaths={path} {home}",
        ptys.PROPERTY,
        f"ReadWritePaths={path} {home}",
        f"BindReadOnlyPaths=/etc:{etc.BESIDE} {etc.PLACE if way is None else etc.BEHIND_PROXY}:/etc",
        etc.HIDDEN,
        *(f"BindReadOnlyPaths={place}.{name}:/etc/{name}" for name in etc.OURS),
        *(sandbox.properties() if sandbox else ()),
        *(egress.joining(way) if way else ()),
        f"Description=CodeSmith workspace {entry.workspace}",
    ]


def _sandbox(entry: Entry) -> Sandbox:
    assert entry.sandbox is not None  # without one the network is the node's
    return entry.sandbox


def _way_out(entry: Entry, *, for_clone: bool) -> Optional[egress.ProxyUnits]:
    """Return the proxy that is the only way out of the runtime; None where it has the node's network, or none at all.

    A clone goes past it on a node that reaches the network by a proxy of its own: ours dials itself.
    """
    mode = entry.sandbox.mode if entry.sandbox else "full"
    is_behind = (mode == "list" and not for_clone) or (mode != "full" and for_clone and not proxies.upstream())
    return egress.beside_runtime(entry.workspace) if is_behind else None


def _settings(entry: Entry, *, for_clone: bool) -> Dict[str, Any]:
    return {
        "workspace": entry.workspace, "login": entry.login, "home": home_of(entry.workspace),
        "path": path_of(entry.workspace), "shell": accounts.shell(),
        "proxies": egress.environment() if _way_out(entry, for_clone=for_clone) else proxies.environment(),
        "runtime_s": entry.sandbox.limits.get("runtime_s") if entry.sandbox else None,
        "network": "open" if for_clone else entry.sandbox.mode if entry.sandbox else "full",
        "idle_stop_s": 0 if for_clone else IDLE_STOP_S, "for_clone": for_clone, "release": _release(),
    }  # fmt: skip


def _write(entry: Entry, settings: Dict[str, Any], *, for_proxy: bool, ending: str = "") -> None:
    """Write the files that a runtime starts with; root's, in a directory that the front end alone may enter."""
    try:
        os.mkdir(RUNTIMES, 0o710)
    except FileExistsError:
        pass
    else:
        import grp  # of the first runtime after a boot alone

        os.chown(RUNTIMES, 0, grp.getgrnam(AGENT_LOGIN).gr_gid)
        os.chmod(RUNTIMES, 0o710)  # noqa: S103  the helper's umask has taken the group's bit
    etc.refresh()
    ptys.ensure()
    if for_proxy:
        etc.refresh_behind_proxy(command("connect")[1:])
    fields = {key: settings[key] for key in ("login", "home", "path", "shell")}
    fields.update(uid=entry.uid, second_name=WORKSPACE_USER)
    texts = {"json": json.dumps(settings), "passwd": ACCOUNTS.format(**fields), "group": GROUPS.format(**fields)}
    for kind, text in texts.items():
        name = f"{entry.workspace}{'.' + ending if ending else ''}.{kind}"
        files.write(name, text, 0o600 if kind == "json" else 0o644)


def command(name: str) -> List[str]:
    """Return the command line that runs a command of this release, wherever `current` leads later."""
    return ["--", sys.executable, "-I", "-S", _release(), name]


def _release() -> str:
    return os.path.realpath(sys.path[0])


def _is_active(name: str, kind: str) -> bool:
    return run("systemctl", "is-active", "--quiet", "--", unit_of(name, kind), allowed=(0, 3, 4)).returncode == 0


def _is_clone(name: str) -> bool:
    return bool(files.read(f"{name}.json").get("for_clone"))


def pairs(option: str, values: List[str]) -> List[str]:
    return [part for value in values for part in (option, value)]
