"""The options of top. It is light: every command line reads it."""

from __future__ import annotations

from codesmith.fleet.selection import Choice

SORTS = {"memory": "memory_bytes", "cpu": "cpu_percent", "disk": "disk_bytes", "name": "name"}


class TopChoice(Choice, total=False):
    """The options of top."""

    sort: str | None
    user: str | None
    label: list[str] | None
    once: bool
