"""What fails once on a full machine is run once more; what fails again fails the run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
TOP = Path(__file__).parents[1]
BY_CHANCE = """\
import pathlib
def test_first():
    runs = pathlib.Path("runs")
    runs.touch(exist_ok=True)
    runs.write_text(runs.read_text() + "x")
def test_second():
    assert pathlib.Path("runs").read_text() != "x"
"""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(TOP), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_file_that_fails_by_chance_is_run_again_whole(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(BY_CHANCE)
    assert run(tmp_path, "pytest").returncode == 1
    again = run(tmp_path, "tests.once_more", "-q")
    assert (again.returncode, "test_it.py::test_second" in again.stdout) == (0, True), again
    assert "2 passed" in again.stdout


def test_what_fails_again_and_what_cannot_be_chance_fail_the_run(tmp_path: Path) -> None:
    assert run(tmp_path, "tests.once_more").returncode == 1  # nothing is known
    (tmp_path / "test_it.py").write_text("def test_it(): assert False\n")
    run(tmp_path, "pytest")
    assert run(tmp_path, "tests.once_more").returncode == 1
    for number in range(6):
        (tmp_path / f"test_{number}.py").write_text("def test_it(): assert False\n")
    run(tmp_path, "pytest")
    many = run(tmp_path, "tests.once_more")
    assert (many.returncode, many.stdout) == (1, "")


def test_a_module_that_does_not_import_fails_the_run(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("import nowhere\n")
    run(tmp_path, "pytest")
    assert run(tmp_path, "tests.once_more").returncode != 0
