"""What destroys says what would be lost, and asks on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from codesmith.cli import output
from codesmith.errors import THIS_COMMAND, Cancelled


def confirm_loss(what: str, losses: Sequence[str]) -> None:
    """Say what deleting `what` would lose, and ask; Cancelled for every answer but yes, and without a terminal."""
    output.say(f"deleting {what} loses:")
    for loss in losses:
        output.say(f"  {loss}")
    if not output.can_ask():
        raise Cancelled(f"{what} is not deleted: there is no terminal to ask on", hint=f"{THIS_COMMAND} --yes")
    if not output.confirm("delete it?"):
        raise Cancelled(f"cancelled: {what} is not deleted")
