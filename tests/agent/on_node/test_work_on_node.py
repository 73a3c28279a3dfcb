"""The story of a day's work: a build that goes on whatever happens around it, is seen, served, and copied out."""

from __future__ import annotations

import os
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from codesmith.tunnel import control
from tests.agent.on_node.door_one import free_port
from tests.agent.on_node.web1 import Web1
from tests.person import Person
from tests.releases import BOOKWORM_FIRST
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, BOOKWORM_FIRST]
# Ten minutes long, unless somebody says that it is enough.
BUILD = """
import os, time
for number in range(6000):
    print(number, flush=True)
    if os.path.exists("data/enough"):
        break
    time.sleep(0.1)
os.makedirs("data/out/deep")
for name in ("index.html", "deep/large"):
    with open("data/out/" + name, "wb") as file:
        file.write(name.encode() * 200_000)
print("built", flush=True)
"""


class Follower:
    """Somebody at another terminal who follows the log of a job."""

    def __init__(self, person: Person, job: str, folder: Path) -> None:
        self._out, self._err = folder / "out", folder / "err"
        folder.mkdir()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            argv = ["inv", "job.logs", "build", job, "--follow"]
            self.process = subprocess.Popen(
                argv, env=person.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )

    @property
    def lines(self) -> list[str]:
        """What it has seen so far, in whole lines."""
        return self._out.read_text().rpartition("\n")[0].split("\n")

    def sees_more(self) -> None:
        """Return when more has come than there was."""
        before = len(self.lines)
        eventually(lambda: len(self.lines) > before + 2, self._err.read_text(), within_s=90)


@pytest.mark.long
def test_a_build_outlives_all_that_happens_and_comes_out_whole(
    web1: Web1, upgrade: Callable[[], str], tmp_path: Path
) -> None:
    person, node = web1.person, web1.person.lab_node("web1")
    person.runs("inv workspace.create build")
    job = person.runs(f"inv job.start build --json -- python3 -c '{BUILD}'").json["id"]
    followers = [Follower(person, job, tmp_path / name) for name in ("first", "second")]
    try:
        for one in followers:
            one.sees_more()
        node.cut_network()
        eventually(lambda: [state.state for state in control.status()] != ["ready"], within_s=90)
        node.restore_network()
        for one in followers:
            one.sees_more()
        os.kill(control.ping() or 0, signal.SIGKILL)
        for one in followers:
            one.sees_more()
        upgrade()
        for one in followers:
            one.sees_more()
        person.runs("inv workspace.exec build -- touch data/enough")
        assert [one.process.wait(60) for one in followers] == [0, 0]
    finally:
        for one in followers:
            one.process.kill()
    written = [*map(str, range(len(followers[0].lines) - 1)), "built"]
    assert [one.lines for one in followers] == [written, written]
    assert person.runs(f"inv job.get build {job} --json").json["state"] == "exited"

    local = free_port()
    server = "python3 -m http.server --bind 127.0.0.1 --directory data/out 8123"
    serving = person.runs(f"inv job.start build --json -- {server}").json["id"]
    person.runs(f"inv workspace.forward build {local}:8123 --background")
    page = eventually(lambda: served(f"http://127.0.0.1:{local}/"), within_s=30)
    assert page == b"index.html" * 200_000
    person.runs(f"inv job.stop build {serving}")
    assert served(f"http://127.0.0.1:{local}/") == b""
    person.runs("inv workspace.forward build --stop")

    person.runs(f"inv workspace.copy build:data/out/ {tmp_path}/here")
    for name in ("index.html", "deep/large"):
        assert (tmp_path / "here" / name).read_bytes() == name.encode() * 200_000
    person.runs("inv workspace.delete build --yes")


def served(url: str) -> bytes:
    """Return what a browser would show; nothing when nobody serves it."""
    try:
        with urllib.request.urlopen(url, timeout=10) as page:
            return bytes(page.read())
    except OSError:
        return b""
