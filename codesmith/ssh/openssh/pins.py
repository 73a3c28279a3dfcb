"""The host keys that ssh may accept for one place, as a known_hosts file of its own.

It is what `hostkeys.pins` says: the first file that knows the host decides, so ssh cannot take another file's word.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from codesmith.ssh import hostkeys
from codesmith.ssh.openssh.options import known_as
from codesmith.ssh.target import Target

AUTHORITY, REVOKED = "@cert-authority", "@revoked"


def known_hosts(place: Target) -> str:
    """Return the text of the file."""
    deciding: list[str] = []
    revoked: list[str] = []
    for path in place.known_hosts:
        found = list(_lines(path, place))
        revoked += [line for line in found if line.startswith(REVOKED)]
        deciding = deciding or [line for line in found if not line.startswith(REVOKED)]
    return "".join(f"{line}\n" for line in [*deciding, *revoked])


def _lines(path: Path, place: Target) -> Iterator[str]:
    """Yield the lines that name the place, under the name by which ssh looks for it."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return  # hostkeys.pins has said why, or it is not there
    for line in text.splitlines():
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", AUTHORITY, REVOKED):
            continue
        if hostkeys.names(fields[0], place.key_name):
            yield " ".join([*([marker] if marker else []), known_as(place), *fields[1:3]])
