"""The keys at a terminal that are meant for this process, as ssh has them."""

from __future__ import annotations

import pytest

from codesmith.workspace.console import Keys


class Raw:
    """Counts how often the process would have been suspended."""

    suspended = 0

    def suspend(self) -> None:
        self.suspended += 1


@pytest.mark.parametrize(
    ("typed", "passed", "is_detached"),
    [
        ("~.", "", True),
        ("ls\r~.", "ls\r", True),
        ("ls\n~.more", "ls\n", True),
        ("a~.", "a~.", False),
        ("\r~~.", "\r~.", False),
        ("~x", "~x", False),
        ("~\r~.", "~\r", True),
        ("\x03~.", "\x03~.", False),
    ],
)
def test_keys_are_found_however_they_arrive(typed: str, passed: str, is_detached: bool) -> None:
    whole, split = Keys(Raw()), Keys(Raw())  # type: ignore[arg-type]
    assert (whole.filter(typed.encode()), whole.is_detached) == (passed.encode(), is_detached)
    found = b""
    for char in typed:
        found += b"" if split.is_detached else split.filter(char.encode())
    assert (found, split.is_detached) == (passed.encode(), is_detached)


def test_suspending_sends_nothing() -> None:
    raw = Raw()
    assert Keys(raw).filter(b"x\r~\x1a~.y") == b"x\r"  # type: ignore[arg-type]
    assert raw.suspended == 1
