"""A forwarder's home and endpoints, as in the tests of the tunnel."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tunnel"))

from tests.tunnel.conftest import far_end, home, keep, node

__all__ = ["far_end", "home", "keep", "node"]
