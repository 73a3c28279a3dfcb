"""How a command ended whose output was streamed."""

from __future__ import annotations

from codesmith.sdk.record import Record


class Ended(Record):
    """The end of a command.

    exit_code: 128 + the number of the signal that ended it; None if it is not known.
    killed_by: None, "timeout", "memory", "operator" or "disconnect".
    state: "exited", "killed" or "lost".
    """

    __slots__ = ("duration_s", "exit_code", "killed_by", "signal", "state")

    def __init__(
        self,
        exit_code: int | None,
        signal: str | None = None,
        killed_by: str | None = None,
        duration_s: float = 0.0,
        state: str = "exited",
    ) -> None:
        self.exit_code, self.signal, self.killed_by = exit_code, signal, killed_by
        self.duration_s, self.state = duration_s, state
