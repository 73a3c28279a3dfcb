"""The options of every `ssh` of ours: who we are, and what runs there, is not for the ssh configuration to say.

OpenSSH takes the first value that it meets, and the command line comes before all files. Light: no paramiko.
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

# Whoever asks for more (`-t`, an escape character) says so before these.
SETTINGS: tuple[Option, ...] = (
    # A session that somebody else opened has their login.
    ("ControlMaster", "no"),
    ("ControlPath", "none"),
    ("ControlPersist", "no"),
    ("RemoteCommand", "none"),
    ("RequestTTY", "no"),
    ("SessionType", "default"),
    ("ForkAfterAuthentication", "no"),
    ("StdinNull", "no"),
    ("EscapeChar", "none"),
    ("PermitLocalCommand", "no"),
    ("ForwardAgent", "no"),
    ("ForwardX11", "no"),
    ("ForwardX11Trusted", "no"),
    ("Tunnel", "no"),
    ("AddKeysToAgent", "no"),
    ("CanonicalizeHostname", "no"),
    # A host key is trusted by node.trust alone, and the files of pins change by it alone.
    ("StrictHostKeyChecking", "yes"),
    ("UpdateHostKeys", "no"),
    ("VerifyHostKeyDNS", "no"),
    ("NoHostAuthenticationForLocalhost", "no"),
    ("KnownHostsCommand", "none"),
    ("VisualHostKey", "no"),
)
NO_FORWARDINGS: Option = ("ClearAllForwardings", "yes")
# Values that are paths: they may hold blanks, and a % that stands for itself.
PATHS = ("CertificateFile", "IdentityAgent", "IdentityFile")
SHORT = {"Port": "-p", "IdentityFile": "-i"}


def arguments(options: Iterable[Option]) -> tuple[str, ...]:
    """Return options as words of a command line."""
    return tuple(word for keyword, value in options for word in _argument(keyword, value))


def lines(options: Iterable[Option]) -> list[str]:
    """Return options as lines of an ssh configuration."""
    return [f"{keyword} {_written(keyword, value)}" for keyword, value in options]


OWN = tuple(word for keyword, value in (*SETTINGS, NO_FORWARDINGS) for word in ("-o", f"{keyword}={value}"))


def leading_to(target: Target) -> Iterator[Option]:
    """Yield what makes `ssh` go where `target` leads, whatever login it is given: address, gateway, host key, keys.

    All of it is said: a `Match user` of the ssh configuration may have other values for the login of a workspace.
    """
    yield "Port", str(target.port)
    yield from (("IdentityFile", path) for path in target.identities if is_there(path))
    yield from (("CertificateFile", path) for path in target.certificates)
    yield "IdentitiesOnly", "yes" if target.identities_only else "no"
    yield "IdentityAgent", target.identity_agent or "SSH_AUTH_SOCK"
    yield "HostName", target.host.replace("%", "%%")
    yield "HostKeyAlias", _name_of_key(target)
    yield _way(target)
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


def _name_of_key(target: Target) -> str:
    """Return the name under which the host key is looked up; a certificate of a host has no port in its names."""
    if target.host_key_alias or target.port == SSH_PORT or not hostkeys.authorities(target):
        return target.key_name
    return target.host.lower()


def _way(target: Target) -> Option:
    """Return how the connection is made; gateways are verified and entered as ours are, not as `ssh -J` would."""
    gateway = gateway_of(target)
    if gateway is None:
        # ProxyJump, once said, also keeps a ProxyCommand of the files out.
        command = target.proxy_command
        return ("ProxyCommand", command.replace("%", "%%")) if command else ("ProxyJump", "none")
    options = arguments(leading_to(gateway))
    words = ("ssh", *OWN, *options, "-l", gateway.user, "-W", "[HOST]:PORT", "--", gateway.alias or gateway.host)
    return "ProxyCommand", shlex.join(words).replace("%", "%%").replace("[HOST]:PORT", "[%h]:%p")


def _argument(keyword: str, value: str) -> tuple[str, str]:
    if keyword == "IdentityFile":
        return SHORT[keyword], value.replace("%", "%%")
    return (SHORT[keyword], value) if keyword in SHORT else ("-o", f"{keyword}={_written(keyword, value)}")


def _written(keyword: str, value: str) -> str:
    return _quoted(value) if keyword in PATHS else value


def _quoted(path: str) -> str:
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
