"""node.*: facts, health and version of the node. Nothing here changes the node."""

from __future__ import annotations

import grp
import os
import platform
import pwd
import shutil
import stat
from dataclasses import replace
from typing import Any, Callable, Dict, List, Tuple

from agent import API_VERSION, __version__
from agent.contract.method import method
from agent.contract.records.node import HealthCheck, NodeHealth, NodeInfo, NodeVersion, Os
from agent.frontend import consistency, door_health, needs_health
from agent.frontend.audit import TARGETS
from agent.frontend.context import NODE_FILE, Context
from agent.frontend.helper_client import LimitedHelper
from agent.methods import user
from agent.shared import acls, ownership, uids
from agent.shared.clock import now
from agent.shared.errors import AgentError, ReadOnly, Unsupported
from agent.shared.names import (
    BASE,
    CLIENTS_GROUP,
    HELPER_SOCKET,
    HOMES,
    KEYS,
    LOGINS,
    NO_HOME,
    STAGING,
    TRASH,
    WORKSPACES,
)

FREE_BYTES_MIN = 256 << 20
NAMED_MAX, DIFFERENCES_MAX = 10, 40
# For all calls of the helper together: less than clients wait for the answer.
HELPER_S = 10.0
# The directories that prepare makes: mode bits that each must have, and bits that it must not have.
DIRECTORIES = {
    "/": (0, 0o022),
    os.path.dirname(BASE): (0o111, 0o022),
    BASE: (0o111, 0o022),
    HOMES: (0o111, 0o022),
    NO_HOME: (0o111, 0o022),
    KEYS: (0o111, 0o022),
    LOGINS: (0o111, 0o022),
    WORKSPACES: (0o111, 0o022),
    STAGING: (0o700, 0o077),
    TRASH: (0o700, 0o077),
}


@method("node.version", scope="operator")
def version(context: Context) -> NodeVersion:
    """Return the agent's version and the node's id: a cheap test that a connection works."""
    return {
        "agent": __version__,
        "api": API_VERSION,
        "python": platform.python_version(),
        "build": context.build,
        "node_id": context.node_id,
    }


@method("node.info", scope="operator", errors=(ReadOnly,))
def info(context: Context) -> NodeInfo:
    """Return the node's identity, operating system, hardware and agent."""
    system = os.uname()
    disk = shutil.disk_usage(BASE if os.path.isdir(BASE) else "/")
    return {
        "node_id": context.node_id,
        "instance_id": context.instance_id,
        "hostname": system.nodename,
        "os": _read_os(),
        "kernel": system.release,
        "arch": system.machine,
        "python": platform.python_version(),
        "cpus": os.cpu_count() or 1,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "memory_available_bytes": _memory_available(),
        "disk": {"total_bytes": disk.total, "free_bytes": disk.free},
        "agent_version": __version__,
        "api_version": API_VERSION,
        "started_at": context.started_at,
        "now": now(),
        "counts": context.store.counts(),  # type: ignore[typeddict-item]
    }


@method("node.health", scope="operator")
def health(context: Context) -> NodeHealth:
    """Return all checks and the worst of their statuses. Changes nothing; the helper checks what only root can see."""
    context = replace(context, helper=LimitedHelper(context.helper, HELPER_S))
    functions: Tuple[Tuple[str, Callable[[Context], Tuple[str, str]]], ...] = (
        ("accounts", _check_accounts),
        ("clients", _check_clients),
        ("directories", _check_directories),
        ("disk", _check_disk),
        ("door", door_health.check),
        ("node_id", _check_node_id),
        ("pending", _check_pending),
        ("policy", _check_policy),
        ("helper", _check_helper),  # after the policy: only a verb that opens the ledger tells what is wrong with it
        ("needs", needs_health.check),
        ("records", _check_records),
        ("store", _check_store),
        ("uids", _check_uids),
    )
    checks: List[HealthCheck] = []
    for name, check in functions:
        try:
            status, detail = check(context)
        except OSError as error:  # what cannot be read is not missing
            status, detail = "failing", f"could not look: {error.filename or name}: {error.strerror}"
        checks.append({"name": name, "status": status, "detail": detail})  # type: ignore[typeddict-item]
    checks.sort(key=lambda one: one["name"])
    worst = max((one["status"] for one in checks), key=needs_health.RANK.index)
    return {"status": worst, "checks": checks}


def _must_read(path: str) -> None:
    """Raise OSError when a file cannot be read: with an unreadable /etc/passwd, getpwall() returns an empty list."""
    with open(path, "rb"):
        pass


def _memory_available() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
    return 0


def _read_os() -> Os:
    release: Dict[str, str] = {}
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.strip().partition("=")
                release[key] = value.strip("\"'")
    except OSError:
        pass
    return {
        "id": release.get("ID", "linux"),
        "version_id": release.get("VERSION_ID", ""),
        "name": release.get("PRETTY_NAME", "Linux"),
    }


def _check_accounts(context: Context) -> Tuple[str, str]:
    if context.store.damage:
        return "ok", "not checked: the store is damaged"
    _must_read("/etc/passwd")
    documents = _list_logins(context)
    managed = {document["login"] for document in ownership.managed_logins(documents)}
    existing = {account.pw_name for account in pwd.getpwall()}
    replaced = sorted({document["login"] for document in documents if document["login"] not in managed})
    removed = sorted({document["login"] for document in documents if document["login"] not in existing})
    if replaced:
        return "degraded", f"not created by CodeSmith, so they are left alone: {', '.join(replaced[:NAMED_MAX])}"
    if removed:
        gone = ", ".join(removed[:NAMED_MAX])
        return "degraded", f"accounts that were removed: {gone}; delete their users or workspaces as well"
    return "ok", f"{len(managed)} accounts, all there"


