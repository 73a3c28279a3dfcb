"""Commands: what they get, how they end, and that all they started ends with them."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.shared import framing
from tests.agent.supervisor.conftest import UID, Supervisor

SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ), sys.stdin.read(), os.getcwd()]))"
ODD = ["a b", "", "$HOME", "%s", "'\"", "line\nbreak\n", "-x", "ü\udcff", "{}", "\\"]
# Leaves its session and its parents: only the mark tells whose it is.
LOST = "setsid --wait sh -c 'setsid sleep 1000 & echo $!' "
GATE = "until test -e gate; do sleep 0.05; done"
# Leaves its session and its mark, and its parents end.
UNMARKED = "env -i setsid sleep 1000 & sleep 0.1; echo $!"


def test_a_command_gets_its_words_environment_and_input_unchanged(supervisor: Supervisor) -> None:
    (supervisor.folder / "place" / "code").mkdir()
    env = {"ODD": "a\n'$x", "nl": "y", "PPID": "z", "UID": "7", "_": "x"}
    words = [word for word in ODD if word.isprintable() or "\n" in word]
    done = supervisor.run("python3", "-c", SHOW, *words, cwd="code", env=env, stdin="in\nput")
    argv, environment, stdin, directory = json.loads(done["stdout"])
    assert (argv, stdin, directory) == (words, "in\nput", f"{supervisor.folder}/place/code")
    assert env.items() <= environment.items()
    own = {"HOME": f"{supervisor.folder}/home", "USER": "cs-demo", "CODESMITH_WORKSPACE": "demo", "LANG": "C.UTF-8"}
    assert own.items() <= environment.items()
    assert not {"LISTEN_FDS", "LISTEN_PID", "INVOCATION_ID", "SUDO_USER"} & environment.keys()
    assert environment["PWD"] == directory


def test_a_command_has_only_its_own_descriptors_and_the_default_signals(supervisor: Supervisor) -> None:
    with supervisor.send("exec", **supervisor.command("sleep", "20")):
        done = supervisor.run("sh", "-c", "ls -l /proc/self/fd; grep -E 'SigIgn|SigBlk' /proc/self/status; umask")
    lines = done["stdout"].splitlines()
    assert [line.split()[8] for line in lines if "->" in line] == ["0", "1", "2", "3"]  # 3 is that of ls
    # glibc itself ignores its two internal signals.
    assert {int(line.split()[1], 16) & ~0x180000000 for line in lines if "Sig" in line} == {0}
    assert lines[-1] == "0077"


@pytest.mark.parametrize(
    ("argv", "code", "name", "said"),
    [
        (["true"], 0, None, ""),
        (["sh", "-c", "exit 7"], 7, None, ""),
        (["sh", "-c", "kill -9 $$"], 137, "SIGKILL", ""),
        (["sh", "-c", "kill -TERM $$"], 143, "SIGTERM", ""),
        (["sh", "-c", "kill -HUP $$"], 129, "SIGHUP", ""),
        (["no-such-program"], 127, None, "no-such-program: not found\n"),
        (["/etc/passwd"], 126, None, "/etc/passwd: Permission denied\n"),
        (["./none"], 127, None, "./none: No such file or directory\n"),
    ],
)
def test_how_a_command_ends_is_told(
    supervisor: Supervisor, argv: list[str], code: int, name: str | None, said: str
) -> None:
    done = supervisor.run(*argv)
    assert (done["exit_code"], done["signal"], done["killed_by"], done["stderr"]) == (code, name, None, said)


def test_a_script_without_a_first_line_runs_and_path_is_the_callers(supervisor: Supervisor) -> None:
    script = supervisor.folder / "place" / "tool"
    script.write_text('echo "ran $1"\n')
    script.chmod(0o755)
    assert supervisor.run("./tool", "a")["stdout"] == "ran a\n"
    assert supervisor.run("tool", "b", env={"PATH": f"{supervisor.folder}/place:/bin"})["stdout"] == "ran b\n"
    assert supervisor.run("tool", "b")["exit_code"] == 127


def test_a_directory_that_is_gone_is_told(supervisor: Supervisor) -> None:
    done = supervisor.run("true", cwd="code/none")
    assert (done["exit_code"], done["stderr"]) == (
        2,
        f"{supervisor.folder}/place/code/none: No such file or directory\n",
    )


def test_random_bytes_come_back_as_they_are(supervisor: Supervisor) -> None:
    blob = random.Random(1).randbytes(300_000)
    data = base64.b64encode(blob).decode()
    done = supervisor.run("sh", "-c", "tee x; cat x >&2", stdin=data, encoding="base64")
    assert base64.b64decode(done["stdout"]) == base64.b64decode(done["stderr"]) == blob
    assert supervisor.run("true", stdin="x" * 500_000)["exit_code"] == 0  # which reads none of it


def test_of_a_long_output_both_ends_are_kept(supervisor: Supervisor) -> None:
    done = supervisor.run("python3", "-c", "[print(f'{n:07}') for n in range(400_000)]")
    assert (done["stdout"][:7], done["stdout"][-8:]) == ("0000000", "0399999\n")
    assert (len(done["stdout"]), done["omitted_bytes"], done["truncated"]) == (1 << 20, 3_200_000 - (1 << 20), True)


@pytest.mark.parametrize("script", ["sleep 1000 & echo $!", "sleep 1000 & disown; echo $!", LOST, UNMARKED])
def test_what_a_command_leaves_running_ends_with_it(supervisor: Supervisor, script: str) -> None:
    done = supervisor.run("bash", "-c", script)
    assert done["exit_code"] == 0
    assert int(done["stdout"]) not in supervisor.pids()
    assert supervisor.ask("status")["result"]["processes"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", ["sleep 1000", "sleep 1000 & sleep 1000", LOST + "; sleep 1000", UNMARKED + "; sleep 9"]
)
def test_a_command_ends_with_its_time_and_so_does_all_it_started(supervisor: Supervisor, script: str) -> None:
    done = supervisor.run("bash", "-c", f"trap '' TERM INT; {script}", timeout_s=0.5)
    assert (done["exit_code"], done["signal"], done["killed_by"]) == (137, "SIGKILL", "timeout")
    assert supervisor.pids() == []


def test_what_forks_while_it_is_killed_ends_too(supervisor: Supervisor) -> None:
    bomb = "import os\nwhile True:\n  if os.fork(): os._exit(0)\n"
    done = supervisor.run("python3", "-c", bomb, timeout_s=0.5)
    assert done["duration_s"] < 10
    supervisor.wait_until(lambda: supervisor.pids() == [])


def test_a_command_ends_when_its_caller_goes_away(supervisor: Supervisor) -> None:
    connection = supervisor.send("exec", **supervisor.command("bash", "-c", f"{LOST}; sleep 1000"))
    supervisor.wait_until(lambda: len(supervisor.pids()) >= 2)
    connection.close()
    supervisor.wait_until(lambda: supervisor.pids() == [])
    assert supervisor.run("echo", "well")["stdout"] == "well\n"


def test_the_end_of_one_command_ends_nothing_of_another(supervisor: Supervisor) -> None:
    with supervisor.send("exec", **supervisor.command("bash", "-c", f"{LOST}; {GATE}; echo over")) as other:
        supervisor.wait_until(lambda: len(supervisor.pids()) >= 2)
        for _ in range(5):
            supervisor.run("bash", "-c", "sleep 1000 &")
        assert len(supervisor.pids()) >= 2
        supervisor.run("touch", "gate")
        answer = framing.receive(other, framing.REPLY_MAX)
    assert answer["result"]["stdout"].endswith("over\n")
    supervisor.wait_until(lambda: supervisor.pids() == [])


@pytest.mark.slow
def test_many_commands_run_at_once_and_share_no_output(supervisor: Supervisor) -> None:
    connections = [
        supervisor.send("exec", **supervisor.command("sh", "-c", f"sleep 0.2; seq {n} {n + 20000}")) for n in range(48)
    ]
    for n, connection in enumerate(connections):
        with connection:
            lines = framing.receive(connection, framing.REPLY_MAX)["result"]["stdout"].split()
        assert (lines[0], lines[-1], len(lines)) == (str(n), str(n + 20000), 20001)


@pytest.mark.slow
def test_what_hides_from_its_job_ends_with_the_last_one(supervisor: Supervisor) -> None:
    """Its mark, session and parents are gone, so nothing tells whose it is; it holds up no answer either."""
    hide = "env -i setsid sh -c 'sleep 1000 & exit' & sleep 0.2"
    with supervisor.send("exec", **supervisor.command("sleep", "2")) as other:
        assert supervisor.run("bash", "-c", hide)["exit_code"] == 0
        assert len(supervisor.pids()) == 2
        framing.receive(other, framing.REPLY_MAX)
    supervisor.wait_until(lambda: supervisor.pids() == [])


@pytest.mark.slow
def test_the_time_of_the_sandbox_limits_each_command(start: Callable[..., Supervisor]) -> None:
    done = start(runtime_s=0.3).run("sleep", "60")
    assert (done["killed_by"], done["duration_s"] < 5) == ("timeout", True)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"request": "exec"}, 1006),
        ({"protocol": 2, "request": "status"}, 1006),
        ({"protocol": 1, "request": "format"}, 1006),
        ({"protocol": 1, "request": "exec"}, 1007),
        ({"protocol": 1, "request": "exec", "argv": 7, "cwd": "", "env": {}, "stdin": "", "encoding": "text"}, 1007),
    ],
)
def test_what_is_no_request_gets_an_error_and_harms_nothing(
    supervisor: Supervisor, message: dict[str, Any], code: int
) -> None:
    supervisor.ask("start")
    open_now = lambda: len(os.listdir(f"/proc/{supervisor.process.pid}/fd"))  # noqa: E731
    supervisor.wait_until(lambda: open_now() == 8)
    for _ in range(3):
        with supervisor.connect() as connection:
            framing.send(connection, message)
            error = framing.receive(connection, framing.REPLY_MAX)["error"]
        assert error["code"] == code
    if code == 1006:
        known = message.get("protocol") == 1
        assert (error["data"].get("protocols"), error["data"]["hint"]) == (
            None if known else [1],
            "inv workspace.stop demo",
        )
    assert supervisor.run("echo", "well")["stdout"] == "well\n"
    supervisor.wait_until(lambda: open_now() == 8)


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\x09", b"\xff\xff\xff\xff", b"\0\0\0\2[]", b"\0\0\0\5nojso"])
def test_bytes_that_are_no_message_end_the_connection_alone(supervisor: Supervisor, data: bytes) -> None:
    supervisor.ask("start")
    with supervisor.connect() as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(10) == b""
    assert supervisor.run("echo", "well")["stdout"] == "well\n"


def test_on_sigterm_commands_end_with_their_answer(supervisor: Supervisor) -> None:
    with supervisor.send("exec", **supervisor.command("sh", "-c", "echo begun; sleep 1000")) as connection:
        supervisor.wait_until(lambda: len(supervisor.pids()) >= 2)
        time.sleep(0.2)
        os.kill(supervisor.process.pid, signal.SIGTERM)
        done = framing.receive(connection, framing.REPLY_MAX)["result"]
    assert (done["stdout"], done["signal"]) == ("begun\n", "SIGKILL")
    assert supervisor.process.wait(10) == 0
    assert [Path(f"/proc/{pid}/status").read_text() for pid in supervisor.pids()] == []


def test_the_supervisor_leaves_its_settings_to_nobody(supervisor: Supervisor) -> None:
    supervisor.run("true")
    assert os.readlink(f"/proc/{supervisor.process.pid}/fd/0") == "/dev/null"
    assert Path(f"/proc/{supervisor.process.pid}/cwd").readlink() == Path("/")


def test_a_request_for_which_there_is_no_room_gets_an_answer(supervisor: Supervisor) -> None:
    assert supervisor.run("true")["exit_code"] == 0
    pid = supervisor.process.pid
    # One for the connection, and none for pipes.
    highest = max(int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir())
    become = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "prlimit", f"--pid={pid}"]
    subprocess.run([*become, f"--nofile={highest + 2}:"], check=True)
    answer = supervisor.ask("exec", **supervisor.command("true"))
    subprocess.run([*become, "--nofile=1024:"], check=True)
    assert answer["error"]["data"]["kind"] == "command_failed"
    assert "Too many open files" in answer["error"]["message"]
    assert supervisor.run("echo", "well")["stdout"] == "well\n"


def test_what_runs_gets_the_variables_of_the_workspace(supervisor: Supervisor) -> None:
    config = supervisor.folder / "place" / "config"
    config.mkdir()
    (config / "environment").write_text(
        "# by the template\nSTAGE=dev\nexport QUOTED='a b'\nnot a variable\n"
        "HOME=/elsewhere\nCODESMITH_WORKSPACE=other\n"
    )
    command = ("sh", "-c", 'echo "$STAGE|$QUOTED|$HOME|$CODESMITH_WORKSPACE"')
    home = f"{supervisor.folder}/home"
    assert supervisor.run(*command)["stdout"] == f"dev|a b|{home}|demo\n"
    assert supervisor.run(*command, env={"STAGE": "test"})["stdout"] == f"test|a b|{home}|demo\n"


@pytest.mark.parametrize("kind", ["pipe", "link", "directory", "bytes"])
def test_odd_variables_of_a_workspace_hold_up_nothing(supervisor: Supervisor, kind: str) -> None:
    config = supervisor.folder / "place" / "config"
    config.mkdir()
    file = config / "environment"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "link":
        (config / "other").write_text("STAGE=led\n")
        file.symlink_to("other")
    elif kind == "directory":
        file.mkdir()
    else:
        file.write_bytes(b"\xff\0=1\nSTAGE=a\x1bb\n" + b"x" * 200000)
    assert supervisor.run("sh", "-c", "echo ${STAGE-none}")["stdout"] == "none\n"
