"""What only the lab can complain about."""

from __future__ import annotations

from codesmith.errors import Unreachable


class LabNodeDown(Unreachable):
    """The lab node does not exist or is switched off."""
