"""After cuts, kills, full disks and on odd nodes, one whole release is left, and the next prepare completes."""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from codesmith.bootstrap import apply as applying
from codesmith.bootstrap import door_files, layout, zipapp
from codesmith.bootstrap import pack as packing
from codesmith.bootstrap.prepare import Progress, prepare
from codesmith.errors import StepFailed, Unreachable, Unsupported
from codesmith.lab import LabNode
from codesmith.nodes.registry import Node
from tests.bootstrap.node_side import ask, ledger_of, listing, sh
from tests.kinds import some_names_of

AsNode = Callable[..., Node]
Releases = Callable[[str], packing.Payload]
Ship = Callable[[str], None]
SEED = int(os.environ.get("CODESMITH_SEED", "20261124"))
FEW_KILLS, MANY_KILLS = 2, 20
LEFT = f"find /etc {layout.CODE} -name '.codesmith-tmp-*' -o -path {layout.FALLBACK}"

# Sent before the program: kills it, or the sshd that started it, at one of its system calls.
STRIKE = """
import os, signal, sys
EVENTS = {"fcntl.flock", "open", "os.chmod", "os.chown", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
          "os.symlink", "os.listdir", "socket.connect", "socket.__new__", "subprocess.Popen"}
calls = 0
def hook(event, args):
    global calls
    if event in EVENTS:
        calls += 1
        if calls == AT:
            os.kill(VICTIM(), signal.SIGNAL)
def sshd():
    pid = os.getpid()
    while open(f"/proc/{pid}/comm").read().strip() not in ("sshd", "sshd-session"):
        pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
    return pid
sys.addaudithook(hook)
if not AT:
    import atexit
    atexit.register(lambda: open("/run/calls", "w").write(str(calls)))
"""


