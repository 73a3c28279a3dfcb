"""What a node must have for workspaces: one list of checks for prepare, node.health and the doctor.

prepare also sends it to nodes that have no agent yet: it imports the standard library, and only modules of the agent
that import nothing else. Each check returns (status, detail, fix); an OSError means that it could not look.
"""

from __future__ import annotations

import os
import stat
import subprocess
from typing import Any, Callable, Dict, Iterable, List, Tuple

from agent.shared.paths import BASE, JOB_PATH, SYSTEM_PATH

Answer = Tuple[str, str, str]

OK, WARN, FAIL, UNKNOWN = "ok", "warn", "fail", "unknown"
TOOL_TIMEOUT_S = 10
# Hidden from jobs or from the helper (ProtectHome=, PrivateTmp=, PrivateDevices=), or emptied at the next boot.
HIDDEN = ("/dev", "/home", "/proc", "/root", "/run", "/sys", "/tmp", "/var/tmp")
INODES_MIN = 1024
LINKS_MAX = 8
PREPARE = "inv node.prepare"


def check() -> List[Dict[str, Any]]:
    """Return for each need its name, purpose, status, detail, fix, and the packages that provide what is missing."""
    needs = []
    for name, purpose, look, packages in NEEDS:
        try:
            status, detail, fix = look()
        except (OSError, subprocess.SubprocessError) as error:
            status, detail, fix = UNKNOWN, f"could not look: {error}", ""
        missing = list(packages) if fix == PREPARE else []
        needs.append(
            {"name": name, "purpose": purpose, "status": status, "detail": detail, "fix": fix, "packages": missing}
        )
    return needs


def programs(names: Iterable[str], path: str) -> Callable[[], Answer]:
    """Return a check for programs in a PATH."""

    def look() -> Answer:
        missing = [name for name in names if not find(name, path)]
        if not missing:
            return OK, ", ".join(names), ""
        elsewhere = [find(name, f"/usr/local/sbin:{JOB_PATH}") for name in missing]
        there = f"; {', '.join(filter(None, elsewhere))} is not used" if any(elsewhere) else ""
        return FAIL, f"no {', '.join(missing)} in {path}{there}", PREPARE

    return look


def find(name: str, path: str) -> str:
    """Return the path of a program; empty when it is in no folder of `path`."""
    places = (os.path.join(folder, name) for folder in path.split(":"))
    return next((place for place in places if os.path.isfile(place) and os.access(place, os.X_OK)), "")


def base() -> Answer:
    """Check the path to the base: only root may write it, links included, and jobs must be able to see its target."""
    problem, fix = _check_path(BASE)
    if problem:
        return FAIL, problem, fix
    real = os.path.realpath(BASE)
    for hidden in HIDDEN:
        if f"{real}/".startswith(f"{hidden}/"):
            return (
                FAIL,
                f"{BASE} leads to {real}: {hidden} is closed to jobs",
                f"have it lead elsewhere: ln -sfn /var/lib/srv {os.path.dirname(BASE)}",
            )
    return OK, real if real == BASE else f"{BASE} leads to {real}", ""


def _check_path(path: str) -> Tuple[str, str]:
    """Return the first problem among the directories of a path, and the fix. Missing ones are no problem."""
    place, parts, links = "/", path.strip("/").split("/"), 0
    own = len(parts)  # so many of `parts` are of the path itself, not of a link's target
    while parts:
        part = parts.pop(0)
        there = os.path.normpath(os.path.join(place, part))
        try:
            entry = os.lstat(there)
        except FileNotFoundError:
            is_made_later = len(parts) < own
            return ("", "") if is_made_later else (f"{path} leads to {there}, which is not there", f"mkdir -p {there}")
        if entry.st_uid != 0:
            return f"{there} must belong to root", f"chown -h root:root {there}"
        if stat.S_ISLNK(entry.st_mode):
            links += 1
            target, own = os.readlink(there), len(parts)
            place, parts = ("/" if target.startswith("/") else place), [*target.strip("/").split("/"), *parts]
            if links > LINKS_MAX:
                return f"{path}: too many links", f"rm {there}"
            continue
        if not stat.S_ISDIR(entry.st_mode):
            return f"{there} is not a directory", f"ls -ld {there}"
        if entry.st_mode & 0o022:
            return f"{there} can be written by others than root", f"chmod go-w {there}"
        place = there
    return "", ""


def mounts() -> Answer:
    """Check the file systems of the base and /etc: writable, not noexec, with free inodes."""
    problems = []
    for path, runs in ((BASE, True), ("/etc", False)):
        there = os.path.realpath(path)
        while not os.path.exists(there):
            there = os.path.dirname(there)
        shown, disk = os.path.dirname(BASE) if path == BASE else path, os.statvfs(there)
        if disk.f_flag & os.ST_RDONLY:
            problems.append((f"{shown} is on a read-only file system", f"mount -o remount,rw {shown}"))
        elif runs and disk.f_flag & os.ST_NOEXEC:
            problems.append((f"{shown} is mounted noexec", f"mount -o remount,exec {shown}"))
        if disk.f_files and disk.f_favail < INODES_MIN:
            problems.append((f"{shown} has {disk.f_favail} inodes free ({INODES_MIN} are needed)", f"df -i {shown}"))
    if problems:
        return FAIL, "; ".join(problem for problem, _ in problems), problems[0][1]
    return OK, f"{BASE} and /etc can be written", ""


