"""node.*: what the node is, how it is, which agent answers. Nothing here changes anything."""

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
from agent.contract.types import HealthCheck, NodeHealth, NodeInfo, NodeVersion, Os
from agent.frontend import comparison, fitness
from agent.frontend.audit import TARGETS
from agent.frontend.context import NODE_FILE, Context
from agent.frontend.helper_client import LimitedHelper
from agent.methods import user
from agent.shared import acls, ownership, uids
from agent.shared.clock import now
from agent.shared.errors import AgentError, ReadOnly, Unsupported
from agent.shared.names import BASE, CLIENTS_GROUP, HELPER_SOCKET, HOMES, STAGING, TRASH, WORKSPACES

FREE_BYTES_MIN = 256 << 20
NAMED_MAX, DIFFERENCES_MAX = 10, 40
# For all that the helper is asked: less than clients wait for the answer.
HELPER_S = 10.0
# What prepare makes: the bits that each must have, and those that it must not have.
DIRECTORIES = {
    "/": (0, 0o022),
    os.path.dirname(BASE): (0o111, 0o022),
    BASE: (0o111, 0o022),
    HOMES: (0o111, 0o022),
    WORKSPACES: (0o111, 0o022),
    STAGING: (0o700, 0o077),
    TRASH: (0o700, 0o077),
}


@method("node.version")
def version(context: Context) -> NodeVersion:
    """Return which agent answers, and from which node: the cheap proof that a connection works."""
    return {
        "agent": __version__,
        "api": API_VERSION,
        "python": platform.python_version(),
        "build": context.build,
        "node_id": context.node_id,
    }


@method("node.info", errors=(ReadOnly,))
def info(context: Context) -> NodeInfo:
    """Return what the node is and has."""
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
        "disk": {"total_bytes": disk.total, "free_bytes": disk.free},
        "agent_version": __version__,
        "api_version": API_VERSION,
        "started_at": context.started_at,
        "now": now(),
        "counts": context.store.counts(),  # type: ignore[typeddict-item]
    }


@method("node.health")
def health(context: Context) -> NodeHealth:
    """Return the worst of all checks, and the checks. Looks only; the helper is asked what root alone can see."""
    context = replace(context, helper=LimitedHelper(context.helper, HELPER_S))
    looks: Tuple[Tuple[str, Callable[[Context], Tuple[str, str]]], ...] = (
        ("accounts", _check_accounts),
        ("clients", _check_clients),
        ("directories", _check_directories),
        ("disk", _check_disk),
        ("helper", _check_helper),
        ("node_id", _check_node_id),
        ("pending", _check_pending),
        ("policy", _check_policy),
        ("records", _check_records),
        ("store", _check_store),
        ("uids", _check_uids),
    )
    checks: List[HealthCheck] = []
    for name, look in looks:
        try:
            status, detail = look(context)
        except OSError as error:  # not seen is not "not there"
            status, detail = "failing", f"could not look: {error.filename or name}: {error.strerror}"
        checks.append({"name": name, "status": status, "detail": detail})  # type: ignore[typeddict-item]
    for name, status, detail in fitness.checks(context):
        checks.append({"name": name, "status": status, "detail": detail})  # type: ignore[typeddict-item]
    checks.sort(key=lambda check: check["name"])
    rank = ("ok", "degraded", "failing")
    worst = max((check["status"] for check in checks), key=rank.index)
    return {"status": worst, "checks": checks}


def _must_read(path: str) -> None:
    """Raise OSError where the account databases cannot be read: getpwall() then tells of nobody."""
    with open(path, "rb"):
        pass


def _read_os() -> Os:
    found: Dict[str, str] = {}
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.strip().partition("=")
                found[key] = value.strip("\"'")
    except OSError:
        pass
    return {
        "id": found.get("ID", "linux"),
        "version_id": found.get("VERSION_ID", ""),
        "name": found.get("PRETTY_NAME", "Linux"),
    }


