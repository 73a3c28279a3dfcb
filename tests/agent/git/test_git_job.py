"""The program that runs git in a job: where a credential is sent, and that it is gone afterwards."""

from __future__ import annotations

import os
import select
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from agent.git import clone, command, job
from agent.git.errors import STDERR_MAX

ASKED = """\
printf 'protocol=https\\nhost=%s\\n\\n' "$1" |
GIT_TERMINAL_PROMPT=0 HOME=/nonexistent git -c credential.helper= -c "$2" credential fill
"""


def request(**changes: Any) -> dict[str, Any]:
    plain = {
        "workspace": "demo",
        "name": "x",
        "url": "https://h:1/x.git",
        "host": "https://h:1",
        "ref": None,
        "depth": None,
        "known_hosts": [],
    }
    return {**plain, "credential": {"username": "u", "password": "geheim"}, **changes}


def fill(host: str, setting: str) -> str:
    """Ask git for the credential of a host."""
    done = subprocess.run(["sh", "-c", ASKED, "sh", host, setting], capture_output=True, text=True)
    return done.stdout


def test_a_credential_is_offered_to_the_urls_own_host_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    said: list[str] = []

    def git(*words: str, setup: command.GitSetup = command.NO_SETUP, is_watched: bool = False) -> str:
        assert "geheim" not in repr((words, setup))
        if "config" in words:
            said.append(words[-1])
            return ""
        asked.extend((fill("h:1", setup.settings[0]), fill("h:2", setup.settings[0]), fill("other", setup.settings[0])))
        return ""

    monkeypatch.setattr(clone, "git", git)
    clone.clone(request(), "/nonexistent")
    assert "password=geheim" in asked[0]
    assert "geheim" not in "".join(asked[1:])
    # What stays in its configuration names the next step, and gives nothing.
    assert "inv repo.pull demo x --credential-file FILE" in said[0]
    assert fill("h:1", f"credential.https://h:1.helper={said[0]}") == ""


def test_what_a_server_says_without_end_is_not_kept() -> None:
    flood = "alias.flood=!head -c 64000000 /dev/zero | tr '\\0' x >&2; echo; echo fatal: over >&2; exit 3"
    tracemalloc.start()
    try:
        with pytest.raises(command.GitFailed) as failure:
            command.git("-c", flood, "flood")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert failure.value.stderr.endswith("fatal: over\n")
    assert len(failure.value.stderr) == STDERR_MAX


@pytest.mark.slow
def test_git_and_what_it_started_end_with_its_time(tmp_path: Path) -> None:
    wait = f"alias.wait=!sleep 97 & echo $! > {tmp_path}/pid; wait"
    with pytest.raises(TimeoutError):
        command.git("-c", wait, "wait", timeout_s=2)
    try:
        started = os.pidfd_open(int((tmp_path / "pid").read_text()))
    except ProcessLookupError:
        return
    with open(started, "rb"):
        assert select.select([started], [], [], 10)[0], "it runs on"


def test_a_repository_that_the_disk_did_not_take_is_not_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    run = subprocess.run
    monkeypatch.setattr(
        subprocess, "run", lambda words, **more: run(["false"] if words[0] == "sync" else words, **more)
    )
    wanted = {"action": "init", "name": "x", "branch": "main", "token": "0" * 32, "programs": ["git"]}
    assert job.answer(wanted)["problem"] == "failed"
    assert os.listdir("code") == []


def test_a_secret_in_memory_is_gone_afterwards() -> None:
    with clone.secret_file("geheim") as path:
        assert Path(path).read_text() == Path(path).read_text() == "geheim"
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert "memfd" in os.readlink(path)
    assert not os.path.exists(path)
