"""Background forwards in the forwarder: what it keeps, what its successor has again, and how one ends. No node."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from codesmith.errors import CodeSmithError, Unreachable
from codesmith.nodes.registry import Node
from codesmith.tunnel import forward as forward_module
from codesmith.tunnel import forwards as forwards_module
from codesmith.tunnel.forward import Forward, read_error, read_look
from codesmith.tunnel.forwards import Forwards, Spec, read
from codesmith.tunnel.port_owner import describe_owner
from tests.waiting import eventually

# Listens as `ssh -N -L` does, and says so.
LISTENER = """
import os, socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listens", flush=True)
while True:
    time.sleep(100)
"""
RUNS = {"result": {"runtime": {"state": "running"}}}


@pytest.fixture(autouse=True)
def running_workspace(monkeypatch: pytest.MonkeyPatch) -> list[CodeSmithError | None]:
    """What a look at the workspace finds: it runs, unless a test puts an error there."""
    found: list[CodeSmithError | None] = [None]
    monkeypatch.setattr(forward_module, "look", lambda *_: found[0])
    monkeypatch.setattr(forward_module, "LOOK_EVERY_S", 0.05)
    return found


def spec(node: Node, port: int, workspace: str = "demo", inside: int = 3000) -> Spec:
    return Spec(node, workspace, inside, port, (sys.executable, "-c", LISTENER, str(port)))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def is_open(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def holder(port: int) -> int:
    """Return the pid of the listener of a port; 0 if there is none at this moment."""
    return int(describe_owner(port).partition("pid ")[2].rstrip(")") or 0)


def test_a_forward_is_ready_when_it_listens_and_ends_with_its_stop(home: Path, node: Node) -> None:
    kept, port = Forwards(home / "forwards.json"), free_port()
    state = kept.start(spec(node, port))
    assert (state.state, state.address, is_open(port)) == ("ready", f"127.0.0.1:{port}", True)
    assert kept.start(spec(node, port)) == state
    (ended,) = kept.stop(str(node.registry), node.name, "demo", 3000)
    assert ended.local == port and not is_open(port) and kept.states() == [] and read(home / "forwards.json") == []


def test_a_port_that_another_forward_has_is_refused(home: Path, node: Node) -> None:
    kept, port = Forwards(home / "forwards.json"), free_port()
    kept.start(spec(node, port))
    with pytest.raises(CodeSmithError, match="it is port 3000 of demo on web1") as refused:
        kept.start(spec(node, port, "other"))
    assert refused.value.hint == "inv workspace.forward demo 3000 --stop --node web1"
    kept.close()


def test_a_first_failure_is_told_and_nothing_is_kept(home: Path, node: Node) -> None:
    kept = Forwards(home / "forwards.json")
    script = "import sys; sys.exit('error: no such thing\\nhint: inv node.list')"
    with pytest.raises(Unreachable, match="no such thing"):
        kept.start(Spec(node, "demo", 1, 2, (sys.executable, "-c", script)))
    assert kept.states() == [] and not (home / "forwards.json").exists()


def test_a_forward_that_failed_is_not_in_the_file_for_another_ones_sake(home: Path, node: Node) -> None:
    """Another one is ready, and written, while the first attempt is still under way."""
    kept, port, gate = Forwards(home / "forwards.json"), free_port(), home / "gate"
    os.mkfifo(gate)
    script = "import sys; open(sys.argv[1]).read(); sys.exit('error: no such thing')"
    failing = Spec(node, "other", 1, 2, (sys.executable, "-c", script, str(gate)))
    errors: list[CodeSmithError] = []

    def start() -> None:
        with pytest.raises(Unreachable) as caught:
            kept.start(failing)
        errors.append(caught.value)

    starting = threading.Thread(target=start)
    starting.start()
    with gate.open("w"):  # once its ssh runs
        kept.start(spec(node, port))
    starting.join()
    assert [error.problem for error in errors] == ["no such thing"]
    assert read(home / "forwards.json") == [spec(node, port)]
    kept.close()


def test_a_forward_whose_ssh_ends_is_started_again(home: Path, node: Node) -> None:
    kept, port = Forwards(home / "forwards.json"), free_port()
    kept.start(spec(node, port))
    before = holder(port)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: holder(port) not in (0, before), "it is not started again")
    kept.close()


@pytest.mark.slow
def test_a_stopped_workspace_is_waited_for(
    home: Path, node: Node, running_workspace: list[CodeSmithError | None]
) -> None:
    kept, port = Forwards(home / "forwards.json"), free_port()
    kept.start(spec(node, port))
    running_workspace[0] = Unreachable("demo is stopped", hint="inv workspace.start demo")
    os.kill(holder(port), signal.SIGKILL)
    eventually(lambda: kept.states()[0].reason == "demo is stopped", "it is not told")
    assert not is_open(port)
    running_workspace[0] = None
    eventually(lambda: kept.states()[0].state == "ready", "it does not come back")
    kept.close()


def test_all_that_end_share_one_wait(home: Path, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them hangs; a clock of its own says how long that takes."""
    now, begun = [100.0], list[Forward]()

    class Hanging(Forward):
        def join(self, timeout_s: float) -> None:
            now[0] += timeout_s
            begun.append(self)

    kept = Forwards(home / "forwards.json", Hanging)
    for number in range(3):
        kept.start(spec(node, free_port(), f"w{number}"))
    monkeypatch.setattr(forwards_module, "time", SimpleNamespace(monotonic=lambda: now[0]), raising=False)
    kept.close()
    after_close = now[0]
    kept.stop(str(node.registry), node.name)
    for one in begun:
        Forward.join(one, 30)
    assert (after_close, now[0]) == (100.0 + forwards_module.STOP_S, 100.0 + 2 * forwards_module.STOP_S)


