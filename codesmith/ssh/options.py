"""The ssh options that CodeSmith sets itself, so that ssh_config decides neither who logs in nor what runs.

ssh uses the first value that it finds for an option, and reads its command line before any file. Light: no paramiko.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from codesmith.ssh import hostkeys
from codesmith.ssh.gateway import gateway_of
from codesmith.ssh.target import SSH_PORT, Target

Option = tuple[str, str]

# For every ssh that CodeSmith starts or configures. A caller that wants more (`-t`, an escape character) says so first.
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
# For an ssh that opens one session and ends with it.
SESSION_OPTIONS: tuple[Option, ...] = (
    *NOT_SHARED,
    ("ControlPersist", "no"),
    ("SessionType", "default"),
    ("ForwardX11Trusted", "no"),
    ("CanonicalizeHostname", "no"),
    *FIXED,
)
# Values that are paths: they may hold blanks, and a literal %.
PATHS = ("CertificateFile", "IdentityAgent", "IdentityFile")
SHORT = {"Port": "-p", "IdentityFile": "-i"}


def arguments(options: Iterable[Option]) -> tuple[str, ...]:
    """Return options as words of a command line."""
    return tuple(word for keyword, value in options for word in _argument(keyword, value))


def config_lines(options: Iterable[Option]) -> list[str]:
    """Return options as lines of an ssh configuration."""
    return [f"{keyword} {_value(keyword, value)}" for keyword, value in options]


# The words of a command line for SESSION_OPTIONS, without any forwarding.
SESSION_ARGUMENTS = tuple(
    word for keyword, value in (*SESSION_OPTIONS, NO_FORWARDINGS) for word in ("-o", f"{keyword}={value}")
)


def route_options(target: Target) -> Iterator[Option]:
    """Yield the options that take `ssh` to `target` for any login: address, gateway, host key, keys.

    They name every value: a `Match user` of the ssh configuration may have other values for the login of a workspace.
    """
    yield "Port", str(target.port)
    yield from (("IdentityFile", path) for path in target.identities if is_there(path))
    yield from (("CertificateFile", path) for path in target.certificates)
    yield "IdentitiesOnly", "yes" if target.identities_only else "no"
    yield "IdentityAgent", target.identity_agent or "SSH_AUTH_SOCK"
    yield "HostName", target.host.replace("%", "%%")
    yield "HostKeyAlias", _host_key_name(target)
    yield _proxy(target)
    yield "ProxyUseFdpass", "yes" if target.proxy_gives_socket else "no"
    yield "UserKnownHostsFile", " ".join(_quoted(str(path)) for path in target.known_hosts) or os.devnull
    yield "GlobalKnownHostsFile", os.devnull


def is_there(identity: str) -> bool:
    """Return whether a half of a key can be seen; no matter what keeps it from us."""
    for name in (identity, f"{identity}.pub"):
        with contextlib.suppress(OSError):
            if Path(name).exists():
                return True
    return False


def _host_key_name(target: Target) -> str:
    """Return the name under which ssh looks up the host key; the names in a host certificate have no port."""
    if target.host_key_alias or target.port == SSH_PORT or not hostkeys.authorities(target):
        return target.key_name
    return target.host.lower()


def _proxy(target: Target) -> Option:
    """Return the proxy option; gateways are verified and logged in to as `connect` does it, not as `ssh -J` would."""
    gateway = gateway_of(target)
    if gateway is None:
        # An explicit ProxyJump also overrides a ProxyCommand of the files.
        command = target.proxy_command
        return ("ProxyCommand", command.replace("%", "%%")) if command else ("ProxyJump", "none")
    options = (*SESSION_ARGUMENTS, *arguments(route_options(gateway)))
    words = ("ssh", *options, "-l", gateway.user, "-W", "[HOST]:PORT", "--", gateway.alias or gateway.host)
    return "ProxyCommand", shlex.join(words).replace("%", "%%").replace("[HOST]:PORT", "[%h]:%p")


def _argument(keyword: str, value: str) -> tuple[str, str]:
    if keyword == "IdentityFile":
        return SHORT[keyword], value.replace("%", "%%")
    return (SHORT[keyword], value) if keyword in SHORT else ("-o", f"{keyword}={_value(keyword, value)}")


def _value(keyword: str, value: str) -> str:
    return _quoted(value) if keyword in PATHS else value


def _quoted(path: str) -> str:
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
