"""Throw-away real nodes on this machine: their own systemd, sshd, users, network and clock of life.

Imported on every resolve of a lab node, so nothing but the address is loaded before it is asked for.
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
    """Load the classes that boot nodes when somebody boots one."""
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
