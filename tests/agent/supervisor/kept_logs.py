"""The logs of kept jobs, as a supervisor gives them and as they lie in the home."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.agent.supervisor.conftest import Supervisor

KIB = 1 << 10
MIB = 1 << 20
# Lines of 64 bytes, each with its number.
COUNT = "import sys\nfor n in range({0}): sys.stdout.write(f'{{n:063}}\\n')"


def logs(supervisor: Supervisor, identifier: str, **fields: Any) -> dict[str, Any]:
    answer = supervisor.ask("job_logs", id=identifier, **fields)
    assert "result" in answer, answer
    piece: dict[str, Any] = answer["result"]
    return piece


def whole(supervisor: Supervisor, identifier: str, stream: str = "both", limit: int = 100_000) -> list[dict[str, Any]]:
    """Read a log to its end, piece by piece."""
    pieces: list[dict[str, Any]] = []
    while not pieces or not pieces[-1]["eof"]:
        offset = pieces[-1]["next_offset"] if pieces else 0
        pieces.append(logs(supervisor, identifier, stream=stream, offset=offset, limit=limit))
        assert pieces[-1]["next_offset"] > offset or pieces[-1]["eof"]
    return pieces


def folder_of(supervisor: Supervisor, identifier: str = "") -> Path:
    return supervisor.folder / "home/.local/state/codesmith/jobs" / identifier
