"""Breaks each thing that node.doctor checks on this machine, and looks at the finding."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from codesmith import __version__
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.layout import Desired
from codesmith.doctor import controller
from codesmith.doctor.finding import CODES, Finding
from codesmith.doctor.judge import judge
from codesmith.doctor.look import Look, clock_skew_s

pytestmark = pytest.mark.slow

TOP = Path(__file__).parents[2]
INV = str(Path(sys.executable).parent / "inv")
Row = dict[str, str]


class Desk:
    """A machine with an empty registry: only the controller is checked."""

    def __init__(self, folder: Path) -> None:
        self.nodes, self.home, self.run = folder / "nodes.yaml", folder / "home", folder / "home" / "run"
        self.nodes.write_text("nodes: {}\n")
        self.run.mkdir(parents=True, mode=0o700)
        self.home.chmod(0o700)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "CODESMITH_HOME": str(self.home),
            "CODESMITH_NODES": str(self.nodes),
        }

    def examine(self, *words: str, code: int = 0, **environment: str) -> dict[str, Row]:
        done = subprocess.run(
            [INV, "node.doctor", "--json", *words], cwd=TOP, env={**self.environment, **environment},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (code, ""), done
        return {row["code"]: row for row in json.loads(done.stdout)}


@pytest.fixture
def desk(codesmith_home: Path) -> Desk:
    return Desk(codesmith_home)


def told(row: Row) -> tuple[str, str]:
    return row["status"], row["next"]


def test_nothing_is_wrong_here(desk: Desk) -> None:
    found = desk.examine()
    assert {row["status"] for row in found.values()} == {"ok"}
    assert {row["node"] for row in found.values()} == {"controller"}
    assert f"CodeSmith {__version__}" in found["controller.versions"]["detail"]
    assert found["forwarder.process"]["detail"] == "none runs; a call starts it"


def test_it_makes_and_mends_nothing_before_it_has_looked(desk: Desk) -> None:
    desk.run.rmdir()
    desk.home.chmod(0o755)
    found = desk.examine()
    assert told(found["state.directory"]) == ("warn", f"chmod 700 {desk.home}")
    assert "not there yet" in found["runtime.directory"]["detail"]
    assert desk.home.stat().st_mode & 0o777 == 0o755
    assert not desk.run.exists()


def test_a_registry_that_cannot_be_read_is_a_finding(desk: Desk) -> None:
    desk.nodes.write_text("nodes:\n  web1: {hots: x}\n")
    found = desk.examine(code=1)
    assert found["registry.file"]["status"] == "fail"
    assert f"{desk.nodes}:2: nodes.web1.hots" in found["registry.file"]["detail"]
    assert found["controller.ssh"]["status"] == "ok"


def test_next_commands_are_about_the_file_that_was_given(desk: Desk) -> None:
    other = desk.nodes.with_name("other.yaml")
    other.write_text("nodes: {off1: {lab: bookworm}}\n")
    assert told(desk.examine("--file", str(other), code=1)["ssh.config"]) == (
        "fail",
        f"inv lab.up --file {other} --node off1",
    )


def test_pins_that_others_can_write_fail(desk: Desk) -> None:
    pins = desk.nodes.parent / "known_hosts"
    pins.write_text("")
    pins.chmod(0o664)
    assert told(desk.examine(code=1)["registry.known-hosts"]) == ("fail", f"chmod go-w {pins}")
    os.chown(pins, 12345, 12345)
    assert "another user (uid 12345)" in desk.examine(code=1)["registry.known-hosts"]["detail"]


def test_a_directory_of_another_user_fails(desk: Desk) -> None:
    os.chown(desk.run, 12345, 12345)
    found = desk.examine(code=1)
    assert told(found["runtime.directory"]) == ("fail", "export CODESMITH_HOME=DIR")
    assert "runtime.sockets" not in found
    os.chown(desk.run, 0, 0)
    desk.run.chmod(0o777)
    assert told(desk.examine()["runtime.directory"]) == ("warn", f"chmod 700 {desk.run}")


def test_a_socket_without_a_process_is_a_warning_and_a_file_in_its_place_fails(desk: Desk) -> None:
    stale = desk.run / "0123456789abcdef.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(stale))
        gone.listen()
        assert desk.examine()["runtime.sockets"]["status"] == "ok"
    assert told(desk.examine()["runtime.sockets"]) == ("warn", f"rm {stale}")
    stale.unlink()
    stale.write_text("")
    assert told(desk.examine(code=1)["runtime.sockets"]) == ("fail", f"look at it, then: rm {stale}")


def test_an_ssh_agent_that_is_gone_is_a_warning(desk: Desk) -> None:
    there = desk.home / "agent"
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(there))
        agent.listen()
        assert desk.examine(SSH_AUTH_SOCK=str(there))["controller.ssh-agent"]["status"] == "ok"
    assert desk.examine(SSH_AUTH_SOCK=str(there))["controller.ssh-agent"]["status"] == "warn"


def test_no_ssh_client_is_a_warning(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "inv").symlink_to(INV)
    found = desk.examine(PATH=str(tmp_path))
    assert told(found["controller.ssh"]) == ("warn", "apt-get install openssh-client")


def test_a_library_that_is_too_old_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(controller.LIBRARIES, "fabric", (99, 0))
    found = controller.check_versions()
    assert (found.status, found.next) == ("fail", "pip install --upgrade fabric")
    assert "at least fabric 99.0 is needed" in found.detail


@pytest.fixture
def forwarder(desk: Desk) -> Iterator[int]:
    subprocess.run(
        [sys.executable, "-m", "codesmith.tunnel", "--background"], cwd=TOP, env=desk.environment, check=True,
        stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    yield int((desk.run / "forwarder.lock").read_text())


def test_a_forwarder_that_runs_says_who_it_is(desk: Desk, forwarder: int) -> None:
    found = desk.examine()
    assert found["forwarder.process"]["detail"] == f"pid {forwarder}"
    assert found["forwarder.version"]["detail"] == __version__
    assert f"forwarder {forwarder} started" in found["forwarder.log"]["detail"]


def test_an_error_in_its_log_is_a_warning(desk: Desk) -> None:
    log = desk.home / "forwarder.log"
    log.write_text("2026-11-24T00:00:00Z ERROR web1: unexpected | Traceback\n2026-11-24T00:00:01Z INFO x\n")
    found = desk.examine()
    assert told(found["forwarder.log"]) == ("warn", f"tail {log}")
    assert "web1: unexpected" in found["forwarder.log"]["detail"]


def test_one_of_another_version_is_a_warning() -> None:
    for version in ("0.0.1", ""):
        found = controller.check_forwarder_version(version)
        assert (found.status, found.next) == ("warn", "inv node.disconnect --all; inv node.connect --all")


def test_one_that_holds_the_place_and_does_not_answer_fails(desk: Desk) -> None:
    lock = desk.run / "forwarder.lock"
    lock.write_text("4711\n")
    with open(lock) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert told(desk.examine(code=1)["forwarder.process"]) == ("fail", "kill 4711")


@pytest.mark.parametrize(("node_s", "skew_s"), [(1000, 0), (1002, 0), (1009, 7), (989, -10)])
def test_the_time_that_the_look_took_is_no_skew(node_s: int, skew_s: int) -> None:
    assert clock_skew_s(str(node_s), begun=1000.5, ended=1002.0) == pytest.approx(skew_s, abs=0.6)


@pytest.mark.parametrize(("skew_s", "words"), [(60.0, "60 s ahead of"), (-7.0, "7 s behind")])
def test_a_clock_that_is_off_is_a_warning(skew_s: float, words: str) -> None:
    look = Look(Facts(login="root"), is_root=True, skew_s=skew_s, calls={}, no_answer="")
    found = {one.code: one for one in judge("web1", look, Desired("0" * 64, "0.2.0", {}, "id"), "")}
    assert found["node.clock"].status == "warn"
    assert words in found["node.clock"].detail


def test_the_readme_says_of_every_code_what_it_means() -> None:
    lines = (TOP / "codesmith/doctor/README.md").read_text().splitlines()
    rows = [re.fullmatch(r"\| `([a-z.-]+)` \| (.+?) \| .+ \|", line) for line in lines]
    assert {row[1]: row[2] for row in rows if row} == CODES


def test_a_finding_has_a_known_code_and_a_next_command_when_something_is_to_be_done() -> None:
    for code, status, following in (("no.such", "ok", ""), ("ssh.login", "fail", ""), ("ssh.login", "ok", "x")):
        with pytest.raises(ValueError, match="not a finding"):
            Finding("web1", code, status, "detail", following)


def test_the_least_versions_are_those_that_are_installed_by_pip() -> None:
    asked = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["dependencies"]
    found = dict(re.match(r"(\w+)>=([0-9.]+)", line).groups() for line in asked if re.match(r"(fabric|invoke)>=", line))  # type: ignore[union-attr]
    assert {name: ".".join(map(str, controller.LIBRARIES[name])) for name in found} == found
    assert set(controller.LIBRARIES) - set(found) == {"paramiko"}  # comes with fabric