def _check_accounts(context: Context) -> Tuple[str, str]:
    if context.store.damage:
        return "ok", "not looked at: the store is damaged"
    _must_read("/etc/passwd")
    documents = list(context.store.list_users())
    ours = {document["login"] for document in ownership.shown_users(documents)}
    there = {account.pw_name for account in pwd.getpwall()}
    strange = [document["login"] for document in documents if document["login"] not in ours]
    gone = [document["login"] for document in documents if document["login"] not in there]
    if strange:
        return "degraded", f"not as CodeSmith made them, so they are left alone: {', '.join(strange[:NAMED_MAX])}"
    if gone:
        return "degraded", f"somebody removed: {', '.join(gone[:NAMED_MAX])}; deleting their users forgets them"
    return "ok", f"{len(documents)} of ours are there"


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
            # Root may have these two lead elsewhere: what is on the way there is looked at with the needs.
            found = os.stat(path) if path in (os.path.dirname(BASE), BASE) else os.lstat(path)
        except OSError as error:
            return "failing", f"{path}: {error.strerror}; inv node.prepare makes it anew"
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
            return "failing", f"{path} must be a directory that only root can write; {_ways(path)}"
        mode = stat.S_IMODE(found.st_mode)
        if mode & wanted != wanted:
            return "failing", f"{path} has mode {mode:04o}, and lets in too few; {_ways(path)}"
        if mode & unwanted:
            return "failing", f"{path} has mode {mode:04o}, and must be closed to all but root; {_ways(path)}"
        if path.startswith(BASE) and acls.exist(path):
            return "failing", f"{path} has an access list, and what is made in it inherits it; {_ways(path)}"
    return "ok", f"{HOMES}, {WORKSPACES} and what is around them"


def _ways(path: str) -> str:
    if path.startswith(BASE):
        return "inv node.prepare mends it"
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
        found = os.stat(HELPER_SOCKET)
    except OSError as error:
        return "failing", f"{HELPER_SOCKET}: {error.strerror}"
    if not stat.S_ISSOCK(found.st_mode):
        return "failing", f"{HELPER_SOCKET} is not a socket"
    if context.helper.damage:
        return "failing", context.helper.damage
    return "ok", "its socket is there; it starts with the first change"


def _check_node_id(context: Context) -> Tuple[str, str]:
    if not context.node_id:
        _must_read(NODE_FILE)
        return "failing", "no node id; run `inv node.prepare`"
    return "ok", context.node_id


def _check_pending(context: Context) -> Tuple[str, str]:
    pending = [" ".join([one.method, *_names(one.params)]) for one in context.store.intents()]
    if pending:
        return "degraded", f"begun and not ended: {', '.join(pending)}"
    return "ok", "no change is half-done"


def _check_records(context: Context) -> Tuple[str, str]:
    if context.store.damage:
        return "ok", "not compared: the store is damaged"
    try:
        found = comparison.differences(context)
    except ReadOnly as error:
        return "failing", error.problem
    except AgentError as error:
        hint = error.data.get("hint")
        return "degraded", f"not compared: {error.problem}" + (f"; {hint}" if hint else "")
    if not found:
        return "ok", "store, ledger and node agree"
    more = len(found) - DIFFERENCES_MAX
    return "degraded", "; ".join(found[:DIFFERENCES_MAX] + ([f"and {more} more"] if more > 0 else []))


def _names(params: Dict[str, Any]) -> List[str]:
    return [params[field] for field in TARGETS if isinstance(params.get(field), str)]


def _check_policy(context: Context) -> Tuple[str, str]:
    if context.store.damage:
        return "ok", "not looked at: the store is damaged"
    told = [f"{name} {', '.join(found)}".strip() for name, found in sorted(user.drift(context).items())]
    if told:
        return "degraded", f"{'; '.join(told[:NAMED_MAX])}; `inv node.prepare` puts accounts right"
    return "ok", "the accounts are as CodeSmith made them"


def _check_uids(context: Context) -> Tuple[str, str]:
    documents = [] if context.store.damage else ownership.shown_users(list(context.store.list_users()))
    try:
        span = uids.for_new_users()
    except Unsupported as error:
        return "failing", f"no user can be created: {error.problem}; run `inv node.prepare`"
    found = uids.problems([(document["login"], document["uid"]) for document in documents])
    return ("degraded", "; ".join(found[:NAMED_MAX])) if found else ("ok", f"new users get {span}")


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
        return "degraded", f"the disk of {reserve.folder} is full: only what makes room is done"
    return "ok", "readable and writable"
