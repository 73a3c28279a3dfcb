"""A workspace's directory, and what file.* does to it, said as the front end says it."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.files import job

DEFAULTS: dict[str, dict[str, Any]] = {
    "edit": {"if_etag": None},
    "list": {"path": "."},
    "make_directory": {"parents": False, "mode": None},
    "move": {"replace": False, "if_etag": None},
    "read": {"offset": 0, "limit": 1 << 19, "whole_characters": True},
    "remove": {"recursive": False},
    "search": {"path": ".", "limit": 100},
    "write": {"mode": None, "append": False, "if_etag": None},
}
BYTES = ("data", "old", "new")


class Files:
    """A directory as a workspace; `place` is inside it, `outside` beside it."""

    def __init__(self, folder: Path) -> None:
        self.place, self.outside = folder / "workspace", folder / "outside"
        for made in (self.place, self.outside):
            made.mkdir()

    def answer(self, action: str, **fields: Any) -> dict[str, Any]:
        """Return the whole answer to a request; bytes are sent as base64."""
        sent = {
            key: base64.b64encode(value).decode() if key in BYTES else value
            for key, value in {**DEFAULTS.get(action, {}), **fields}.items()
        }
        return job.answer({"action": action, "root": str(self.place), **sent}, str(self.place))

    def do(self, action: str, **fields: Any) -> Any:
        """Return the result of a request that must succeed."""
        answer = self.answer(action, **fields)
        assert "result" in answer, answer
        return answer["result"]

    def refuses(self, reason: str, action: str, **fields: Any) -> str:
        """Make a request that must be refused for this reason, and return its sentence."""
        answer = self.answer(action, **fields)
        assert answer.get("refused") == reason, answer
        return f"{answer.get('field', '')} {answer['message']}".strip()

    def write(self, path: str, data: bytes, **fields: Any) -> list[Any]:
        """Write a file and return its record."""
        record: list[Any] = self.do("write", path=path, data=data, **fields)
        return record

    def read(self, path: str, **fields: Any) -> bytes:
        """Return the bytes of one piece of a file."""
        return base64.b64decode(self.do("read", path=path, **fields)["data"])

    def names(self) -> set[str]:
        """Return the names in the workspace's directory."""
        return set(os.listdir(self.place))


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    """One workspace; nothing of it may be left open."""
    before = os.listdir("/proc/self/fd")
    yield Files(tmp_path)
    assert os.listdir("/proc/self/fd") == before
