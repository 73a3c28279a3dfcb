"""Read private keys, public keys and certificates from files, in every format that OpenSSH reads."""

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

# What reading a private key raises: no such file, no key, a passphrase is needed, a type that cannot be used here.
UNUSABLE = (OSError, ValueError, TypeError, paramiko.SSHException, paramiko.pkey.UnknownKeyType, UnsupportedAlgorithm)
# Of these, the ones for keys that OpenSSH may be able to use: keys on a security key, and newer types.
NEEDS_OPENSSH = (paramiko.pkey.UnknownKeyType, UnsupportedAlgorithm)
CLASSES: dict[type, Any] = {
    rsa.RSAPrivateKey: paramiko.RSAKey,
    ec.EllipticCurvePrivateKey: paramiko.ECDSAKey,
    ed25519.Ed25519PrivateKey: paramiko.Ed25519Key,
}
MAGIC = b"openssh-key-v1\0"
CERTIFICATE = "-cert-v01@openssh.com"
# How many fields after the nonce of a certificate are the public key (OpenSSH's PROTOCOL.certkeys).
FIELDS = {"ssh-rsa": 2, "ssh-ed25519": 1, "sk-ssh-ed25519": 2, "sk-ecdsa-sha2-nistp256": 3}


def read_private(path: str, passphrase: bytes | None = None) -> paramiko.PKey:
    """Return a private key in OpenSSH's format, PEM or PKCS#8; TypeError if it needs a passphrase, else UNUSABLE."""
    data = Path(path).read_bytes()
    try:
        key = serialization.load_ssh_private_key(data, passphrase)
    except ValueError:
        key = serialization.load_pem_private_key(data, passphrase)  # type: ignore[assignment]
    for kind, of_paramiko in CLASSES.items():
        if isinstance(key, kind):
            # paramiko cannot read PKCS#8; it reads OpenSSH's format for every type.
            how = serialization.PrivateFormat.OpenSSH
            text = key.private_bytes(serialization.Encoding.PEM, how, serialization.NoEncryption())
            return cast("paramiko.PKey", of_paramiko.from_private_key(io.StringIO(text.decode())))
    raise paramiko.pkey.UnknownKeyType(key_type=type(key).__name__, key_bytes=b"")


def read_public(path: str) -> bytes | None:
    """Return an identity's public key in wire format, from the file or the `.pub` beside it; None without one."""
    for name in (path, f"{path}.pub"):
        blob = _public_line(name) or _public_half(name)
        if blob:
            return blob
    return None


def read_certificate(path: str) -> Certificate | None:
    """Return the certificate in a file; None if there is none."""
    blob = _public_line(path)
    return Certificate.of(blob) if blob else None


@dataclass(frozen=True)
class Certificate:
    """A user certificate: its type and wire format, the public key that it certifies, its principals and its times."""

    type: str
    blob: bytes
    public: bytes
    principals: tuple[str, ...] = ()
    begins: int = 0
    ends: int = 2**64 - 1

    @classmethod
    def of(cls, blob: bytes) -> Certificate | None:
        """Return the certificate with this wire format; None if it is no certificate."""
        try:
            (kind, _nonce), rest = _split_strings(blob, 2)
            name = kind.decode()
            plain = name.removesuffix(CERTIFICATE)
            fields, rest = _split_strings(rest, FIELDS.get(plain, 2))
            limits = _limits(rest) if plain != name else ()
        except (struct.error, UnicodeDecodeError):
            return None
        if plain == name:
            return None
        of_key = plain + "@openssh.com" if plain.startswith("sk-") else plain
        return cls(name, blob, b"".join(_string(one) for one in (of_key.encode(), *fields)), *limits)

    def flaw(self, user: str, now: float) -> str:
        """Return why sshd may refuse it, which sshd writes only to its own log; "" if it looks valid."""
        if now >= self.ends:
            return f"expired on {datetime.fromtimestamp(self.ends):%Y-%m-%d}"
        if now < self.begins:
            return "not valid yet"
        return "" if not self.principals or user in self.principals else f"for {', '.join(self.principals)}"


class CertifiedKey(paramiko.PKey):
    """A key that is offered with a certificate; the key itself signs."""

    def __init__(self, key: paramiko.PKey, certificate: Certificate) -> None:
        super().__init__()
        self._key, self._certificate = key, certificate
        self.public_blob = paramiko.pkey.PublicBlob(certificate.type, certificate.blob)

    def get_name(self) -> str:
        """Return the type of the plain key."""
        return self._key.get_name()

    def asbytes(self) -> bytes:
        """Return the wire format of the certificate."""
        return self._certificate.blob

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> paramiko.Message:
        """Return the signature of the plain key."""
        return self._key.sign_ssh_data(data, algorithm)


class AgentCertificate(paramiko.AgentKey):
    """A certificate in an ssh agent; paramiko itself would offer and use only the plain key in it."""

    def __init__(self, key: paramiko.AgentKey, certificate: Certificate) -> None:
        super().__init__(key.agent, key.blob, key.comment)
        self.public_blob: Any = paramiko.pkey.PublicBlob(certificate.type, certificate.blob)

    def asbytes(self) -> bytes:
        """Return the wire format of the certificate."""
        return bytes(self.blob)


def _public_line(path: str) -> bytes | None:
    """Return the public key in a file with one line, `type base64 comment`; None for any other file."""
    try:
        fields = Path(path).read_text(encoding="utf-8", errors="replace").split()
        blob = base64.b64decode(fields[1], validate=True)
        (kind,), _ = _split_strings(blob, 1)
    except (OSError, IndexError, ValueError, binascii.Error, struct.error):
        return None
    return blob if kind.decode(errors="replace") == fields[0] else None


def _public_half(path: str) -> bytes | None:
    """Return the public key of a private key in OpenSSH's format, where it is not encrypted; None for other files."""
    try:
        lines = Path(path).read_text(encoding="ascii").strip().splitlines()
        data = base64.b64decode("".join(lines[1:-1]))
        if not data.startswith(MAGIC):
            return None
        _, rest = _split_strings(data[len(MAGIC) :], 3)
        (blob,), _ = _split_strings(rest[4:], 1)
    except (OSError, ValueError, binascii.Error, struct.error):
        return None
    return blob


def _limits(data: bytes) -> tuple[tuple[str, ...], int, int]:
    """Return principals, begin and end of a certificate from what follows its public key (PROTOCOL.certkeys).

    First come 12 bytes: serial number and type.
    """
    (_name, principals), times = _split_strings(data[12:], 2)
    names, rest = [], principals
    while rest:
        (name,), rest = _split_strings(rest, 1)
        names.append(name.decode(errors="replace"))
    return (tuple(names), *struct.unpack_from(">QQ", times))


def _split_strings(data: bytes, count: int) -> tuple[list[bytes], bytes]:
    """Return the first `count` strings (RFC 4251, 5) and the rest; struct.error if the data ends before that."""
    strings = []
    for _ in range(count):
        (size,) = struct.unpack_from(">I", data)
        if len(data) < 4 + size:
            raise struct.error("cut short")
        strings.append(data[4 : 4 + size])
        data = data[4 + size :]
    return strings, data


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
