"""Connect to a node with the carrier that works for it: Fabric, or the operator's own `ssh`, which supports more.

`ssh:` in nodes.yaml names the carrier. Without it Fabric is tried first. If Fabric fails for a reason that OpenSSH may
not have, OpenSSH is tried, and if that works it is tried first from then on.
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
from codesmith.ssh import fabric_connection as fabric
from codesmith.ssh.connect_errors import USE_OPENSSH
from codesmith.ssh.connection import FABRIC, OPENSSH, Connection
from codesmith.ssh.hostkeys import HostKey
from codesmith.ssh.openssh import connection as openssh
from codesmith.ssh.target import Target


def connect(target: Target, *, timeout_s: float = 10.0, secrets: Secrets = SHARED) -> Connection:
    """Return an open connection to `target`: host key verified, logged in, with one of `secrets` if need be.

    Promises and raises what `fabric_connection.connect` does, with either carrier. Each attempt has `timeout_s`.
    """
    opened = secrets.supply(lambda given: _attempt(target, timeout_s, given))
    opened.secrets = secrets
    return opened


def fetch_host_key(target: Target, *, timeout_s: float = 10.0) -> HostKey:
    """Return the host key that `target` presents now; no login is tried."""
    if target.carrier == OPENSSH:
        return openssh.fetch_host_key(target, timeout_s=timeout_s)
    try:
        return fabric.fetch_host_key(target, timeout_s=timeout_s)
    except CodeSmithError as error:
        if target.carrier or not _may_work_otherwise(error) or not openssh.is_installed():
            raise
        return openssh.fetch_host_key(target, timeout_s=timeout_s)


def _attempt(target: Target, timeout_s: float, given: Mapping[SecretRequest, str]) -> Connection:
    first_error: CodeSmithError | None = None
    order = _order(target)
    for carrier in order:
        try:
            opened = _attempt_with(carrier, target, timeout_s, given)
        except CodeSmithError as error:
            if first_error is not None:
                raise _more_telling(first_error, error) from None
            # SecretNeeded and SecretRefused keep their hints.
            is_plain = type(error) in (Unreachable, AuthenticationFailed)
            if target.carrier == FABRIC and error.openssh_may_help and is_plain:
                raise type(error)(error.problem, hint=USE_OPENSSH) from error
            if len(order) == 1 or not _may_work_otherwise(error):
                raise
            first_error = error
        else:
            if first_error is not None and carrier == OPENSSH:
                remember(target, first_error.problem)
            elif first_error is not None:
                forget(target)
            return opened
    raise AssertionError


def _attempt_with(carrier: str, target: Target, timeout_s: float, given: Mapping[SecretRequest, str]) -> Connection:
    if carrier == OPENSSH:
        return openssh.attempt(target, timeout_s, given)
    opened: Connection = fabric.attempt(target, timeout_s, given)
    return opened


def _order(target: Target) -> tuple[str, ...]:
    if target.carrier:
        return (target.carrier,)
    if not openssh.is_installed():
        return (FABRIC,)
    return (OPENSSH, FABRIC) if recall(target) else (FABRIC, OPENSSH)


def _may_work_otherwise(error: CodeSmithError) -> bool:
    """Return whether the other carrier may succeed; a wrong password is not tried again."""
    return (isinstance(error, AuthenticationFailed) or error.openssh_may_help) and not isinstance(error, SecretRefused)


def _more_telling(first: CodeSmithError, second: CodeSmithError) -> CodeSmithError:
    """Return the first error, unless only the second carrier reached the login or only it could use a secret."""
    is_about_secret = isinstance(second, AboutSecret) and not isinstance(first, AboutSecret)
    return second if is_about_secret or isinstance(first, Unreachable) else first


def recall(target: Target) -> str:
    """Return why OpenSSH is tried first for `target`: Fabric's error. "" if Fabric is tried first."""
    try:
        data = json.loads(_path(target).read_text())
    except (OSError, ValueError):
        return ""
    return str(data.get("why", "")) if isinstance(data, dict) else ""


def remember(target: Target, why: str) -> None:
    """Have OpenSSH tried first for `target` from now on, because Fabric failed with `why`."""
    path = _path(target)
    temporary = path.with_suffix(f".{os.getpid()}.{os.urandom(4).hex()}")
    with writing(path):
        ensure_private(path.parent)
        temporary.write_text(json.dumps({"target": str(target), "carrier": OPENSSH, "why": why}) + "\n")
        temporary.replace(path)


def forget(target: Target) -> None:
    """Have Fabric tried first for `target` again."""
    with writing(path := _path(target)):
        path.unlink(missing_ok=True)


def _path(target: Target) -> Path:
    key = f"{target.name}\0{target.alias or target.host}\0{target.port}\0{target.user}"
    return state_dir() / "carriers" / f"{hashlib.sha256(os.fsencode(key)).hexdigest()[:16]}.json"
