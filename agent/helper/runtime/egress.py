"""The one way out of a runtime that has an allow-list: a socket inside its network namespace, a proxy outside.

A socket unit binds 127.0.0.1:3128 inside the namespace that it shares with the runtime's service. The first connection
starts the proxy: it has the node's network, no privileges and a uid of its own. It ends with the runtime's service.
A clone of the operator's has the same, in mode `open`: to every host but the node itself.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import Any, Dict, Iterable, List, NamedTuple, Optional

from agent.helper.runtime.sandboxes import Sandbox
from agent.shared import git_hosts
from agent.shared.egress_paths import BEHIND, DENIED, DENIED_BYTES_MAX, LIVE, POLICIES, PORT
from agent.shared.names import unit_of
from agent.shared.run import run

POLICY = "policy.json"
HINT = "inv sandbox.update {} --allow {{host}}"
SOCKET = (
    f"ListenStream=127.0.0.1:{PORT}", "PrivateNetwork=yes", "Backlog=1024",
    # A proxy that fails again and again is not started for ever: the way out is closed until the runtime's next start.
    "TriggerLimitIntervalSec=60", "TriggerLimitBurst=20",
)  # fmt: skip
SERVICE = (
    "Type=exec", "DynamicUser=yes", "UMask=0022", "RuntimeDirectoryMode=0755",
    "StandardInput=null", "StandardOutput=null", "StandardError=journal", "StartLimitIntervalSec=0", "TimeoutStopSec=5",
    "NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict", "ProtectHome=yes", "PrivateDevices=yes",
    "PrivateTmp=yes", "ProtectProc=invisible", "ProtectClock=yes", "ProtectHostname=yes", "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes", "ProtectKernelTunables=yes", "ProtectControlGroups=yes",
    # AF_UNIX and AF_NETLINK: the resolver asks services of the node, and which addresses it has.
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX", "RestrictNamespaces=yes", "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes", "LockPersonality=yes", "MemoryDenyWriteExecute=yes", "KeyringMode=private",
    "DevicePolicy=closed", "SystemCallArchitectures=native", "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources", "SystemCallErrorNumber=EPERM",
    "InaccessiblePaths=-/srv/codesmith -/run/codesmith/workspaces -/etc/ssh -/etc/codesmith -/run/dbus",
    "LimitNOFILE=8192", "LimitCORE=0", f"LimitFSIZE={4 * DENIED_BYTES_MAX}",
    "MemoryMax=192M", "MemorySwapMax=0", "TasksMax=64", "OOMScoreAdjust=300",
)  # fmt: skip


class ProxyUnits(NamedTuple):
    """The units of one way out, and the service that it belongs to: a runtime's, or that of a probe."""

    name: str
    service: str

    @property
    def socket_unit(self) -> str:
        """The socket unit, which binds inside the namespace of the service."""
        return unit(self.name, "socket")

    @property
    def folder(self) -> str:
        """The folder of the policy, root's."""
        return f"{POLICIES}/{self.name}"


def unit(name: str, kind: str) -> str:
    """Return the socket or service unit of a way out."""
    return f"codesmith-egress@{name}.{kind}"


def beside_runtime(workspace: str) -> ProxyUnits:
    """Return the way out of a workspace's runtime."""
    return ProxyUnits(workspace, unit_of(workspace, "service"))


def beside_probe(workspace: str, service: str) -> ProxyUnits:
    """Return the way out of a probe; no workspace has such a name."""
    return ProxyUnits(f"{workspace}.probe", service)


def joining(way: ProxyUnits) -> List[str]:
    """Return the properties of the service that has this way out and no other."""
    return ["PrivateNetwork=yes", f"JoinsNamespaceOf={way.socket_unit}"]


def environment() -> Dict[str, str]:
    """Return the variables by which programs inside find the proxy, in both spellings; Node is told to read them."""
    http = f"http://127.0.0.1:{PORT}"
    values = {"http_proxy": http, "https_proxy": http, "all_proxy": http}
    values["no_proxy"] = "localhost,127.0.0.1,::1"
    both = {spelling: value for name, value in values.items() for spelling in (name, name.upper())}
    return {**both, "NODE_USE_ENV_PROXY": "1", BEHIND: f"127.0.0.1:{PORT}"}