class Striker:
    """Kills the next programs that carry out steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._prelude = ""
        program = applying.program
        monkeypatch.setattr(applying, "program", lambda name: self._prelude + program(name))

    def at(self, call: int, victim: str = "os.getpid", signal: str = "SIGKILL") -> None:
        """Strike at this system call; with 0 never, but count the calls in /run/calls."""
        self._prelude = STRIKE.replace("AT", str(call)).replace("VICTIM", victim).replace("SIGNAL", signal)

    def rest(self) -> None:
        self._prelude = ""


@pytest.fixture
def striker(monkeypatch: pytest.MonkeyPatch) -> Striker:
    return Striker(monkeypatch)


@pytest.fixture(scope="module")
def releases(agent_copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], packing.Payload]:
    """Pack the agent with any version."""
    made: dict[str, packing.Payload] = {}

    def give(version: str) -> packing.Payload:
        if version not in made:
            agent = Path(shutil.copytree(agent_copy, tmp_path_factory.mktemp("release") / "agent"))
            text = (agent / "__init__.py").read_text()
            (agent / "__init__.py").write_text(text.replace(zipapp.version(agent), version))
            made[version] = packing.pack_into(agent, agent.parent / "agent.pyz")
        return made[version]

    return give


@pytest.fixture
def ship(releases: Releases, monkeypatch: pytest.MonkeyPatch) -> Ship:
    """Make prepare install this version from now on; its unit file names the version too."""
    desired_for = layout.desired_for

    def give(version: str) -> None:
        def versioned(payload: packing.Payload, node_id: str, git_hosts: Sequence[str] = ()) -> layout.Desired:
            desired = desired_for(payload, node_id, git_hosts)
            unit = desired.units[layout.AGENT_SERVICE] + f"[Service]\nEnvironment=RELEASE={version}\n"
            return replace(desired, units={**desired.units, layout.AGENT_SERVICE: unit})

        monkeypatch.setattr(packing, "pack", lambda: releases(version))
        monkeypatch.setattr(layout, "desired_for", versioned)

    return give


@pytest.fixture(scope="module")
def counted() -> list[int]:
    """The number of system calls of an upgrade, once it was counted."""
    return []


@pytest.fixture
def calls(node: LabNode, as_node: AsNode, ship: Ship, striker: Striker, counted: list[int]) -> int:
    """The number of system calls of an upgrade; the node has releases 1.0.0 and 1.0.1 afterwards."""
    for version in (["1.0.0"] if counted else ["1.0.2", "1.0.0"]) + ["1.0.1"]:
        ship(version)
        striker.at(0)
        prepare(as_node(node))
    counted.extend([] if counted else [int(sh(node, "cat /run/calls"))])
    return counted[0]


def unit_release(node: LabNode) -> str:
    """Return the release whose unit file systemd uses."""
    return sh(node, "systemctl show --property=Environment --value codesmith-agent.service").rpartition("=")[2]


def assert_nothing_is_half_there(node: LabNode, known: set[str]) -> None:
    """Every file with a final name is whole: each agent that could be started is one that was sent."""
    # If only sshd was killed the program still runs: it may remove an old release meanwhile.
    sums = sh(node, f"sha256sum {layout.RELEASES}/*/agent.pyz 2>/dev/null || true").splitlines()
    assert sums
    assert {line.split()[0] for line in sums} <= known
    assert ledger_of(node)["format"] == 1
    programs = sh(node, f"find {layout.CODE} {layout.CONFIG} -type f -perm /111 2>/dev/null || true").split()
    assert [path for path in programs if path != door_files.ENTER] == []
    enter = node.root / door_files.ENTER.lstrip("/")
    assert not enter.exists() or enter.read_text() == door_files.door_files()[door_files.ENTER].text


@pytest.mark.parametrize("wanted_kills", [FEW_KILLS, pytest.param(MANY_KILLS, marks=pytest.mark.long)])
@pytest.mark.timeout(600)  # many upgrades
def test_an_upgrade_killed_at_any_moment_leaves_one_release_and_the_next_completes(
    node: LabNode, as_node: AsNode, ship: Ship, releases: Releases, striker: Striker, calls: int, wanted_kills: int
) -> None:
    chance = random.Random(SEED)
    known = {releases(version).sha256 for version in ("1.0.0", "1.0.1")}
    before, kills = "1.0.1", 0
    for number in range(2 * wanted_kills):
        if kills == wanted_kills:
            break
        wanted, call = f"1.1.{number}", chance.randint(1, calls)
        told = f"seed {SEED}, call {call} of {calls}"
        ship(wanted)
        known.add(packing.pack().sha256)
        striker.at(call, victim=chance.choice(("os.getpid", "sshd")))
        kills += was_killed(as_node(node))
        assert ask(node)["agent"] in (before, wanted), told
        assert_nothing_is_half_there(node, known)
        striker.rest()
        prepare(as_node(node))
        assert ask(node)["agent"] == unit_release(node) == wanted, told
        assert sh(node, LEFT) == "", told
        before = wanted
    assert kills == wanted_kills
    assert prepare(as_node(node)).steps == ()


def was_killed(node: Node) -> bool:
    """Prepare a node; the number of calls varies with the time that the agent takes to answer."""
    try:
        prepare(node)
    except (Unreachable, StepFailed) as error:
        assert re.search("connection was lost|ended early", error.problem), error
        return True
    return False


@pytest.mark.long  # of a prepare, `make test` has one
@pytest.mark.parametrize("parts", [(0.5,), (0.1, 0.9)], ids=str)
def test_after_a_power_cut_in_an_upgrade_a_node_boots_with_one_release_whole(
    node: LabNode, as_node: AsNode, ship: Ship, releases: Releases, striker: Striker, calls: int, parts: tuple[float]
) -> None:
    for part in parts:
        wanted = f"1.2.{part}"
        ship(wanted)
        striker.at(int(calls * part), signal="SIGSTOP")
        with ThreadPoolExecutor(1) as pool:
            cut = pool.submit(prepare, as_node(node))
            wait_for(node, "grep -ls '^State:.T' /proc/[0-9]*/status || true")
            node.power_cut()
            with pytest.raises(Unreachable):
                cut.result()
        node.start()
        assert ask(node)["agent"] == unit_release(node), part
        striker.rest()
        prepare(as_node(node))
        assert ask(node)["agent"] == unit_release(node) == wanted
        assert sh(node, LEFT) == "", part


def wait_for(node: LabNode, script: str) -> None:
    deadline = time.monotonic() + 60
    while not sh(node, script):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("part", [*(pytest.param(less, marks=pytest.mark.long) for less in (0.0, 0.02, 0.5)), 0.999])
def test_an_upload_that_was_cut_off_changes_nothing(
    node: LabNode, as_node: AsNode, ship: Ship, monkeypatch: pytest.MonkeyPatch, part: float
) -> None:
    ship("1.0.1")
    prepare(as_node(node))
    before = sh(node, STATE_OF_A_NODE)
    ship("1.0.2")
    payload = applying.payload
    monkeypatch.setattr(applying, "payload", lambda *args: cut(payload(*args), part))
    with pytest.raises(StepFailed, match=r"ended early|did not arrive whole"):
        prepare(as_node(node))
    assert sh(node, STATE_OF_A_NODE) == before


def cut(data: bytes, part: float) -> bytes:
    return data[: int(len(data) * part)]


# Every file with its times, and the invocation of the agent.
STATE_OF_A_NODE = f"""
find {layout.CODE} {layout.CONFIG} -ls | sort
systemctl show --property=InvocationID codesmith-agent.service
"""


@pytest.fixture
def small(node: LabNode, as_node: AsNode, ship: Ship) -> Iterator[None]:
    """Put the node's releases on a small disk of their own."""
    ship("1.0.1")
    prepare(as_node(node))
    code = layout.CODE
    sh(node, f"cp -a {code} /run/keep; mount -t tmpfs -o size=24m,mode=755 tmpfs {code}; cp -a /run/keep/. {code}")
    yield
    sh(node, f"umount {code}; rm -r /run/keep")
    prepare(as_node(node))


