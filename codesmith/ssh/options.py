"""The ssh options that CodeSmith sets itself, so that ssh_config decides neither who logs in nor what runs.

ssh uses the first value that it finds for an option, and reads its command line before any file. Light: no paramiko.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

Option = tuple[str, str]

# For every ssh that CodeSmith starts or configures.
FIXED: tuple[Option, ...] = (
    ("RemoteCommand", "none"),
    ("RequestTTY", "no"),
    ("ForkAfterAuthentication", "no"),
    ("StdinNull", "no"),
    ("EscapeChar", "none"),
    ("PermitLocalCommand", "no"),
    ("ForwardAgent", "no"),
    ("ForwardX11", "no"),
    ("Tunnel", "no"),
    ("AddKeysToAgent", "no"),
    # Only node.trust trusts a host key, and only it changes the files with pins.
    ("StrictHostKeyChecking", "yes"),
    ("UpdateHostKeys", "no"),
    ("VerifyHostKeyDNS", "no"),
    ("NoHostAuthenticationForLocalhost", "no"),
    ("KnownHostsCommand", "none"),
    ("VisualHostKey", "no"),
)
# Options of FIXED that an older ssh refuses, and the version that introduced them.
SINCE = {"KnownHostsCommand": (8, 5), "ForkAfterAuthentication": (8, 7), "StdinNull": (8, 7)}
NO_FORWARDINGS: Option = ("ClearAllForwardings", "yes")
# No shared connections: a connection that somebody else opened has their login.
NOT_SHARED: tuple[Option, ...] = (("ControlMaster", "no"), ("ControlPath", "none"))


def is_there(identity: str) -> bool:
    """Return whether a half of a key can be seen; no matter what keeps it from us."""
    for name in (identity, f"{identity}.pub"):
        with contextlib.suppress(OSError):
            if Path(name).exists():
                return True
    return False
