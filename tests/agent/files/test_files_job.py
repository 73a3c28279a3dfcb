"""One request, one answer, both in memory; what keeps a job from its work is a refusal."""

from __future__ import annotations

import base64
import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.files import writing
from tests.agent.files.conftest import Files
from tests.agent.files.stand_in import RUN, TOP

MIB = 1 << 20


def run(folder: Path, request: dict[str, Any], data_max: int) -> Any:
    """Carry out a request as a fork of the supervisor does, in a process that may have so much memory."""
    memory = os.memfd_create("request")
    try:
        os.write(memory, json.dumps({"root": str(folder), **request}).encode())
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_DATA, ({data_max}, {data_max})); "
        command = [sys.executable, "-I", "-S", "-c", limit + RUN, str(TOP), str(memory)]
        os.lseek(memory, 0, os.SEEK_SET)
        subprocess.run(command, cwd=folder, pass_fds=[memory], check=True)
        return json.loads(os.pread(memory, 1 << 24, 0))
    finally:
        os.close(memory)


def test_an_answer_takes_the_place_of_its_request(files: Files) -> None:
    request = {"action": "write", "path": "a", "data": base64.b64encode(b"x" * 100_000).decode(), "mode": None}
    answer = run(files.place, {**request, "append": False, "if_etag": None}, 100 * MIB)
    assert answer["result"][:3] == ["a", "file", 100_000]


def test_a_job_without_memory_says_so(files: Files) -> None:
    (files.place / "a").write_bytes(b"x" * 15 * MIB)
    request = {"action": "edit", "path": "a", "old": "eQ==", "new": "", "if_etag": None}
    assert run(files.place, request, 20 * MIB)["refused"] == "memory"
    assert run(files.place, request, 200 * MIB)["field"] == "old"


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EDQUOT, "quota"), (errno.ENOSPC, "full"), (errno.EROFS, "failed"), (errno.EIO, "failed"),
        (errno.ENOMEM, "memory"),
    ],
)  # fmt: skip
def test_an_error_of_the_system_is_a_refusal(
    files: Files, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    files.write("a", b"one")
    real = os.fsync

    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(writing.os, "fsync", fsync)
    for more in ({}, {"append": True}):
        assert files.refuses(reason, "write", path="a", data=b"two", **more) == f"a: {os.strerror(number)}"
    monkeypatch.setattr(writing.os, "fsync", real)
    assert (files.read("a"), files.names()) == (b"one", {"a"})
