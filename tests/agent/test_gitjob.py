"""The program that runs git in a job: where a credential goes, and that it is nowhere afterwards."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent import gitjob

ASKED = """\
printf 'protocol=https\\nhost=%s\\n\\n' "$1" |
GIT_TERMINAL_PROMPT=0 HOME=/nonexistent git -c credential.helper= -c "$2" credential fill
"""


def request(**changes: Any) -> dict[str, Any]:
    plain = {"url": "https://h:1/x.git", "host": "https://h:1", "ref": None, "depth": None, "known_hosts": []}
    return {**plain, "credential": {"username": "u", "password": "geheim"}, **changes}


def fill(host: str, setting: str) -> str:
    """Ask git itself for the credential of a host."""
    done = subprocess.run(["sh", "-c", ASKED, "sh", host, setting], capture_output=True, text=True)
    return done.stdout


def test_a_credential_is_offered_to_the_urls_own_host_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def git(*words: str, way: gitjob.Way, is_watched: bool) -> str:
        assert "geheim" not in repr((words, way))
        told.extend((fill("h:1", way.settings[0]), fill("h:2", way.settings[0]), fill("other", way.settings[0])))
        return ""

    monkeypatch.setattr(gitjob, "git", git)
    gitjob.clone(request(), "/nonexistent")
    assert "password=geheim" in told[0]
    assert "geheim" not in "".join(told[1:])


def test_a_secret_in_memory_is_gone_when_it_is_let_go() -> None:
    with gitjob.secret_file("geheim") as path:
        assert Path(path).read_text() == Path(path).read_text() == "geheim"
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert "memfd" in os.readlink(path)
    assert not os.path.exists(path)
