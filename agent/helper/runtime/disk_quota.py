"""The limit of a workspace's files on disk, as a project quota of the file system that they are on.

Home and directory of a workspace are one project, whose id is the login's uid. Only setting the limit needs a right
that the helper does not have: a unit of its own does it.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Dict, Iterator, List, Tuple

from agent.helper.ledger.ledger import Ledger
from agent.helper.runtime import quota_support, units
from agent.helper.runtime.entry import Entry
from agent.helper.trees import projects, trees
from agent.shared.errors import InUse, Unsupported
from agent.shared.names import BASE, HOMES, WORKSPACES, login_of
from agent.shared.run import run

QUOTA_S = 20.0
ISOLATION = (
    "CapabilityBoundingSet=CAP_SYS_ADMIN", "NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes",
    "PrivateTmp=yes", "PrivateNetwork=yes", "ProtectClock=yes", "ProtectHostname=yes", "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes", "ProtectKernelTunables=yes", "ProtectControlGroups=yes", "RestrictNamespaces=yes",
    "RestrictSUIDSGID=yes", "LockPersonality=yes", "RestrictAddressFamilies=AF_UNIX", "DevicePolicy=closed",
    "SystemCallArchitectures=native", "SystemCallFilter=@system-service quotactl", "SystemCallErrorNumber=EPERM",
    f"RuntimeMaxSec={QUOTA_S:.0f}",
)  # fmt: skip


def is_counted(entry: Entry) -> bool:
    """Tell whether all files of a workspace belong to its project: those of one made on such a disk do."""
    with _tops(entry) as tops:
        return all(projects.is_in(top, entry.uid) for top in tops)


def count(entry: Entry) -> None:
    """Put all files of a workspace into its project. Nothing may run in it meanwhile."""
    with _tops(entry) as tops:
        for top in tops:
            projects.put_tree(top, entry.uid)


def set_limit(entry: Entry, limit_bytes: int, *, force: bool) -> None:
    """Set the limit of a workspace whose files are counted.

    InUse when it uses more now, unless `force`. Unsupported when the file system does not show it then.
    """
    reply = _call(entry.workspace, entry.uid, limit_bytes, force=force)
    if reply["limit_bytes"] != limit_bytes // 1024 * 1024:
        used = f"{reply['used']['bytes']} bytes of disk in {reply['used']['files']} files"
        raise InUse(
            f"workspace {entry.workspace!r} uses {used} now, which is more than {limit_bytes} bytes allow",
            hint=f"remove files, or: inv sandbox.update {entry.workspace} --disk SIZE --force; until files are removed "
            "nothing can be written then",
        )
    if not is_shown(entry.workspace, limit_bytes):
        _call(entry.workspace, entry.uid, reply["before_bytes"], force=True)
        raise quota_support.refusal(entry.workspace, f"{BASE} shows no limit, though it was set")


def remove_limit(workspace: str, uid: int) -> None:
    """Remove the limit of a workspace; nothing, where the file system has no quotas any more."""
    with suppress(Unsupported):
        _call(workspace, uid, 0, force=True)


def forget(ledger: Ledger, workspace: str) -> None:
    """Remove the limit of a workspace, if the ledger has one, before the ledger forgets its sandbox."""
    login, sandbox = ledger.login(workspace), ledger.sandbox(workspace)
    if login is not None and sandbox is not None and "disk_bytes" in sandbox[0]:
        remove_limit(workspace, login.uid)


def is_shown(workspace: str, limit_bytes: float) -> bool:
    """Tell whether the file system says of both directories of a workspace that they have no more room than that."""
    sizes = (os.statvfs(f"{parent}/{name}") for parent, name in _places(workspace))
    return all(size.f_blocks * size.f_frsize <= limit_bytes for size in sizes)


def _places(workspace: str) -> Tuple[Tuple[str, str], ...]:
    return (HOMES, login_of(workspace)), (WORKSPACES, workspace)


@contextmanager
def _tops(entry: Entry) -> Iterator[List[int]]:
    """Hold the directories of a workspace."""
    with ExitStack() as held:
        tops: List[int] = []
        for parent, name in _places(entry.workspace):
            base = held.enter_context(trees.open_base(parent))
            tops.append(os.open(name, trees.DIRECTORY, dir_fd=base))
            held.callback(os.close, tops[-1])
        yield tops


def _call(workspace: str, uid: int, limit_bytes: float, *, force: bool) -> Dict[str, Any]:
    """Run the program that sets a limit and return what it says; Unsupported when the kernel refuses."""
    device = quota_support.device_of(workspace)
    words = [
        "--quiet", "--collect", "--pipe", "--wait", f"--unit=codesmith-quota@{workspace}.service",
        *units.pairs("--property", [*ISOLATION, f"Description=Disk limit of CodeSmith workspace {workspace}"]),
        *units.command("quota"), device, str(uid), f"{limit_bytes:.0f}", "force" if force else "",
    ]  # fmt: skip
    reply: Dict[str, Any] = json.loads(run("systemd-run", *words, timeout_s=2 * QUOTA_S).stdout)
    if "problem" in reply:
        raise quota_support.refusal(workspace, f"quotactl of {device}: {reply['problem']}")
    return reply
