"""Private keys, public keys and certificates as the operator's files have them, in every form that OpenSSH reads."""

from __future__ import annotations

import base64
import binascii
import io
import struct
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

# What loading a private key raises: no such file, not a key, a passphrase is needed, a type we cannot use.
UNUSABLE = (OSError, ValueError, TypeError, paramiko.SSHException, paramiko.pkey.UnknownKeyType, UnsupportedAlgorithm)
# Of these, the ones that OpenSSH may still be able to use: keys on a security key, and types of the future.
BEYOND_US = (paramiko.pkey.UnknownKeyType, UnsupportedAlgorithm)
CLASSES: dict[type, Any] = {
    rsa.RSAPrivateKey: paramiko.RSAKey,
    ec.EllipticCurvePrivateKey: paramiko.ECDSAKey,
    ed25519.Ed25519PrivateKey: paramiko.Ed25519Key,
}
MAGIC = b"openssh-key-v1\0"
CERTIFICATE = "-cert-v01@openssh.com"
# How many fields of a certificate, after its nonce, are those of the public key (OpenSSH's PROTOCOL.certkeys).
FIELDS = {"ssh-rsa": 2, "ssh-ed25519": 1, "sk-ssh-ed25519": 2, "sk-ecdsa-sha2-nistp256": 3}


def read_private(path: str, passphrase: bytes | None = None) -> paramiko.PKey:
    """Return a private key: OpenSSH's format, PEM or PKCS#8; TypeError where a passphrase is needed."""
    data = Path(path).read_bytes()
    try:
        key = serialization.load_ssh_private_key(data, passphrase)
    except ValueError:
        key = serialization.load_pem_private_key(data, passphrase)  # type: ignore[assignment]
    for kind, of_paramiko in CLASSES.items():
        if isinstance(key, kind):
            # paramiko reads no PKCS#8; this form it knows for every type.
            how = serialization.PrivateFormat.OpenSSH
            text = key.private_bytes(serialization.Encoding.PEM, how, serialization.NoEncryption())
            return cast("paramiko.PKey", of_paramiko.from_private_key(io.StringIO(text.decode())))
    raise paramiko.pkey.UnknownKeyType(key_type=type(key).__name__, key_bytes=b"")


def read_public(path: str) -> bytes | None:
    """Return the wire form of an identity's public key: from the file itself, or the `.pub` beside it."""
    for name in (path, f"{path}.pub"):
        blob = _line(name) or _clear_half(name)
        if blob:
            return blob
    return None


def read_certificate(path: str) -> Certificate | None:
    """Return the certificate in a file, None where there is none."""
    blob = _line(path)
    return Certificate.of(blob) if blob else None


@dataclass(frozen=True)
class Certificate:
    """A certificate of a user: its type, its wire form, the public key that it certifies, and for whom and when."""

    type: str
    blob: bytes
    public: bytes
    principals: tuple[str, ...] = ()
    begins: int = 0
    ends: int = 2**64 - 1

    @classmethod
    def of(cls, blob: bytes) -> Certificate | None:
        """Return the certificate of this wire form; None for one that is no certificate."""
        try:
            (kind, _nonce), rest = _cut(blob, 2)
            name = kind.decode()
            plain = name.removesuffix(CERTIFICATE)
            fields, rest = _cut(rest, FIELDS.get(plain, 2))
            limits = _limits(rest) if plain != name else ()
        except (struct.error, UnicodeDecodeError):
            return None
        if plain == name:
            return None
        of_key = plain + "@openssh.com" if plain.startswith("sk-") else plain
        return cls(name, blob, b"".join(_string(one) for one in (of_key.encode(), *fields)), *limits)

    def why_not(self, user: str, now: float) -> str:
        """Return what of it sshd may have refused, which it tells nobody; nothing if it looks right."""
        if now >= self.ends:
            return f"expired on {datetime.fromtimestamp(self.ends):%Y-%m-%d}"
        if now < self.begins:
            return "not valid yet"
        return "" if not self.principals or user in self.principals else f"for {', '.join(self.principals)}"


class Certified(paramiko.PKey):
    """A key that is shown with a certificate; the key itself signs."""

    def __init__(self, key: paramiko.PKey, certificate: Certificate) -> None:
        super().__init__()
        self._key, self._certificate = key, certificate
        self.public_blob = paramiko.pkey.PublicBlob(certificate.type, certificate.blob)

    def get_name(self) -> str:
        """Return the type of the key."""
        return self._key.get_name()

    def asbytes(self) -> bytes:
        """Return the wire form of the certificate."""
        return self._certificate.blob

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> paramiko.Message:
        """Return the key's signature."""
        return self._key.sign_ssh_data(data, algorithm)


class AgentCertificate(paramiko.AgentKey):
    """A certificate that an ssh agent holds; paramiko would show, and ask for, the plain key in it."""

    def __init__(self, key: paramiko.AgentKey, certificate: Certificate) -> None:
        super().__init__(key.agent, key.blob, key.comment)
        self.public_blob: Any = paramiko.pkey.PublicBlob(certificate.type, certificate.blob)

    def asbytes(self) -> bytes:
        """Return the wire form of the certificate."""
        return bytes(self.blob)


def _line(path: str) -> bytes | None:
    """Return the key of a file with one line, `type base64 comment`."""
    try:
        fields = Path(path).read_text(encoding="utf-8", errors="replace").split()
        blob = base64.b64decode(fields[1], validate=True)
        (kind,), _ = _cut(blob, 1)
    except (OSError, IndexError, ValueError, binascii.Error, struct.error):
        return None
    return blob if kind.decode(errors="replace") == fields[0] else None


def _clear_half(path: str) -> bytes | None:
    """Return the public key of a private one in OpenSSH's format, which is in clear."""
    try:
        lines = Path(path).read_text(encoding="ascii").strip().splitlines()
        data = base64.b64decode("".join(lines[1:-1]))
        if not data.startswith(MAGIC):
            return None
        _, rest = _cut(data[len(MAGIC) :], 3)
        (blob,), _ = _cut(rest[4:], 1)
    except (OSError, ValueError, binascii.Error, struct.error):
        return None
    return blob


def _limits(data: bytes) -> tuple[tuple[str, ...], int, int]:
    """Return principals, begin and end of a certificate, from what follows its public key (PROTOCOL.certkeys)."""
    (_name, principals), times = _cut(data[12:], 2)
    names, rest = [], principals
    while rest:
        (name,), rest = _cut(rest, 1)
        names.append(name.decode(errors="replace"))
    return (tuple(names), *struct.unpack_from(">QQ", times))


def _cut(data: bytes, count: int) -> tuple[list[bytes], bytes]:
    """Return so many strings (RFC 4251, 5) and what follows them."""
    found = []
    for _ in range(count):
        (size,) = struct.unpack_from(">I", data)
        if len(data) < 4 + size:
            raise struct.error("cut short")
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found, data


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
