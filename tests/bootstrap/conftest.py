"""The fixtures of tests/ssh, because prepare uses the same connections, and releases."""

from __future__ import annotations

from tests.bootstrap.shipping import ship
from tests.ssh.conftest import agent_copy, as_node, carrier, desk, fresh, home, new_key, open_to, same_agent, target

__all__ = [
    "agent_copy", "as_node", "carrier", "desk", "fresh", "home", "new_key", "open_to", "same_agent", "ship", "target",
]  # fmt: skip
