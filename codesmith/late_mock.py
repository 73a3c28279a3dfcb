"""Invoke without unittest.mock: a third of the time that Invoke takes to start.

Invoke imports it, with asyncio and ssl behind it, for MockContext, a double for tests of tasks. Here it is imported
when somebody makes one.
"""

from __future__ import annotations

import sys
from typing import Any


def import_invoke() -> None:
    """Import Invoke; call it before the first import of it."""
    if "invoke" in sys.modules or "unittest.mock" in sys.modules:
        return
    stand_in = type(sys)("unittest.mock")
    vars(stand_in)["Mock"] = _mock
    sys.modules["unittest.mock"] = stand_in
    try:
        import invoke.context  # noqa: F401
    finally:
        del sys.modules["unittest.mock"]


def _mock(*args: Any, **kwargs: Any) -> Any:
    from unittest.mock import Mock

    return Mock(*args, **kwargs)
