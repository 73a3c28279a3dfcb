"""Logins that a test adds to a node, once for both carriers."""

from __future__ import annotations

from typing import Any

from codesmith.lab import LabNode

# A wrong password is refused at once, and not after two seconds.
NO_DELAY = "sed -i '/pam_unix.so/ {/nodelay/! s/$/ nodelay/}' /etc/pam.d/common-auth"


def add_login(node: LabNode, name: str, **fields: Any) -> str:
    """Add a login to a node, unless the same test made it over the other carrier."""
    if not (node.root / "home" / name).exists():
        node.run(["sh", "-c", NO_DELAY])
        node.add_login(name, **fields)
    return name
