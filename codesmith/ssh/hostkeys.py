"""Pinned host keys: read known_hosts files as OpenSSH does, and verify a key.

Never accepts a key by itself. The first file that names the host decides, so an older line in the operator's own file
cannot overrule a pin beside nodes.yaml.
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
    """A public host key: its type (`ssh-ed25519` ...) and its wire format."""

    type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """The fingerprint as `ssh-keygen -l` shows it: SHA256:..."""
        return fingerprint(self.blob)


@dataclass(frozen=True)
class Pin:
    """One line of a known_hosts file that names the host."""

    path: Path
    line: int
    key: HostKey
    is_revoked: bool


def fingerprint(blob: bytes) -> str:
    """Return the SHA256 fingerprint of a public key in wire format, as OpenSSH prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def read_pins(path: Path, name: str) -> list[Pin]:
    """Return the lines of one known_hosts file that name `name`; a missing file has none."""
    return [
        pin for number, line in enumerate(_read(path).splitlines(), 1) if (pin := _parse_line(path, number, line, name))
    ]


def authorities(target: Target) -> list[str]:
    """Return the lines of known_hosts files that name an authority (`@cert-authority`) for `target`, as `path:line`."""
    # A host certificate is valid for all ports of the host, so a line may leave the port out.
    wanted = {target.key_name, target.host_key_alias or target.host.lower()}
    return [
        f"{path}:{number}"
        for path in target.known_hosts
        for number, line in enumerate(_read(path).splitlines(), 1)
        if (fields := line.split())[:1] == ["@cert-authority"] and len(fields) > 3
        if any(matches_host(fields[1], one) for one in wanted)
    ]


def _read(path: Path) -> str:
    """Return the text of a known_hosts file; "" if it is missing."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise HostKeyUnknown(f"{path} cannot be read: {error.strerror}", hint=f"ls -l {path}") from error


def _parse_line(path: Path, number: int, line: str, name: str) -> Pin | None:
    fields = line.split()
    marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
    # Host certificates are not supported, and the line of an authority says nothing about a plain key.
    if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", "@revoked"):
        return None
    if not matches_host(fields[0], name):
        return None
    try:
        blob = base64.b64decode(fields[2], validate=True)
    except (binascii.Error, ValueError):
        return None
    return Pin(path, number, HostKey(fields[1], blob), marker == "@revoked")


def matches_host(patterns: str, name: str) -> bool:
    """Return whether the host field of a known_hosts line covers `name`: hashed, plain, wildcards, `!` to exclude."""
    if patterns.startswith("|1|"):
        return _is_hash_of(patterns, name)
    is_covered = False
    for pattern in patterns.lower().split(","):
        if pattern.startswith("!") and _matches(pattern[1:], name):
            return False
        is_covered = is_covered or _matches(pattern, name)
    return is_covered


def _matches(pattern: str, name: str) -> bool:
    if "*" not in pattern and "?" not in pattern:
        return pattern == name.lower()
    # OpenSSH knows only * and ?: a bracket is literal, as in [host]:port.
    return fnmatch.fnmatchcase(name.lower(), pattern.replace("[", "[[]"))


def _is_hash_of(hashed: str, name: str) -> bool:
    try:
        _, _, salt, digest = hashed.split("|")
        computed = hmac.new(base64.b64decode(salt), name.lower().encode(), hashlib.sha1).digest()
        return hmac.compare_digest(computed, base64.b64decode(digest))
    except (ValueError, binascii.Error):
        return False


def pins_for(target: Target) -> list[Pin]:
    """Return the pins for `target`: all lines of the first file that names it, and revocations from every file."""
    valid: list[Pin] = []
    revoked: list[Pin] = []
    for path in target.known_hosts:
        in_file = read_pins(path, target.key_name)
        revoked += [pin for pin in in_file if pin.is_revoked]
        valid = valid or [pin for pin in in_file if not pin.is_revoked]
    return valid + revoked


def pinned_types(pins: list[Pin]) -> list[str]:
    """Return the key types to ask the node for first: else it might present a key of a type that is not pinned."""
    return list(dict.fromkeys(pin.key.type for pin in pins if not pin.is_revoked))


def verify(target: Target, key: HostKey, pins: list[Pin]) -> None:
    """Return if `key` is among the `pins` of `target`, else raise HostKeyUnknown or HostKeyChanged."""
    revoked = [pin for pin in pins if pin.is_revoked and pin.key == key]
    valid = [pin for pin in pins if not pin.is_revoked]
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


def _unknown(target: Target, key: HostKey, authority_lines: list[str]) -> HostKeyUnknown:
    problem = f"node {target.name}: nobody has trusted its host key yet: {key.type} {key.fingerprint}"
    if authority_lines:
        problem += f"; the authority in {authority_lines[0]} vouches for certificates, which are not read here"
    trust = f"inv node.trust {shlex.quote(target.name)}"
    if target.jumps:  # a gateway is no node of ours: ssh asks, and its files count here too
        trust = target.ssh_line("ssh", "true")
    error = HostKeyUnknown(problem, hint=f"compare the fingerprint, then: {trust}")
    error.openssh_may_help = bool(authority_lines)
    return error


def _changed(target: Target, key: HostKey, pin: Pin) -> HostKeyChanged:
    problem = (
        f"node {target.name}: HOST KEY CHANGED. {target.key_name} shows {key.type} {key.fingerprint}, but "
        f"{pin.path}:{pin.line} pins {pin.key.type} {pin.key.fingerprint}. "
        "It may be another machine, or someone in between"
    )
    remove = shlex.join(["ssh-keygen", "-R", target.key_name, "-f", str(pin.path)])
    return HostKeyChanged(problem, hint=f"if the node was reinstalled: {remove}")


def wire_types(key_types: list[str]) -> Iterator[str]:
    """Yield the signature algorithms for key types; an RSA key signs with SHA-2 only."""
    for key_type in key_types:
        yield from ("rsa-sha2-512", "rsa-sha2-256") if key_type == "ssh-rsa" else (key_type,)
