"""Pinned host keys: read known_hosts files as OpenSSH does, and judge a key.

Never accepts a key by itself. The first file that knows the host decides, so a pin beside nodes.yaml cannot be
overruled by an older line in the operator's own file.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codesmith.errors import HostKeyChanged, HostKeyUnknown

if TYPE_CHECKING:
    from codesmith.ssh.target import Target


@dataclass(frozen=True)
class HostKey:
    """A public host key: its type (`ssh-ed25519` ...) and its wire form."""

    type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """Return what `ssh-keygen -l` shows: SHA256:..."""
        return fingerprint(self.blob)


@dataclass(frozen=True)
class Pin:
    """One line of a known_hosts file that names the host."""

    path: Path
    line: int
    key: HostKey
    is_revoked: bool


def fingerprint(blob: bytes) -> str:
    """Return the SHA256 fingerprint of a public key's wire form, as OpenSSH prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def read_pins(path: Path, name: str) -> list[Pin]:
    """Return the lines of one known_hosts file that name `name`; a missing file has none."""
    return [
        pin for number, line in enumerate(_read(path).splitlines(), 1) if (pin := _parse_line(path, number, line, name))
    ]


def authorities(target: Target) -> list[str]:
    """Return where known_hosts files name an authority (`@cert-authority`) for `target`, as `path:line`."""
    # The certificate of a host is valid for all its ports, so a line may leave the port out.
    wanted = {target.key_name, target.host_key_alias or target.host.lower()}
    return [
        f"{path}:{number}"
        for path in target.known_hosts
        for number, line in enumerate(_read(path).splitlines(), 1)
        if (fields := line.split())[:1] == ["@cert-authority"] and len(fields) > 3
        if any(names(fields[1], one) for one in wanted)
    ]


def _read(path: Path) -> str:
    """Return the text of a known_hosts file; a missing file has none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise HostKeyUnknown(f"{path} cannot be read: {error.strerror}", hint=f"ls -l {path}") from error


def _parse_line(path: Path, number: int, line: str, name: str) -> Pin | None:
    fields = line.split()
    marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
    # Certificates are not supported, so the line of an authority says nothing about a plain key.
    if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", "@revoked") or not names(fields[0], name):
        return None
    try:
        blob = base64.b64decode(fields[2], validate=True)
    except (binascii.Error, ValueError):
        return None
    return Pin(path, number, HostKey(fields[1], blob), marker == "@revoked")


def names(patterns: str, name: str) -> bool:
    """Say whether a known_hosts host field covers `name`: hashed, plain, wildcards, and `!` to exclude."""
    if patterns.startswith("|1|"):
        return _is_hash_of(patterns, name)
    found = False
    for pattern in patterns.lower().split(","):
        if pattern.startswith("!") and _matches(pattern[1:], name):
            return False
        found = found or _matches(pattern, name)
    return found


def _matches(pattern: str, name: str) -> bool:
    if "*" not in pattern and "?" not in pattern:
        return pattern == name.lower()
    # OpenSSH knows * and ? only: a bracket is the literal one of [host]:port.
    return fnmatch.fnmatchcase(name.lower(), pattern.replace("[", "[[]"))


def _is_hash_of(hashed: str, name: str) -> bool:
    try:
        _, _, salt, digest = hashed.split("|")
        wanted = hmac.new(base64.b64decode(salt), name.lower().encode(), hashlib.sha1).digest()
        return hmac.compare_digest(wanted, base64.b64decode(digest))
    except (ValueError, binascii.Error):
        return False


def pins(target: Target) -> list[Pin]:
    """Return what is pinned for `target`: all lines of the first file that knows it, and every revocation."""
    valid: list[Pin] = []
    revoked: list[Pin] = []
    for path in target.known_hosts:
        found = read_pins(path, target.key_name)
        revoked += [pin for pin in found if pin.is_revoked]
        valid = valid or [pin for pin in found if not pin.is_revoked]
    return valid + revoked


def pinned_types(found: list[Pin]) -> list[str]:
    """Return the key types to ask the node for first: one that is pinned must not be missed for another."""
    return list(dict.fromkeys(pin.key.type for pin in found if not pin.is_revoked))


def verify(target: Target, key: HostKey, found: list[Pin]) -> None:
    """Return if `key` is pinned for `target`; HostKeyUnknown or HostKeyChanged say what is, and what to do."""
    revoked = [pin for pin in found if pin.is_revoked and pin.key == key]
    valid = [pin for pin in found if not pin.is_revoked]
    if revoked:
        where = f"{revoked[0].path}:{revoked[0].line}"
        raise HostKeyChanged(
            f"node {target.name}: its host key is revoked in {where}",
            hint="give the node a new key: ssh-keygen -A there",
        )
    if not valid:
        raise _unknown(target, key, authorities(target))
    if all(pin.key != key for pin in valid):
        raise _changed(target, key, valid[0])


def _unknown(target: Target, key: HostKey, vouching: list[str]) -> HostKeyUnknown:
    problem = f"node {target.name}: nobody has trusted its host key yet: {key.type} {key.fingerprint}"
    if vouching:
        problem += f"; the authority in {vouching[0]} vouches for certificates, which are not read here"
    trust = f"inv node.trust {shlex.quote(target.name)}"
    if target.jumps:  # a gateway is no node of ours: ssh asks, and its files count here too
        trust = target.ssh_line("ssh", "true")
    error = HostKeyUnknown(problem, hint=f"compare the fingerprint, then: {trust}")
    error.openssh_may_help = bool(vouching)
    return error


def _changed(target: Target, key: HostKey, pin: Pin) -> HostKeyChanged:
    problem = (
        f"node {target.name}: HOST KEY CHANGED. {target.key_name} shows {key.type} {key.fingerprint}, but "
        f"{pin.path}:{pin.line} pins {pin.key.type} {pin.key.fingerprint}. "
        "It may be another machine, or someone in between"
    )
    return HostKeyChanged(problem, hint=f"if the node was set up anew: {_removal(target, pin)}")


def _removal(target: Target, pin: Pin) -> str:
    return shlex.join(["ssh-keygen", "-R", target.key_name, "-f", str(pin.path)])


def wire_types(key_types: list[str]) -> Iterator[str]:
    """Return signature algorithms for key types: an RSA key signs with SHA-2 only."""
    for key_type in key_types:
        yield from ("rsa-sha2-512", "rsa-sha2-256") if key_type == "ssh-rsa" else (key_type,)
