"""Remove what a deleted user left in shared directories, and nothing of others, whatever they do meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.helper import logins
from agent.helper.accounts import leftovers as module
from agent.helper.accounts.leftovers import LIMIT_S, Sweep
from agent.helper.ledger import lock
from agent.helper.ledger.ledger import Ledger
from agent.shared import run

GONE, OTHER = 70001, 70002
SWAP = """
import os, sys
os.chdir(sys.argv[1])
os.setresuid(70002, 70002, 70002)
os.makedirs("swap/a")
os.symlink(sys.argv[2], "swap/link")
print("ready", flush=True)
while True:
    os.rename("swap/a", "swap/b")
    os.rename("swap/link", "swap/a")
    os.rename("swap/a", "swap/link")
    os.rename("swap/b", "swap/a")
"""

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="gives files to others")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)  # Python's own does not reach that depth


def sweep(place: Path, within_s: float = LIMIT_S) -> list[str]:
    base = os.open(place, os.O_RDONLY)
    try:
        return Sweep(str(place), base, GONE, time.monotonic() + within_s).run()
    finally:
        os.close(base)


def put(path: Path, uid: int, text: str | None = "x") -> Path:
    """Make a file with an owner, or a directory (`text` is None)."""
    if text is None:
        path.mkdir()
    else:
        path.write_text(text)
    os.chown(path, uid, uid)
    return path


def test_all_of_the_user_goes_at_any_level(place: Path) -> None:
    put(place / "file", GONE)
    put(place / "folder", GONE, None)
    put(place / "folder" / "inner", GONE, None)
    put(place / "folder" / "inner" / "file", GONE)
    put(place / "theirs", OTHER, None)
    put(place / "theirs" / "file", OTHER)
    put(place / "theirs" / "of the user", GONE)
    put(place / "theirs" / "folder", GONE, None)
    os.symlink("/etc", place / "link")
    os.chown(place / "link", GONE, GONE, follow_symlinks=False)
    os.mkfifo(place / "pipe")
    os.chown(place / "pipe", GONE, GONE)
    assert sweep(place) == []
    assert sorted(str(path.relative_to(place)) for path in place.rglob("*")) == ["theirs", "theirs/file"]


def test_what_others_keep_in_a_directory_of_the_user_stays_and_is_named(place: Path) -> None:
    put(place / "folder", GONE, None)
    put(place / "folder" / "mine", OTHER, "mine")
    put(place / "folder" / "gone", GONE)
    put(place / "folder" / "theirs", OTHER, None)
    put(place / "folder" / "theirs" / "gone", GONE)
    assert sweep(place) == [f"{place}/folder"]
    assert (place / "folder" / "mine").read_text() == "mine"
    assert sorted(os.listdir(place / "folder")) == ["mine", "theirs"]
    assert {path.stat().st_uid for path in place.rglob("*")} == {0, OTHER}


@pytest.mark.slow
def test_any_depth_and_what_an_interrupted_sweep_left_go(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = os.open(put(place / "deep", GONE, None), os.O_RDONLY)
    for _ in range(5_000):
        os.mkdir("d", dir_fd=deep)
        os.chown("d", GONE, GONE, dir_fd=deep)
        inner = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(deep)
    looks = itertools.count()
    with monkeypatch.context() as patch:
        patch.setattr(Sweep, "is_late", lambda self: next(looks) > 300)  # after 300 checks, not by the clock
        assert sweep(place)[-1] == f"{place} (search not finished)"
    for _ in range(3):
        left = sweep(place)
    assert left == []
    assert os.listdir(place) == []


@pytest.mark.slow
def test_a_directory_without_end_costs_no_more_than_the_limit(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5_000):
        (place / f"{number}").touch()
    put(place / "gone", GONE)
    looks = itertools.count(1)
    with monkeypatch.context() as patch:
        patch.setattr(Sweep, "is_late", lambda self: next(looks) > 100)
        assert sweep(place) == [f"{place} (search not finished)"]
    assert next(looks) < 110, "it went on looking after its time"


def test_a_directory_that_there_was_no_time_for_goes_with_the_next_sweep(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(place / "folder", GONE, None)
    for number in range(20):
        put(place / "folder" / f"{number}", GONE)
    looks = itertools.count()
    with monkeypatch.context() as patch:
        patch.setattr(Sweep, "is_late", lambda self: next(looks) > 10)
        assert sweep(place) == [f"{place} (search not finished)"]
    assert sweep(place) == []
    assert list(place.iterdir()) == []


def test_what_takes_long_is_searched_for_later(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "ledger.db")
    monkeypatch.setattr(module, "PLACES", (str(place),))
    monkeypatch.setattr(lock, "Ledger", lambda: Ledger(path))
    monkeypatch.setattr(logins, "SWEEP_LOCK", str(tmp_path / "lock"))
    put(place / "file", GONE)
    assert module.sweep(GONE, -1) == ([f"{place} (search not finished)"], True)
    ledger = Ledger(path)
    ledger.add_sweep(GONE)
    logins.finish_sweeps()
    assert list(place.iterdir()) == ledger.sweeps() == []
    assert capsys.readouterr().err == ""
    ledger.close()


def test_nobody_leads_it_astray(place: Path, tmp_path: Path) -> None:
    precious = put(tmp_path / "precious", 0, None)
    put(precious / "file", GONE)
    tmp_path.chmod(0o755)
    command = [sys.executable, "-c", SWAP, str(place), str(precious)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as swapper:
        try:
            assert swapper.stdout and swapper.stdout.readline()
            for number in range(500):
                put(place / f"f{number}", GONE)
                sweep(place)
                assert not (place / f"f{number}").exists()
        finally:
            swapper.kill()
    assert (precious / "file").exists()


@pytest.mark.parametrize("step", range(24))
def test_a_sweep_that_was_cut_off_after_any_step_is_completed(
    place: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    put(place / "top", GONE, None)
    for name in ("top/a", "top/a/b", "top/c"):
        put(place / name, GONE, None)
        put(place / name / "file", GONE)
    steps = itertools.count()

    def cut(real: Callable[..., None]) -> Callable[..., None]:
        def call(*words: Any, **more: Any) -> None:
            if next(steps) == step:
                raise KeyboardInterrupt
            real(*words, **more)

        return call

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        for name in ("fchmod", "fchown", "mkdir", "rename", "rmdir", "unlink"):
            patch.setattr(os, name, cut(getattr(os, name)))
        sweep(place)
    assert sweep(place) == []
    assert list(place.iterdir()) == []


@pytest.mark.slow
def test_an_ipcrm_that_is_stopped_keeps_others_waiting_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "setpriv"
    tool.write_text("#!/bin/sh\nkill -STOP $$\n")
    tool.chmod(0o755)
    monkeypatch.setitem(run.ENVIRONMENT, "PATH", f"{tmp_path}:{run.ENVIRONMENT['PATH']}")
    monkeypatch.setattr(module, "ipc_of", lambda kind, uid: [str(number) for number in range(1000)])
    monkeypatch.setattr(module, "IPC_S", 0.3)
    began = time.monotonic()
    assert len(module.remove_ipc(GONE)) == 3000
    assert time.monotonic() - began < 60  # each of 3000 by itself would take 900
