"""The fixtures of SSH: prepare works over the same connections."""

from __future__ import annotations

import sys
from pathlib import Path

# pytest adds only the folders of the tests that it runs to the path: `make test PART=bootstrap` needs this one too.
sys.path.append(str(Path(__file__).parents[1] / "ssh"))

from tests.ssh.conftest import (
    agent_copy,
    as_node,
    carrier,
    desk,
    fresh,
    home,
    new_key,
    open_to,
    same_agent,
    target,
)

__all__ = ["agent_copy", "as_node", "carrier", "desk", "fresh", "home", "new_key", "open_to", "same_agent", "target"]
