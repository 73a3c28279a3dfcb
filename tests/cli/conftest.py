"""The fixture `place` of tests/tasks."""

from __future__ import annotations

from tests.tasks.conftest import place

__all__ = ["place"]