def bus() -> Answer:
    """Check that systemd answers on the system bus: systemd-run needs it to start jobs."""
    busctl = find("busctl", SYSTEM_PATH)
    if not busctl:
        return UNKNOWN, "there is no busctl to look with", ""
    manager = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
    done = run([busctl, "--system", "--timeout=5", "get-property", *manager, "Version"])
    if done.returncode == 0:
        return OK, f"systemd {done.stdout.split()[-1]} answers on it", ""
    reason = (done.stderr.strip().splitlines() or ["nothing"])[-1]
    if not os.path.exists("/usr/bin/dbus-daemon") and not os.path.exists("/usr/bin/dbus-broker"):
        return FAIL, f"no message bus (dbus): no command can be started ({reason})", PREPARE
    fix = "systemctl unmask dbus.service dbus.socket; systemctl restart dbus.socket"
    return FAIL, f"the message bus does not answer, so no command can be started ({reason})", fix


def run(argv: List[str]) -> subprocess.CompletedProcess[str]:
    """Run a program that changes nothing, with a clean environment and a time limit."""
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        errors="replace", env={"PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8"}, timeout=TOOL_TIMEOUT_S, check=False,
    )  # fmt: skip


def name_service() -> Answer:
    """Check that the name service reads /etc/passwd and /etc/group."""
    try:
        with open("/etc/nsswitch.conf", encoding="utf-8", errors="replace") as file:
            lines = [line.partition("#")[0].partition(":") for line in file]
    except FileNotFoundError:
        return OK, "files", ""
    sources = {name.strip(): words.split() for name, _, words in lines if words.strip()}
    for name in ("passwd", "group"):
        if not {"files", "compat", "db"} & set(sources.get(name, ["files"])):
            fix = f"sed -i 's/^{name}:/{name}: files/' /etc/nsswitch.conf"
            return FAIL, f"/etc/nsswitch.conf does not look up {name} in files: new accounts are not seen", fix
    return OK, "files", ""


def namespaces() -> Answer:
    """Check that systemd can create what isolates jobs: user namespaces and tmpfs mounts."""
    if "tmpfs" not in [line.split()[-1] for line in _read("/proc/filesystems").splitlines() if line.strip()]:
        return FAIL, "the kernel has no tmpfs: other workspaces cannot be hidden from a job", "modprobe tmpfs"
    if _read("/proc/sys/user/max_user_namespaces").strip() == "0":
        detail = "user namespaces are forbidden: sandboxes are refused, and commands are less isolated"
        return WARN, detail, "sysctl -w user.max_user_namespaces=15000"
    nested = {"kernel/unprivileged_userns_clone": "0", "kernel/apparmor_restrict_unprivileged_userns": "1"}
    without = [name.replace("/", ".") for name, no in nested.items() if _read(f"/proc/sys/{name}").strip() == no]
    more = f"; programs in a job cannot make their own ({', '.join(without)})" if without else ""
    return OK, f"user namespaces and tmpfs{more}", ""


def limits() -> Answer:
    """Check which limits of a sandbox the control groups can enforce."""
    root = "/sys/fs/cgroup"
    if os.path.exists(f"{root}/cgroup.controllers"):
        there = set(_read(f"{root}/cgroup.controllers").split())
    else:
        there = {name for name in ("cpu", "memory", "pids") if os.path.isdir(f"{root}/{name}")}
    missing = sorted({"cpu", "memory", "pids"} - there)
    if not missing:
        return OK, "cpu, memory, pids", ""
    detail = f"no controller for {', '.join(missing)}: a sandbox with such a limit is refused"
    return WARN, detail, f"boot with cgroup_enable={missing[0]}"


def _read(path: str) -> str:
    """Return the text of a file in /proc or /sys; empty when this kernel does not have it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


# Name, the calls that need it, the check, and the packages that provide it. Root's programs are in SYSTEM_PATH.
NEEDS: Tuple[Tuple[str, str, Callable[[], Answer], Tuple[str, ...]], ...] = (
    ("accounts", "user.create", programs(("useradd", "usermod", "userdel", "groupdel"), SYSTEM_PATH), ("shadow",)),
    ("base", "workspace.create", base, ()),
    ("bus", "workspace.exec, repo.clone, sandbox.create", bus, ("dbus",)),
    ("git", "repo.clone", programs(("git",), JOB_PATH), ("git",)),
    ("limits", "sandbox.create", limits, ()),
    ("mounts", "workspace.create", mounts, ()),
    ("name-service", "user.create", name_service, ()),
    ("namespaces", "workspace.exec, sandbox.create", namespaces, ()),
    ("shell", "workspace.exec", programs(("sh", "env", "rm", "sync"), JOB_PATH), ()),
    ("ssh", "repo.clone by ssh", programs(("ssh",), JOB_PATH), ("ssh",)),
    ("systemd", "workspace.exec", programs(("systemctl", "systemd-run"), SYSTEM_PATH), ()),
    ("tools", "user.delete", programs(("setpriv", "ipcrm"), SYSTEM_PATH), ("util-linux",)),
)
