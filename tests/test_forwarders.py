"""What a run of tests has started in the background ends with the run, however the run ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from codesmith.tunnel import control
from tests.waiting import is_running

pytestmark = pytest.mark.slow
TOP = Path(__file__).parents[1]
# No fixture ends this forwarder, as if the one that would had been cut off.
CUT_OFF = """\
import os, pathlib, signal
from codesmith.tunnel import control
def test_it():
    control.start()
    pathlib.Path("pid").write_text(str(control.ping()))
    os.kill(os.getpid(), signal.{})
"""


@pytest.mark.parametrize(
    ("how", "words"), [("SIGINT", ()), ("SIGKILL", ("--numprocesses=1", "--max-worker-restart=0"))], ids=["all", "one"]
)
def test_the_end_of_a_run_ends_the_forwarders_that_it_started(codesmith_home, tmp_path, how, words):
    """Ctrl-C reaches the only process of a run, or one process of several is killed."""
    control.start()
    (tmp_path / "test_it.py").write_text(CUT_OFF.format(how))
    (tmp_path / "pytest.ini").touch()
    environment = {**os.environ, "PYTHONPATH": str(TOP), "CODESMITH_HOME": str(codesmith_home / "other")}
    argv = [sys.executable, "-m", "pytest", "-p", "tests.conftest", *words]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert not is_running((tmp_path / "pid").read_text()), done.stdout
    assert control.ping() is not None
