"""Somebody at a terminal: a registry, a state directory and nodes of their own; types commands, reads what is said."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from codesmith.errors import CodeSmithError
from codesmith.fleet import installation
from codesmith.lab import Lab
from codesmith.lab.node import LabNode
from codesmith.nodes.registry import Registry
from codesmith.tunnel import control

BIN = Path(sys.executable).parent
TOP = Path(__file__).resolve().parent.parent
BOOTS_AT_ONCE = 4


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Person:
    """Runs `inv` from the checkout with files of their own."""

    def __init__(
        self, folder: Path, lab: Lab, nodes: dict[str, str], prefix: str, *, uids: int = 0, **more: Any
    ) -> None:
        self._lab, self._names = lab, {name: f"{prefix}-{name}" for name in nodes}
        with ThreadPoolExecutor(BOOTS_AT_ONCE) as pool:
            list(pool.map(partial(lab.up, uids=uids, **more), self._names.values(), nodes.values()))
        self.registry, self.home = folder / "nodes.yaml", folder / "home"
        self.write_registry({name: self.lab_entry(name) for name in nodes})
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("CODESMITH_")},
            "CODESMITH_NODES": str(self.registry),
            "CODESMITH_HOME": str(self.home),
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }

    def write_registry(self, nodes: dict[str, dict[str, Any]]) -> None:
        """Write nodes.yaml and the known_hosts beside it (the lab knows the true keys)."""
        self.registry.parent.mkdir(parents=True, exist_ok=True)
        self.registry.write_text(json.dumps({"nodes": nodes}, indent=2))
        known = "".join(self.lab_node(name).address.known_hosts.read_text() for name in nodes)
        (self.registry.parent / "known_hosts").write_text(known)

    def lab_entry(self, name: str) -> dict[str, Any]:
        """Return the registry entry of a lab node as if it were a server somewhere."""
        address = self.lab_node(name).address
        return {"host": address.host, "port": address.port, "user": address.user, "identity": str(address.identity)}

    def lab_node(self, name: str) -> LabNode:
        """Return the real node behind a name."""
        return self._lab.get(self._names[name])

    def host(self, name: str) -> Any:
        """Return the node as pytest-testinfra sees it."""
        return self.lab_node(name).host

    def on(self, name: str, script: str, *, check: bool = True, typed: str = "") -> Said:
        """Run a script on the node as root, past CodeSmith."""
        done = self.lab_node(name).run(["sh", "-c", script], input=typed, check=check)
        return Said(done.status, done.stdout, done.stderr)

    @contextmanager
    def meanwhile(self, name: str, wrong: str, right: str) -> Iterator[None]:
        """Make something wrong on a node by a script, and right again by another one."""
        self.on(name, wrong)
        try:
            yield
        finally:
            self.on(name, right)

    def runs(self, command: str, *, code: int = 0, check: bool = True, typed: str = "") -> Said:
        """Type a command; it must end with `code`."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=TOP,
            env=self.environment,
            input=typed,
            capture_output=True,
            text=True,
            timeout=240,
            start_new_session=True,  # no terminal: nothing can be asked, also when the tests run on one
        )
        said = Said(done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in said.err, said.err
        assert not check or said.code == code, f"{command}: exit {said.code}\n{said.out}\n{said.err}"
        return said

    def types(self, command: str, *answers: tuple[str, str], code: int = 0) -> str:
        """Type a command at a terminal, and what it asks for: (prompt, answer). Return what the terminal showed."""
        ours, theirs = pty.openpty()
        argv = ["setsid", "--ctty", "--wait", "bash", "-c", command]
        shown, todo = "", list(answers)
        with subprocess.Popen(argv, cwd=TOP, env=self.environment, stdin=theirs, stdout=theirs, stderr=theirs) as done:
            os.close(theirs)
            with os.fdopen(ours, "r+b", buffering=0) as terminal:
                while select.select([terminal], [], [], 120)[0]:
                    try:
                        shown += terminal.read(65536).decode(errors="replace")
                    except OSError:  # the command ended
                        break
                    if todo and todo[0][0] in shown.rpartition("\n")[2]:
                        terminal.write(todo.pop(0)[1].encode() + b"\n")
                else:
                    done.kill()
        assert not todo, f"{command}: never asked for {todo}\n{shown}"
        assert done.returncode == code, f"{command}: exit {done.returncode}\n{shown}"
        return shown

    def fails(self, command: str, *, code: int) -> Said:
        """Type a command that must be refused: one error, at most one hint, the exit code."""
        said = self.runs(command, code=code)
        lines = [line for line in said.err.splitlines() if line.startswith(("error:", "hint:"))]
        assert [line.split(":")[0] for line in lines] == ["error", "hint"], said.err
        return said

    @contextmanager
    def here(self) -> Iterator[None]:
        """Be this person in this process for the life of this block.

        What a test only needs costs a fraction of a command this way.
        """
        with pytest.MonkeyPatch.context() as patch:
            for key in ("CODESMITH_HOME", "CODESMITH_NODES"):
                patch.setenv(key, self.environment[key])
            yield

    def prepare(self, *names: str) -> None:
        """Do what `inv node.prepare` does, in this process: with these nodes, by default all."""
        with self.here():
            registry = Registry.load(self.registry)
            for name in names or registry.nodes:
                installation.prepare(registry.get(name), lambda _: None, plan_only=False)

    def endpoint(self) -> Path:
        """Return the local socket of the only ready node."""
        with self.here():
            (ready,) = [one for one in control.status() if one.state == "ready"]
        return Path(ready.endpoint.removeprefix("unix:"))

    @contextmanager
    def changed_host_key(self, name: str) -> Iterator[None]:
        """Make the pinned key another one than the node's."""
        file = self.registry.parent / "known_hosts"
        true = file.read_text()
        other = self.registry.parent / "other"
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", other], check=True)
        key = " ".join(other.with_suffix(".pub").read_text().split()[:2])
        file.write_text("".join(f"{line.split()[0]} {key}\n" for line in true.splitlines() if "ed25519" in line))
        try:
            yield
        finally:
            file.write_text(true)
            other.unlink()
            other.with_suffix(".pub").unlink()

    def wait_until(self, is_so: Callable[[], bool], *, within_s: float) -> None:
        """Look again until it is so; in between, the node has the processor."""
        deadline = time.monotonic() + within_s
        while True:
            begun = time.monotonic()
            if is_so():
                return
            assert begun < deadline, "did not come about"
            # What takes long to look at is not looked at all the time.
            time.sleep(max(0.02, time.monotonic() - begun))

    def leave(self) -> None:
        """Stop the forwarder and throw the nodes away."""
        with self.here(), contextlib.suppress(CodeSmithError):
            control.stop()
        with ThreadPoolExecutor(BOOTS_AT_ONCE) as pool:
            list(pool.map(self._lab.down, self._names.values()))
