"""The same place as the tasks' tests have."""

from __future__ import annotations

from tests.tasks.conftest import place

__all__ = ["place"]
