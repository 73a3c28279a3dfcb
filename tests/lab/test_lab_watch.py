"""The watch in tests/conftest.py fails a test that leaves something behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
UNTIDY = """
import socket, subprocess, threading
KEPT = []
GATE = threading.Event()

def test_process():
    KEPT.append(subprocess.Popen(["sleep", "60"]))

def test_thread():
    KEPT.append(threading.Thread(target=GATE.wait))
    KEPT[-1].start()

def test_socket():
    KEPT.append(socket.socket())

def test_tidy():
    with socket.socket(), subprocess.Popen(["true"]):
        pass

def test_last():
    KEPT[0].kill(), KEPT[0].wait(), GATE.set(), KEPT[1].join(), KEPT[2].close()
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Run untidy tests with our conftest and return pytest's output."""
    folder = tmp_path_factory.mktemp("untidy")
    shutil.copy(TOP / "tests" / "conftest.py", folder)
    # A shorter wait than busy machines need.
    text = (folder / "conftest.py").read_text().replace("PATIENCE_S = 5.0", "PATIENCE_S = 0.2")
    (folder / "conftest.py").write_text(text)
    (folder / "test_untidy.py").write_text(UNTIDY)
    options = ["-q", "-c", str(TOP / "pyproject.toml"), "--rootdir", str(folder)]
    command = [sys.executable, "-m", "pytest", *options, str(folder)]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("test", "what"), [("process", "process "), ("thread", "thread "), ("socket", "socket:")])
def test_what_stays_is_named(outcome: str, test: str, what: str) -> None:
    _, _, told = outcome.partition(f"ERROR at teardown of test_{test} ")
    assert f"left behind: {what}" in told.partition("ERROR")[0]


def test_who_tidies_up_passes(outcome: str) -> None:
    assert "5 passed, 3 errors" in outcome
