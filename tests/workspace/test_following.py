"""Following a job across cut connections, without a node."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from codesmith.errors import AgentRefused, Unreachable
from codesmith.sdk.api import JobLogs
from codesmith.workspace import console, following
from codesmith.workspace.console import Source
from codesmith.workspace.following import Follower

LOG = b"one\ntwo\nthree\nfour\n"


class EndedJobs:
    """The node of a job whose first stream is cut, and that has ended then; the third piece of its log is lost once."""

    def __init__(self) -> None:
        self.node_name, self.job, self.attached, self.pieces = "web1", self, 0, 0

    def attach(self, *_: Any, **__: Any) -> Any:
        self.attached += 1
        if self.attached > 1:
            raise AgentRefused("it has ended", code=-32010)
        stream: Any = nullcontext()
        stream.offset = 0
        return stream

    def get(self, **_: Any) -> Any:
        return SimpleNamespace(state="exited", exit_code=0)

    def logs(self, *, offset: int, limit: int, **_: Any) -> JobLogs:
        self.pieces += 1
        if self.pieces == 3:
            raise Unreachable("the connection was cut")
        data = LOG[offset : offset + min(limit, 5)]
        return JobLogs(data=data.decode(), encoding="text", offset=offset, next_offset=offset + len(data),
                       eof=offset + len(data) == len(LOG))  # fmt: skip


def cut_off(*_: Any, **__: Any) -> None:
    """Stand for a stream whose connection is lost."""
    raise Unreachable("the connection was cut")


def test_a_cut_while_the_rest_is_read_repeats_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "WAITS_S", (0.0,))
    monkeypatch.setattr(console, "join", cut_off)
    shown: list[bytes] = []
    job = Follower(cast(Any, EndedJobs()), "demo", "1").follow(
        0, lambda _, data: shown.append(bytes(data)), cast(Source, None)
    )
    assert (b"".join(shown), job.exit_code) == (LOG, 0)