def test_a_successor_has_them_again(home: Path, node: Node) -> None:
    path, ports = home / "forwards.json", (free_port(), free_port())
    first = Forwards(path)
    for number, port in enumerate(ports):
        first.start(spec(node, port, f"w{number}"))
    assert path.stat().st_mode & 0o777 == 0o600
    first.close()
    assert not any(map(is_open, ports))
    second = Forwards(path)
    assert second.resume() == [node]
    eventually(lambda: all(map(is_open, ports)), "they are not there again")
    assert [state.workspace for state in second.states()] == ["w0", "w1"]
    second.close()


@pytest.mark.parametrize("text", ["", "{", '[{"node": 1}]', "[[]]"])
def test_a_file_that_is_none_loses_the_forwards_and_nothing_else(home: Path, text: str) -> None:
    (home / "forwards.json").write_text(text)
    assert Forwards(home / "forwards.json").resume() == []


def test_ssh_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    port = free_port()
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from codesmith.tunnel.forward import Forward
kept = Forward("x", "demo", [sys.executable, "-c", {LISTENER!r}, "{port}"], Path("/nothing"))
kept.ensure_ready(20)
print("ready", flush=True)
time.sleep(100)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        process.kill()
        eventually(lambda: not is_open(port), "it still listens")


def test_what_ssh_says_is_one_error() -> None:
    lines = [
        "error: no workspace 'x' on this node",
        "hint: inv workspace.list",
        "Connection closed by UNKNOWN port 65535",
    ]
    error = read_error(lines, "x")
    assert (error.problem, error.hint) == ("no workspace 'x' on this node", "inv workspace.list")
    taken = ["bind [127.0.0.1]:80: Permission denied", "Could not request local forwarding."]
    assert read_error(taken, "x").problem == "x: bind [127.0.0.1]:80: Permission denied"
    assert read_error([], "x").problem == "x: ssh ended"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (RUNS, None),
        ({"result": {"runtime": {"state": "stopped"}}}, "demo is stopped"),
        ({"error": {"code": 1001, "message": "no workspace 'demo'", "data": {"hint": "h"}}}, "demo was deleted"),
        ({"error": {"kind": "Unreachable", "problem": "no route", "hint": "h"}}, "no route"),
        ([], "the node answered workspace.get with something else"),
    ],
)
def test_what_a_look_finds(answer: object, problem: str | None) -> None:
    error = read_look(answer, "demo")
    assert (error is None) if problem is None else (error is not None and error.problem.startswith(problem))


def test_nothing_is_left_of_a_forward(home: Path) -> None:
    port = free_port()
    one = Forward("x", "demo", [sys.executable, "-c", LISTENER, str(port)], home / "x.sock")
    one.ensure_ready(20)
    one.stop()
    one.join(30)
    assert one.is_over and not is_open(port)
