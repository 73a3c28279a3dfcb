"""A real supervisor as a login of its own, on a real socket; only systemd is missing."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.shared import framing

TOP = Path(__file__).parents[3]
# What systemd does: the socket as descriptor 3, the settings as standard input, and the login.
START = "import sys; sys.path.insert(0, sys.argv[1]); from agent.main import main; sys.exit(main(['supervisor']))"
# What a release is for the programs inside.
MAIN = "import sys; sys.path.insert(0, {0!r}); from agent.main import main; sys.exit(main(sys.argv[1:]))"
# Of this process of the tests alone: a supervisor kills all processes of its uid.
UID = 60600 + os.getpid() % 500
RELEASE_MAX_S = 10.0


class Supervisor:
    """One supervisor: `ask` sends a request and returns the whole answer."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder, self._path = folder, folder / "s.sock"
        for name in ("home", "place"):
            (folder / name).mkdir(exist_ok=True)
            os.chown(folder / name, UID, UID)
        release = folder / "release"
        release.mkdir(exist_ok=True)
        (release / "__main__.py").write_text(MAIN.format(str(TOP)))
        known = {
            "workspace": "demo", "login": "cs-demo", "home": f"{folder}/home", "path": f"{folder}/place",
            "shell": "/bin/sh", "proxies": {}, "runtime_s": None, "idle_stop_s": 60, "for_clone": False,
            "release": str(release), **settings,
        }  # fmt: skip
        (folder / "settings").write_text(json.dumps(known))
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(self._path))
        self._listening.listen(64)
        passed = fcntl.fcntl(self._listening, fcntl.F_DUPFD_CLOEXEC, 10)
        become = f"setpriv --reuid={UID} --regid={UID} --clear-groups"
        script = f'LISTEN_FDS=1 LISTEN_PID=$$ exec {become} "$@" 3<&{passed} {passed}<&-'
        with (folder / "settings").open() as stdin:
            self.process = subprocess.Popen(
                ["bash", "-c", script, "sh", sys.executable, "-I", "-S", "-c", START, TOP],
                stdin=stdin, pass_fds=[passed], cwd="/",
            )  # fmt: skip
        os.close(passed)

    def close(self) -> None:
        self._listening.close()
        self.process.kill()
        self.process.wait()
        # All at once: what forks on and on is missed one by one.
        kill = "import os, signal; os.kill(-1, signal.SIGKILL)"
        become = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
        while self.pids():
            subprocess.run([*become, sys.executable, "-I", "-S", "-c", kill], capture_output=True, check=False)

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(30)
        connection.connect(str(self._path))
        return connection

    def send(self, request: str, descriptor: int | None = None, **fields: Any) -> socket.socket:
        connection = self.connect()
        framing.send(connection, {"protocol": 1, "request": request, **fields}, descriptor)
        return connection

    def ask(self, request: str, descriptor: int | None = None, **fields: Any) -> dict[str, Any]:
        with self.send(request, descriptor, **fields) as connection:
            return framing.receive(connection, framing.REPLY_MAX)

    def run(self, *argv: str, **fields: Any) -> dict[str, Any]:
        """Run a command, and return its Execution."""
        answer = self.ask("exec", **self.command(*argv, **fields))
        assert "result" in answer, answer
        return answer["result"]

    def command(self, *argv: str, **fields: Any) -> dict[str, Any]:
        defaults = {"cwd": "", "env": {}, "stdin": "", "encoding": "text", "timeout_s": 20.0}
        return {"argv": list(argv), **defaults, **fields}

    def pids(self) -> list[int]:
        """Return the processes of its login, but not itself."""
        found = []
        for folder in Path("/proc").iterdir():
            try:
                is_ours = folder.name.isdigit() and folder.stat().st_uid == UID
                state = (folder / "stat").read_text().rpartition(") ")[2][0] if is_ours else "Z"
            except OSError:
                continue
            if state != "Z" and int(folder.name) != self.process.pid:
                found.append(int(folder.name))
        return found

    def wait_until(self, is_true: Callable[[], Any], within_s: float = RELEASE_MAX_S) -> None:
        deadline = time.monotonic() + within_s
        while not is_true():
            assert time.monotonic() < deadline, "it does not come true"
            time.sleep(0.01)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the login may enter, with a short name for the socket."""
    top = Path(f"/run/codesmith-test-{secrets.token_hex(4)}")
    top.mkdir(mode=0o755)
    yield top
    subprocess.run(["rm", "-rf", "--", top], check=True)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Supervisor]]:
    """Start supervisors with other settings: `start(idle_stop_s=0.5)`."""
    there: list[Supervisor] = []

    def start_one(**settings: Any) -> Supervisor:
        for supervisor in there:
            supervisor.close()
        (folder / "s.sock").unlink(missing_ok=True)
        there[:] = [Supervisor(folder, **settings)]
        return there[0]

    yield start_one
    for supervisor in there:
        supervisor.close()


@pytest.fixture
def supervisor(start: Callable[..., Supervisor]) -> Supervisor:
    """A supervisor of the workspace `demo`."""
    return start()


def text_of(encoded: str) -> bytes:
    return base64.b64decode(encoded)
