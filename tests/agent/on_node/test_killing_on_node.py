"""Kill the processes of a workspace: it cannot block that, and no process with its uid is overlooked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from codesmith.errors import AgentRefused
from tests.agent.on_node.test_users_on_node import as_user
from tests.agent.on_node.web1 import Web1
from tests.releases import TRIXIE_FIRST

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]

# Stops every process that starts next, if the kernel allows it.
STOPPER = """
import os, signal
mine, kill, stop = {os.getpid(), os.getppid()}, os.kill, signal.SIGSTOP
with open("/proc/loadavg", "rb", buffering=0) as file:
    while True:
        last = int(file.read().split()[-1])
        file.seek(0)
        for pid in range(last, last + 4):
            if pid not in mine:
                try:
                    kill(pid, stop)
                except OSError:
                    pass
"""
# A second login runs it with a set-uid copy of Python that the victim left with it.
EFFECTIVE = """
import os, sys, time
mate, victim = map(int, sys.argv[1:])
os.setresuid(mate, victim, mate)
assert os.getresuid() == (mate, victim, mate)
time.sleep(3600)
"""
OF_A_THREAD = """
import ctypes, os, platform, sys, threading, time
mate, victim = map(int, sys.argv[1:])
number = {"x86_64": 117, "aarch64": 147}[platform.machine()]
become = lambda uid: ctypes.CDLL(None).syscall(*map(ctypes.c_long, (number, uid, uid, uid)))
def work():
    assert become(victim) == 0
    ready.set()
    time.sleep(3600)
ready = threading.Event()
threading.Thread(target=work, daemon=True).start()
ready.wait()
# The system call, not the library's function: it changes this thread alone.
assert become(mate) == 0
time.sleep(3600)
"""
EFFECTIVE_FIRST = pytest.mark.parametrize("trick", ["effective", pytest.param("thread", marks=pytest.mark.long)])
THREAD_FIRST = pytest.mark.parametrize("trick", ["thread", pytest.param("effective", marks=pytest.mark.long)])


@pytest.fixture(autouse=True)
def _programs(web1: Web1) -> None:
    for name, text in (("stopper", STOPPER), ("effective", EFFECTIVE), ("thread", OF_A_THREAD)):
        web1.on(f"cat > /srv/{name}.py <<'E'\n{text}E\nchmod 644 /srv/{name}.py")


@pytest.fixture
def workspaces(web1: Web1) -> Iterator[None]:
    """Two workspaces that cooperate: the login of one has left a set-uid program with the other."""
    for name in ("victim", "mate"):
        web1.client.workspace.create(name=name)
    as_user(web1, "cs-victim", "cp $(readlink -f /usr/bin/python3) /var/tmp/left; chmod 4755 /var/tmp/left")
    yield
    web1.on("pkill -KILL -x left; rm -f /var/tmp/left", check=False)
    for name in ("victim", "mate"):
        with contextlib.suppress(AgentRefused):  # deleted by the test
            web1.client.workspace.delete(name=name)


def start(web1: Web1, trick: str) -> str:
    """Run a program with the victim's uid as the mate; return its pid."""
    uids = web1.on("id -u cs-mate; id -u cs-victim").out.split()
    become = "setpriv --reuid=cs-mate --regid=cs-mate --clear-groups"
    web1.on(f"cd /; {become} /var/tmp/left /srv/{trick}.py {' '.join(uids)} > /dev/null 2>&1 &")
    mate, victim = uids
    effective, of_a_thread = [[mate, victim, mate, victim]], [[mate] * 4, [victim] * 4]
    wanted = effective if trick == "effective" else of_a_thread
    web1.person.wait_until(lambda: uids_of(web1, "$(pgrep -x left)") == sorted(wanted), within_s=20)
    return web1.on("pgrep -x left").out.strip()


def uids_of(web1: Web1, pid: str) -> list[list[str]]:
    """Return the four uids of each thread."""
    lines = web1.on(f"grep -h ^Uid: /proc/{pid}/task/*/status", check=False).out.splitlines()
    return sorted(line.split()[1:] for line in lines)


def is_there(web1: Web1, pid: str) -> bool:
    return web1.on(f"test -e /proc/{pid}", check=False).ok


@pytest.mark.parametrize("rounds", [4, pytest.param(8, marks=pytest.mark.long)])
def test_a_user_cannot_stop_what_ends_its_processes(web1: Web1, rounds: int) -> None:
    uid = web1.client.workspace.create(name="stopper").uid
    disable = web1.helper_command({"verb": "user.disable", "arguments": {"name": "stopper"}})
    try:
        for _ in range(rounds):
            become = "setpriv --reuid=cs-stopper --regid=cs-stopper --clear-groups"
            web1.on(f"cd /; for i in 1 2 3 4; do {become} python3 /srv/stopper.py > /dev/null 2>&1 & done; sleep 0.3")
            said = web1.on(f"timeout 20 {disable}", check=False)
            assert said.ok, f"no answer: {said}"
            assert '"error"' not in said.out, said.out
            assert not web1.on(f"pgrep -U {uid}; pgrep -u {uid}", check=False).out
            web1.client.user.enable(name="stopper")
    finally:
        web1.on(f"pkill -KILL -U {uid}", check=False)
    assert web1.client.workspace.delete(name="stopper").user_deleted


@EFFECTIVE_FIRST
@pytest.mark.usefixtures("workspaces")
def test_disable_and_delete_end_what_another_login_runs_with_the_uid(web1: Web1, trick: str) -> None:
    pid = start(web1, trick)
    web1.client.user.disable(name="victim")
    assert not is_there(web1, pid)
    web1.client.user.enable(name="victim")
    pid = start(web1, trick)
    assert web1.client.workspace.delete(name="victim").user_deleted
    assert not is_there(web1, pid)


@THREAD_FIRST
@pytest.mark.usefixtures("workspaces")
def test_assign_ends_what_another_login_runs_with_the_uid(web1: Web1, trick: str) -> None:
    pid = start(web1, trick)
    bystander = web1.on("setpriv --reuid=cs-mate --clear-groups sleep 3600 > /dev/null 2>&1 & echo $!").out.strip()
    assert web1.client.workspace.assign(name="victim", user="mate").user == "mate"
    assert not is_there(web1, pid)
    assert is_there(web1, bystander)
    web1.client.workspace.delete(name="victim")
    web1.client.user.delete(name="victim")
