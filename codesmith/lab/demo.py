"""`inv demo`: the main job end to end, with the commands that a person would type, on a throw-away node.

Registry, state and sockets are in a temporary folder: the operator's own are neither read nor written.
"""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from codesmith.errors import CodeSmithError

PROGRAM = (sys.executable, "-m", "codesmith")
TRY_OUT = 'echo "I am $(id -un) in $(pwd)"; git --version; echo hello > data/hello.txt; ls -l data'


def run(release: str) -> list[tuple[str, float]]:
    """Run the whole demo; return each command with the seconds that it took."""
    from codesmith.lab import Lab

    name = f"demo-{secrets.token_hex(2)}"
    with Lab() as lab, scratch() as environment:
        show = Show(environment)
        up = f"inv lab.up --node {name} --release {release}"
        with show.step(up, "a throw-away node: its own systemd, sshd and users"):
            lab.up(name, release)
        try:
            _run_commands(show, name, release)
        finally:
            # Ends the forwarder of this demo, even if a step failed.
            show.quietly("node.disconnect")
            with show.step(f"inv lab.down --node {name}", "throw the node away; nothing is left"):
                lab.down(name)
        return show.steps


def _run_commands(show: Show, name: str, release: str) -> None:
    show.run("add the node to nodes.yaml", "node.add", name, "--lab", release)
    show.run("install the agent: probe, plan, apply, prove", "node.prepare")
    show.run("run it again: there is nothing to do", "node.prepare")
    show.run("connect: its endpoint here is one Unix socket", "node.connect")
    show.run("create a workspace, with a Unix user of its own", "workspace.create", "demo")
    show.run("run a command in it, as that user", "workspace.exec", "demo", "--", "sh", "-c", TRY_OUT)
    show.run("how to enter it: with ssh, also from scp, git and editors", "workspace.open", "demo")
    show.enter("do so: no key was put on the node", f"demo.{name}.codesmith", "cat data/hello.txt; hostname")
    show.run("list all workspaces", "workspace.list")
    show.run("delete it, with its user and home", "workspace.delete", "demo", "--yes")


class Show:
    """Runs commands as a person would, and prints them as at a prompt."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self.steps: list[tuple[str, float]] = []

    def run(self, why: str, *words: str) -> None:
        """Run a command; CodeSmithError if it fails."""
        self._run(why, shlex.join(["inv", *words]), [*PROGRAM, *words])

    def enter(self, why: str, alias: str, command: str) -> None:
        """Run a command in a workspace by ssh; CodeSmithError if it fails."""
        (config,) = Path(self.environment["CODESMITH_HOME"]).glob("ssh/*/config")
        words = ["ssh", "-F", str(config), alias, command]
        self._run(why, shlex.join(words), words)

    def _run(self, why: str, typed: str, argv: list[str]) -> None:
        with self.step(typed, why):
            done = subprocess.run(argv, env=self.environment, stdin=subprocess.DEVNULL, check=False)
            if done.returncode:
                raise CodeSmithError(f"the demo stopped at `{typed}` (exit {done.returncode})")

    def quietly(self, *words: str) -> None:
        """Run a command whose output and end do not matter."""
        subprocess.run(
            [*PROGRAM, *words], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )

    @contextmanager
    def step(self, command: str, why: str) -> Iterator[None]:
        """Print a command before its block and its time after it."""
        say(f"\n# {why}\n$ {command}\n")
        start = time.monotonic()
        yield
        self.steps.append((command, time.monotonic() - start))
        say(f"({self.steps[-1][1]:.1f} s)\n")


@contextmanager
def scratch() -> Iterator[dict[str, str]]:
    """Give an environment whose registry, state and sockets are in a folder that goes at the end."""
    with tempfile.TemporaryDirectory(prefix="codesmith-demo-") as folder:
        nodes = Path(folder) / "nodes.yaml"
        nodes.write_text("nodes:\n")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CODESMITH_NODE")}
        # The package must be importable from any folder, as it is here.
        path = os.pathsep.join([str(Path(__file__).resolve().parent.parent.parent), environment.get("PYTHONPATH", "")])
        yield {
            **environment,
            "CODESMITH_HOME": str(Path(folder) / "state"),
            "CODESMITH_NODES": str(nodes),
            "PYTHONPATH": path.rstrip(os.pathsep),
        }


def say(text: str) -> None:
    """Print text at once."""
    sys.stdout.write(text)
    sys.stdout.flush()
