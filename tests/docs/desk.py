"""Runs the commands of a document as its reader would, and compares what they print with what stands there."""

from __future__ import annotations

import difflib
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import termios
from collections.abc import Sequence
from pathlib import Path

from tests.docs.pages import TOP, Step, steps
from tests.person import Person

PATIENCE_S = 120
HOST = "web1.example.org"
# What differs from run to run, as both sides are compared.
CHANGING = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?(?: \(.*?\))?", "TIME"),
    (r"\b(?:now|\d+ (?:s|min|h) ago)\b", "AGO"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}\b", "UUID"),
    (r"SHA256:[A-Za-z0-9+/]{43}", "FINGERPRINT"),
    (r"\b[0-9a-f]{12,64}\b", "ID"),
    (r"\b\d+\.\d+ ?s\b", "SECONDS"),
    (r"(?<=seconds )\d+\.\d+", "SECONDS"),
    (r"\b1879\d{6}\b", "UID"),
    (r"\b[A-Z][a-z]{2} [ \d]\d \d\d:\d\d\b", "DATE"),
    (r"\b\d+(?:\.\d+)? (?:[KMG]i)?B\b|(?<=_bytes )\d+", "SIZE"),
    (r"\b\d+\.\d+$", "NUMBER"),
)
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\x1b[=>]")


class Desk:
    """A folder of somebody's with nodes.yaml, a home, and a shell whose commands follow each other."""

    def __init__(self, person: Person, folder: Path) -> None:
        self.person, self.folder, self.home = person, folder / "fleet", folder / "home"
        for place in (self.folder, self.home / ".ssh"):
            place.mkdir(parents=True)
        shutil.copy(TOP / "tasks.py", self.folder)
        self.environment = {**person.environment, "HOME": str(self.home), "NO_COLOR": "1", "TERM": "xterm"}
        for name in ("COLUMNS", "LINES"):
            self.environment.pop(name, None)
        self.code = 0

    def run_page(self, page: Path) -> list[str]:
        """Run a page from its top to its end; return how it differs from what its commands print."""
        differences: list[str] = []
        for step in steps(page):
            if not step.skipped:
                shown = self.follow(step)
                differences += differing(f"{page.name}:{step.line}", step, shown)
        return differences

    def follow(self, step: Step) -> str:
        """Run a command as its document says; return what it printed."""
        for command in step.before:
            self.run(command)
            assert self.code == 0, f"line {step.line}: {command}"
        return self.run(step.command, step.columns, answers(step.output))

    def run(self, command: str, columns: int = 0, typed: Sequence[str] = ()) -> str:
        """Run a line of shell, in a pipe or at a terminal; return both its outputs, as for the reader of a page."""
        script = f"(exit {self.code}); {command}"
        if columns:
            self.code, shown = self._at_a_terminal(script, columns, typed)
        else:
            done = subprocess.run(
                ["bash", "-c", script], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S, start_new_session=True,
            )  # fmt: skip
            self.code, shown = done.returncode, done.stdout
        assert "Traceback" not in shown, shown
        return self.readable(shown)

    def readable(self, shown: str) -> str:
        """Return an output with the places of an operator instead of those of the test."""
        address = self.person.lab_node("web1").address
        for ours, theirs in (
            (str(self.person.home), "/home/ops/.local/state/codesmith"),
            (str(self.person.registry), "/home/ops/fleet/nodes.yaml"),
            (str(self.folder), "/home/ops/fleet"),
            (str(self.home), "/home/ops"),
            (str(address.identity), "/home/ops/.ssh/id_ed25519"),
            (address.host, HOST),
        ):
            shown = shown.replace(ours, theirs)
        return shown

    def _at_a_terminal(self, script: str, columns: int, typed: Sequence[str]) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (50, columns))
        argv = ["setsid", "--ctty", "--wait", "bash", "-c", script]
        shown, todo = "", list(typed)
        with subprocess.Popen(
            argv, cwd=self.folder, env=self.environment, stdin=theirs, stdout=theirs, stderr=theirs
        ) as done:
            os.close(theirs)
            with os.fdopen(ours, "r+b", buffering=0) as terminal:
                while select.select([terminal], [], [], PATIENCE_S)[0]:
                    try:
                        shown += terminal.read(65536).decode(errors="replace")
                    except OSError:  # the command ended
                        break
                    if todo and shown.endswith("[y/N] "):
                        terminal.write(todo.pop(0).encode() + b"\n")
                else:
                    done.send_signal(signal.SIGKILL)
        assert not todo, f"never asked for {todo}\n{shown}"
        return done.returncode, ESCAPES.sub("", shown).replace("\r\n", "\n").replace("\r", "")


def answers(output: Sequence[str]) -> list[str]:
    """Return what a document shows as typed at questions."""
    return [found[1] for line in output if (found := re.search(r"\[y/N\] (\w+)$", line))]


def comparable(line: str) -> str:
    """Return a line without what differs from run to run."""
    line = " ".join(line.split())
    for pattern, word in CHANGING:
        line = re.sub(pattern, word, line)
    return line


def differing(place: str, step: Step, shown: str) -> list[str]:
    """Return the lines of a diff between a document and what was printed; none if they agree."""
    written = [comparable(line) for line in step.output]
    printed = [comparable(line) for line in shown.rstrip().splitlines()]
    pattern = "".join("(?:.*\n)*?" if line == "..." else re.escape(line) + "\n" for line in written)
    if re.fullmatch(pattern, "".join(line + "\n" for line in printed)):
        return []
    diff = difflib.unified_diff(written, printed, place, f"$ {step.command}", lineterm="", n=0)
    return list(diff)


def rewrite(page: Path, outputs: dict[int, str]) -> None:
    """Write what commands printed into their document; `outputs` by the line of the command."""
    lines = page.read_text().splitlines()
    for step in reversed(steps(page)):
        if step.line in outputs:
            first = step.line + step.command.count("\n")
            shown = [f"{step.indent}{line}".rstrip() for line in outputs[step.line].rstrip().splitlines()]
            lines[first : first + len(step.output)] = shown
    page.write_text("\n".join(lines) + "\n")
