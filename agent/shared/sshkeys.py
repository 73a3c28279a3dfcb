"""Public SSH keys: one per line, never with options.

Wire form: RFC 4253, section 6.6 (a key blob begins with its own type as a length-prefixed string).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from typing import List, NamedTuple

from agent.shared.errors import InvalidParams, Unsupported
from agent.shared.run import run

TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
RSA_BITS_MIN = 2048


class PublicKey(NamedTuple):
    """A public key as shown to people; the fingerprint as ssh-keygen prints it."""

    type: str
    fingerprint: str
    comment: str


def parse_keys(lines: List[str]) -> List[str]:
    """Return the keys in canonical form, without duplicates; InvalidParams names the bad one."""
    keys = (_parse(line, f"ssh_keys[{index}]") for index, line in enumerate(lines))
    return list(dict.fromkeys(keys))


def parse_key(line: str, field: str) -> str:
    """Return one key as `type base64`, without its comment; InvalidParams names the field."""
    return " ".join(_parse(line, field).split(" ")[:2])


def read_keys(lines: List[str]) -> List[str]:
    """Return the keys as `parse_keys` does; where ssh-keygen is installed, it must accept them too."""
    keys = parse_keys(lines)
    for index, line in enumerate(lines):
        if keys and not _is_read_by_openssh(line):
            raise InvalidParams.of(f"ssh_keys[{index}]", "is not a public key: ssh-keygen does not accept it")
    return keys


def _is_read_by_openssh(line: str) -> bool:
    """Return whether ssh-keygen prints the same fingerprint for this key; True when it is not installed."""
    key = _parse(line, "ssh_keys")
    try:
        done = run("ssh-keygen", "-l", "-E", "sha256", "-f", "-", text=f"{key}\n", allowed=range(256), timeout_s=10)
    except Unsupported:
        return True
    return done.returncode == 0 and describe(key).fingerprint in done.stdout.split()


def describe(line: str) -> PublicKey:
    """Return type, fingerprint and comment of a canonical key line."""
    kind, blob, comment = (line.split(" ", 2) + [""])[:3]
    digest = hashlib.sha256(base64.b64decode(blob)).digest()
    fingerprint = "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
    return PublicKey(kind, fingerprint, comment)


def _parse(line: str, field: str) -> str:
    if re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", line):
        raise InvalidParams.of(field, "must be one line without control characters")
    # Only spaces: Python splits words at other white space too, sshd does not.
    kind, blob, comment = (re.split(" +", line.strip(" "), maxsplit=2) + ["", "", ""])[:3]
    if kind not in TYPES:
        raise InvalidParams.of(field, f"must begin with a key type ({', '.join(TYPES)}); options are refused")
    fields = _blob_fields(blob)
    if not fields or fields[0] != kind.encode():
        raise InvalidParams.of(field, "is not a public key: its data does not match its type")
    if kind == "ssh-rsa" and (len(fields) != 3 or len(fields[2].lstrip(b"\0")) * 8 < RSA_BITS_MIN):
        raise InvalidParams.of(field, f"an RSA key needs at least {RSA_BITS_MIN} bits")
    return f"{kind} {blob} {comment}".rstrip()


def _blob_fields(blob: str) -> List[bytes]:
    """Split a key blob into its length-prefixed fields; empty when it is not one."""
    try:
        data = base64.b64decode(blob, validate=True)
    except (binascii.Error, ValueError):
        return []
    fields: List[bytes] = []
    while data:
        if len(data) < 4:
            return []
        size = struct.unpack(">I", data[:4])[0]
        if len(data) < 4 + size:
            return []
        fields.append(data[4 : 4 + size])
        data = data[4 + size :]
    return fields if len(fields) >= 2 else []