def write_policy(sandbox: Optional[Sandbox]) -> bool:
    """Let the proxy of a workspace obey its lists as they are now; return whether there is one that reads them.

    It reads them within a second, and ends the connections that they forbid. While the operator's clone runs in the
    runtime nothing is written: the next start writes what the ledger says then.
    """
    if sandbox is None or sandbox.mode != "list":
        return False
    way = beside_runtime(sandbox.workspace)
    if _read(f"{way.folder}/{POLICY}").get("mode") != "list":
        return False
    _write(way, _policy(sandbox, for_clone=False))
    return True


def start(way: ProxyUnits, sandbox: Sandbox, *, for_clone: bool, release: str) -> None:
    """Make the policy and the socket of a way out; the caller has stopped the one before."""
    _write(way, _policy(sandbox, for_clone=for_clone))
    live, kept = f"{LIVE}/{way.name}/{DENIED}", f"{way.folder}/{DENIED}"
    # The directory of the proxy goes with it. dd copies no more than so much, follows no link and waits for nothing.
    copy = f"/bin/dd bs={DENIED_BYTES_MAX} count=1 status=none iflag=nofollow,nonblock,fullblock"
    words = [
        "--quiet", "--collect", f"--unit={unit(way.name, 'service')}", "--slice=codesmith.slice",
        *_pairs("--socket-property", [*SOCKET, f"JoinsNamespaceOf={way.service}"]),
        *_pairs("--property", [
            *SERVICE, f"RuntimeDirectory={LIVE.rpartition('/')[2]}/{way.name}",
            f"BindsTo={way.service}", f"After={way.service}", f"Description=CodeSmith network of {way.name}",
            f"ExecStartPre=-{copy} if={kept} of={live}", f"ExecStopPost=-+{copy} if={live} of={kept}",
        ]),
        "--", sys.executable, "-I", "-S", release, "egress", way.folder,
    ]  # fmt: skip
    run("systemd-run", *words)


def is_up(way: ProxyUnits) -> bool:
    """Return whether the socket of a way out listens."""
    return run("systemctl", "is-active", "--quiet", "--", way.socket_unit, allowed=(0, 3, 4)).returncode == 0


def units_of(names: Iterable[str], kind: str) -> List[str]:
    """Return the units of those workspaces that have a way out, for `systemctl stop`."""
    return [unit(name, kind) for name in names if os.path.isdir(f"{POLICIES}/{name}")]


def stop(way: ProxyUnits) -> None:
    """End a way out, and forget what it has refused."""
    run("systemctl", "stop", "--", way.socket_unit, unit(way.name, "service"), allowed=(0, 5))
    remove_files(way.name)


def remove_files(name: str) -> None:
    """Remove the policy of a way out whose units have ended, and what it has refused."""
    shutil.rmtree(f"{POLICIES}/{name}", ignore_errors=True)
    try:
        os.rmdir(POLICIES)
    except OSError:
        pass  # others have one, or nobody ever had


def _policy(sandbox: Sandbox, *, for_clone: bool) -> Dict[str, Any]:
    lists = {"allow": git_hosts.read(), "deny": []} if for_clone else sandbox.network
    assert isinstance(lists, dict)  # no other mode has a proxy
    return {
        "workspace": sandbox.workspace,
        "mode": "open" if for_clone else "list",
        **lists,
        "hint": HINT.format(sandbox.workspace),
    }


def _write(way: ProxyUnits, policy: Dict[str, Any]) -> None:
    for folder in (POLICIES, way.folder):
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)  # noqa: S103  the helper's umask has taken the others' bits; the proxy is another uid
    with open(f"{way.folder}/{POLICY}.new", "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o644)
        json.dump(policy, file)
    os.replace(f"{way.folder}/{POLICY}.new", f"{way.folder}/{POLICY}")


def _read(path: str) -> Dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _pairs(option: str, values: List[str]) -> List[str]:
    return [part for value in values for part in (option, value)]