FILL = f"dd if=/dev/zero of={layout.CODE}/full bs=64k status=none || true"


def test_a_full_disk_is_noticed_before_the_running_agent_is_touched(
    node: LabNode, as_node: AsNode, ship: Ship, small: None
) -> None:
    before = sh(node, STATE_OF_A_NODE)
    ship("1.0.2")
    sh(node, FILL)
    with pytest.raises(Unsupported, match=r"/usr/lib/codesmith has 0 MiB free .8 are needed."):
        prepare(as_node(node))
    sh(node, f"rm {layout.CODE}/full")

    def fill(progress: Progress) -> None:
        if progress.phase == "probe":
            sh(node, FILL)

    with pytest.raises(StepFailed, match=r"could not install the agent 1.0.2: .* No space left on device"):
        prepare(as_node(node), on_progress=fill)
    sh(node, f"rm {layout.CODE}/full")
    assert sh(node, LEFT) == ""
    assert ask(node)["agent"] == "1.0.1"
    running = before.splitlines()[-1]
    assert sh(node, STATE_OF_A_NODE).splitlines()[-1] == running
    assert prepare(as_node(node)).changed
    assert ask(node)["agent"] == "1.0.2"


OLD_PYTHON = """#!/bin/sh
[ "$1" != -V ] || { echo Python 3.6.8; exit; }
exec /usr/bin/python3.11 -I -S -c 'import sys; sys.version_info = (3, 6, 8, "final", 0); exec(sys.argv[1])' "$4"
"""
# An sshd as process 1 of its own pid namespace, with a /run of its own.
NO_SYSTEMD = "mount -t tmpfs tmpfs /run/systemd; exec /usr/sbin/sshd -D -p 2222"
ODD = {
    "Python 3.6": (
        "mv /usr/bin/python3 /usr/bin/python3.real; "
        f"cat >/usr/bin/python3 <<'E'\n{OLD_PYTHON}E\nchmod 755 /usr/bin/python3",
        "mv /usr/bin/python3.real /usr/bin/python3",
        r"/usr/bin/python3 is 3\.6\.8",
    ),
    "an unknown architecture": (
        "mkdir /run/systemd/system/ssh.service.d; printf '[Service]\nPersonality=x86\n' "
        ">/run/systemd/system/ssh.service.d/x.conf; systemctl daemon-reload; systemctl restart ssh",
        "rm -r /run/systemd/system/ssh.service.d; systemctl daemon-reload; systemctl restart ssh",
        "the architecture i686 is not known",
    ),
    "no systemd": (
        f"systemd-run --unit=odd unshare --mount --pid --fork --kill-child --mount-proc sh -c '{NO_SYSTEMD}'; "
        "until ss -ltn | grep -q ':2222 '; do sleep 0.05; done",
        "systemctl stop odd",
        r"systemd does not run there \(process 1 is sshd\)",
    ),
}


@pytest.mark.parametrize("odd", some_names_of(ODD, "Python 3.6", "no systemd"))
def test_a_node_that_cannot_be_prepared_is_left_exactly_as_it_was(bare: LabNode, as_node: AsNode, odd: str) -> None:
    make, undo, reason = ODD[odd]
    sh(bare, make)
    node = as_node(bare, port=2222) if odd == "no systemd" else as_node(bare)
    try:
        before = listing(bare)
        for plan_only in (True, False):
            with pytest.raises(Unsupported, match=reason):
                prepare(node, plan_only=plan_only)
        assert listing(bare) == before
    finally:
        sh(bare, undo)


@pytest.fixture(scope="module")
def bare(boot: Callable[..., LabNode]) -> LabNode:
    """A bare node."""
    return boot("bare")
