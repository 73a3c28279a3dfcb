"""What the README says about restoring a backup."""

from __future__ import annotations

import re
from pathlib import Path

from codesmith.bootstrap import layout

README = Path(__file__).parents[3] / "agent" / "helper" / "README.md"


def test_whoever_restores_a_backup_stops_all_that_starts_the_agent_or_the_helper() -> None:
    """A socket that still listens would start them under the copy."""
    stops = re.findall(r"^    systemctl stop (.*)$", README.read_text(), re.MULTILINE)
    assert sorted(" ".join(stops).split()) == sorted(layout.UNITS)
