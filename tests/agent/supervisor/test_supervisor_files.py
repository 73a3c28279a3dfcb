"""Files in a fork of the supervisor: as the login, with request and answer in memory that the caller has made."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.agent.supervisor.conftest import UID, Supervisor

pytestmark = pytest.mark.slow

WRITE = {"action": "write", "path": "a", "mode": None, "append": False, "if_etag": None}
READ = {"action": "read", "path": "a", "offset": 0, "limit": 1 << 19, "whole_characters": False}


@contextmanager
def memory_with(supervisor: Supervisor, request: dict[str, Any]) -> Iterator[int]:
    memory = os.memfd_create("request")
    try:
        os.write(memory, json.dumps({"root": f"{supervisor.folder}/place", **request}).encode())
        os.lseek(memory, 0, os.SEEK_SET)
        yield memory
    finally:
        os.close(memory)


def ask(supervisor: Supervisor, request: dict[str, Any], timeout_s: float = 20.0) -> dict[str, Any]:
    """Return the answer, and how the job ended."""
    with memory_with(supervisor, request) as memory:
        done = supervisor.ask("files", memory, timeout_s=timeout_s)["result"]
        text = os.pread(memory, 1 << 24, 0)
    return {**done, **(json.loads(text) if not done["exit_code"] else {})}


def test_files_are_the_logins(supervisor: Supervisor) -> None:
    written = ask(supervisor, {**WRITE, "data": base64.b64encode(b"one").decode()})
    assert written["result"][:3] == ["a", "file", 3]
    status = (supervisor.folder / "place" / "a").stat()
    assert (status.st_uid, status.st_mode & 0o777) == (UID, 0o644)
    assert ask(supervisor, READ)["result"]["data"] == "b25l"
    (supervisor.folder / "place" / "a").chmod(0)
    os.chown(supervisor.folder / "place" / "a", 0, 0)
    assert ask(supervisor, READ)["refused"] == "failed", "what the login may not read"


def test_a_request_without_memory_is_refused(supervisor: Supervisor) -> None:
    assert supervisor.ask("files", timeout_s=1.0)["error"]["message"] == "descriptor: is missing"
    assert ask(supervisor, {"action": "no such"})["exit_code"] == 1
    assert ask(supervisor, {"action": "list", "path": "."})["result"] == []


def test_a_job_for_files_ends_with_its_time(supervisor: Supervisor) -> None:
    place = supervisor.folder / "place"
    (place / "a").write_text("a" * 64 + "!")
    done = ask(supervisor, {"action": "search", "path": "a", "pattern": "(a+)+$", "limit": 1}, timeout_s=0.5)
    assert (done["killed_by"], done["exit_code"]) == ("timeout", 137)
    assert supervisor.pids() == []


def test_what_is_read_takes_no_memory_of_the_supervisor(supervisor: Supervisor) -> None:
    (supervisor.folder / "place" / "a").write_bytes(os.urandom(1 << 19))
    ask(supervisor, READ)
    before = anonymous_kib(supervisor.process.pid)
    for _ in range(20):
        assert len(ask(supervisor, READ)["result"]["data"]) > 1 << 19
    assert anonymous_kib(supervisor.process.pid) - before < 256


def anonymous_kib(pid: int) -> int:
    """Return the memory that a process has for itself."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))
