"""Throw-away real nodes on this machine, each with its own systemd, sshd, users and network.

Only the address is loaded at once; the rest is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from codesmith.lab.address import LabAddress, address

if TYPE_CHECKING:
    from codesmith.errors import LabNodeDown
    from codesmith.lab.lab import Lab
    from codesmith.lab.node import LabNode

__all__ = ["Lab", "LabAddress", "LabNode", "LabNodeDown", "address"]

_LATER = {
    "Lab": "codesmith.lab.lab",
    "LabNode": "codesmith.lab.node",
    "LabNodeDown": "codesmith.errors",
}


def __getattr__(name: str) -> Any:
    """Load a class on its first use."""
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
