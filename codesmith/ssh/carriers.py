"""Which program holds the SSH connection to a node: Fabric, or the operator's own `ssh` where that manages more.

`ssh:` in nodes.yaml decides. Without it Fabric is tried first; where it ends for a reason that OpenSSH may not have,
OpenSSH is tried, and what worked is remembered for the node.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from codesmith.errors import AboutSecret, AuthenticationFailed, CodeSmithError, SecretRefused, Unreachable
from codesmith.paths import ensure_private, state_dir, writing
from codesmith.secrets import SHARED, SecretRequest, Secrets
from codesmith.ssh import connection as fabric
from codesmith.ssh.carrier import FABRIC, OPENSSH, Carrier
from codesmith.ssh.connect_errors import USE_OPENSSH
from codesmith.ssh.hostkeys import HostKey
from codesmith.ssh.openssh import connection as openssh
from codesmith.ssh.target import Target


def connect(target: Target, *, timeout_s: float = 10.0, secrets: Secrets = SHARED) -> Carrier:
    """Return an open connection to `target`: host key verified, logged in, where need be with one of `secrets`.

    The promises and errors of `connection.connect`, whichever carrier it is; each has `timeout_s`.
    """
    opened = secrets.supply(lambda given: _attempt(target, timeout_s, given))
    opened.secrets = secrets
    return opened


def fetch_host_key(target: Target, *, timeout_s: float = 10.0) -> HostKey:
    """Return the host key that `target` shows now; no login is tried."""
    if target.carrier == OPENSSH:
        return openssh.fetch_host_key(target, timeout_s=timeout_s)
    try:
        return fabric.fetch_host_key(target, timeout_s=timeout_s)
    except CodeSmithError as error:
        if target.carrier or not _may_differ(error) or not openssh.is_installed():
            raise
        return openssh.fetch_host_key(target, timeout_s=timeout_s)


def _attempt(target: Target, timeout_s: float, given: Mapping[SecretRequest, str]) -> Carrier:
    first: CodeSmithError | None = None
    order = _order(target)
    for carrier in order:
        try:
            opened = _enter(carrier, target, timeout_s, given)
        except CodeSmithError as error:
            if first is not None:
                raise _telling(first, error) from None
            if (
                target.carrier == FABRIC
                and error.openssh_may_help
                and type(error) in (Unreachable, AuthenticationFailed)
            ):
                raise type(error)(error.problem, hint=USE_OPENSSH) from error
            if len(order) == 1 or not _may_differ(error):
                raise
            first = error
        else:
            if first is not None and carrier == OPENSSH:
                remember(target, first.problem)
            elif first is not None:
                forget(target)
            return opened
    raise AssertionError


def _enter(carrier: str, target: Target, timeout_s: float, given: Mapping[SecretRequest, str]) -> Carrier:
    if carrier == OPENSSH:
        return openssh.attempt(target, timeout_s, given)
    opened: Carrier = fabric.attempt(target, timeout_s, given)
    return opened


def _order(target: Target) -> tuple[str, ...]:
    if target.carrier:
        return (target.carrier,)
    if not openssh.is_installed():
        return (FABRIC,)
    return (OPENSSH, FABRIC) if recall(target) else (FABRIC, OPENSSH)


def _may_differ(error: CodeSmithError) -> bool:
    """Return whether the other carrier may get there: not by another host key, and not with a wrong password again."""
    return (isinstance(error, AuthenticationFailed) or error.openssh_may_help) and not isinstance(error, SecretRefused)


def _telling(first: CodeSmithError, second: CodeSmithError) -> CodeSmithError:
    """Return which of two failures to tell: who got as far as the login knows more; a secret may help."""
    is_about_secret = isinstance(second, AboutSecret) and not isinstance(first, AboutSecret)
    return second if is_about_secret or isinstance(first, Unreachable) else first


def recall(target: Target) -> str:
    """Return why OpenSSH is tried first for `target`; nothing if it is not."""
    try:
        data = json.loads(_path(target).read_text())
    except (OSError, ValueError):
        return ""
    return str(data.get("why", "")) if isinstance(data, dict) else ""


def remember(target: Target, why: str) -> None:
    """Try OpenSSH first for `target` from now on: Fabric ended with `why`."""
    path = _path(target)
    temporary = path.with_suffix(f".{os.getpid()}.{os.urandom(4).hex()}")
    with writing(path):
        ensure_private(path.parent)
        temporary.write_text(json.dumps({"target": str(target), "carrier": OPENSSH, "why": why}) + "\n")
        temporary.replace(path)


def forget(target: Target) -> None:
    """Try Fabric first again."""
    with writing(path := _path(target)):
        path.unlink(missing_ok=True)


def _path(target: Target) -> Path:
    place = f"{target.name}\0{target.alias or target.host}\0{target.port}\0{target.user}"
    return state_dir() / "carriers" / f"{hashlib.sha256(os.fsencode(place)).hexdigest()[:16]}.json"