def _list_logins(context: Context) -> List[Dict[str, Any]]:
    """Return the documents of all users and workspaces: each has a login, a pair of one name the same."""
    return [*context.store.list_users(), *context.store.list_workspaces()]


def _check_clients(context: Context) -> Tuple[str, str]:
    _must_read("/etc/group")
    try:
        members = grp.getgrnam(CLIENTS_GROUP).gr_mem
    except KeyError:
        return "degraded", f"there is no group {CLIENTS_GROUP}: only root can connect"
    return "ok", f"root and {len(members)} login(s) of group {CLIENTS_GROUP} may connect"


def _check_directories(context: Context) -> Tuple[str, str]:
    for path, (wanted, unwanted) in DIRECTORIES.items():
        try:
            # Root may make these two links elsewhere; `needs` checks the way there.
            entry = os.stat(path) if path in (os.path.dirname(BASE), BASE) else os.lstat(path)
        except OSError as error:
            return "failing", f"{path}: {error.strerror}; inv node.prepare creates it"
        if not stat.S_ISDIR(entry.st_mode) or entry.st_uid != 0 or entry.st_mode & 0o022:
            return "failing", f"{path} must be a directory that only root can write; {_fix(path)}"
        mode = stat.S_IMODE(entry.st_mode)
        if mode & wanted != wanted:
            return "failing", f"{path} has mode {mode:04o}, which keeps logins out; {_fix(path)}"
        if mode & unwanted:
            return "failing", f"{path} has mode {mode:04o}, and must be closed to all but root; {_fix(path)}"
        if path.startswith(BASE) and acls.exist(path):
            return "failing", f"{path} has an access list, which new files in it inherit; {_fix(path)}"
    return "ok", f"{HOMES}, {WORKSPACES} and the directories around them"


def _fix(path: str) -> str:
    """Return the next step for a directory with a wrong owner or mode."""
    if path.startswith(BASE):
        return "inv node.prepare corrects it"
    return f"on the node: chown root {path}; chmod 755 {path}"


def _check_disk(context: Context) -> Tuple[str, str]:
    try:
        free = shutil.disk_usage(BASE).free
    except OSError as error:
        return "failing", f"{BASE}: {error.strerror}"
    status = "ok" if free >= FREE_BYTES_MIN else "degraded"
    return status, f"{free >> 20} MiB free in {BASE}"


def _check_helper(context: Context) -> Tuple[str, str]:
    try:
        entry = os.stat(HELPER_SOCKET)
    except OSError as error:
        return "failing", f"{HELPER_SOCKET}: {error.strerror}"
    if not stat.S_ISSOCK(entry.st_mode):
        return "failing", f"{HELPER_SOCKET} is not a socket"
    if context.helper.damage:
        return "failing", context.helper.damage
    return "ok", "its socket is there; it starts on demand"


def _check_node_id(context: Context) -> Tuple[str, str]:
    if not context.node_id:
        _must_read(NODE_FILE)
        return "failing", "no node id; run `inv node.prepare`"
    return "ok", context.node_id


def _check_pending(context: Context) -> Tuple[str, str]:
    pending = [" ".join([one.method, *_names(one.params)]) for one in context.store.intents()]
    if pending:
        return "degraded", f"begun and not ended: {', '.join(pending)}"
    return "ok", "no change is pending"


def _check_records(context: Context) -> Tuple[str, str]:
    if context.store.damage:
        return "ok", "not compared: the store is damaged"
    try:
        differences = consistency.differences(context)
    except ReadOnly as error:
        return "failing", error.problem
    except AgentError as error:
        hint = error.data.get("hint")
        return "degraded", f"not compared: {error.problem}" + (f"; {hint}" if hint else "")
    if not differences:
        return "ok", "store, ledger and node agree"
    more = len(differences) - DIFFERENCES_MAX
    return "degraded", "; ".join(differences[:DIFFERENCES_MAX] + ([f"and {more} more"] if more > 0 else []))


def _names(params: Dict[str, Any]) -> List[str]:
    return [params[field] for field in TARGETS if isinstance(params.get(field), str)]


def _check_policy(context: Context) -> Tuple[str, str]:
    if context.store.damage:
        return "ok", "not checked: the store is damaged"
    drifts = [f"{name} {', '.join(drift)}".strip() for name, drift in sorted(user.drift(context).items())]
    if drifts:
        return "degraded", f"{'; '.join(drifts[:NAMED_MAX])}; `inv node.prepare` corrects accounts"
    return "ok", "the accounts are as CodeSmith created them: closed, or open for the node's sshd alone"


def _check_uids(context: Context) -> Tuple[str, str]:
    documents = [] if context.store.damage else ownership.managed_logins(_list_logins(context))
    try:
        uid_range = uids.for_new_users()
    except Unsupported as error:
        return "failing", f"no user can be created: {error.problem}; run `inv node.prepare`"
    problems = uids.problems(sorted({(document["login"], document["uid"]) for document in documents}))
    return ("degraded", "; ".join(problems[:NAMED_MAX])) if problems else ("ok", f"new users get {uid_range}")


def _check_store(context: Context) -> Tuple[str, str]:
    if context.store.damage:
        return "failing", context.store.damage
    try:
        context.store.database.check_private()
        context.store.database.check_writable()
    except ReadOnly as error:
        return "failing", error.problem
    reserve = context.store.database.reserve
    if not reserve.has_room():
        return "degraded", f"the disk of {reserve.folder} is full: only changes that make room are carried out"
    return "ok", "readable and writable"
