"""The host keys that ssh may accept for one hop, as a known_hosts file.

The first known_hosts file that names the host decides, as in `hostkeys.pins_for`; ssh would accept a key from any.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from codesmith.ssh import hostkeys
from codesmith.ssh.openssh.command import host_key_name
from codesmith.ssh.target import Target

AUTHORITY, REVOKED = "@cert-authority", "@revoked"


def known_hosts(hop: Target) -> str:
    """Return the text of the known_hosts file for a hop."""
    deciding: list[str] = []
    revoked: list[str] = []
    for path in hop.known_hosts:
        lines = list(_lines(path, hop))
        revoked += [line for line in lines if line.startswith(REVOKED)]
        deciding = deciding or [line for line in lines if not line.startswith(REVOKED)]
    return "".join(f"{line}\n" for line in [*deciding, *revoked])


def _lines(path: Path, hop: Target) -> Iterator[str]:
    """Yield the lines that name the hop, with the name under which ssh looks it up."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return  # it is missing; hostkeys.pins_for has raised already for a file that cannot be read
    for line in text.splitlines():
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", AUTHORITY, REVOKED):
            continue
        if hostkeys.matches_host(fields[0], hop.key_name):
            yield " ".join([*([marker] if marker else []), host_key_name(hop), *fields[1:3]])
