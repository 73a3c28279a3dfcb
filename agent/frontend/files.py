"""file.*: what the front end does for them."""

from __future__ import annotations

from typing import Any

from agent.frontend.context import Context


def call(context: Context, workspace: str, action: str, **fields: Any) -> Any:
    """Return the result of an action on files of a workspace."""
    raise NotImplementedError
