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
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

from tests.agent.on_node.door_one import free_port
from tests.docs.pages import TOP, Step, steps
from tests.person import BIN, Person

PATIENCE_S = 120
HOST, GIT = "web1.example.org", "https://git.example.org"
# What differs from run to run, as both sides are compared.
CHANGING = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?(?: \(.*?\))?", "TIME"),
    (r"\b(?:now|\d+ (?:s|min|h) ago)\b", "AGO"),
    (r"\bdemo-[0-9a-f]{4}\b", "NODE"),
    (r"(?<=/codesmith-demo-)\w+", "FOLDER"),
    (r"\b198\.1[89]\.\d+\.\d+\b", "ADDRESS"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}\b", "UUID"),
    (r"SHA256:[A-Za-z0-9+/]{43}", "FINGERPRINT"),
    (r"\b[0-9a-f]{12,64}\b", "ID"),
    (r"\b\d+\.\d+ ?s\b", "SECONDS"),
    (r"(?<=seconds )\d+\.\d+", "SECONDS"),
    (r"\b1879\d{6}\b", "UID"),
    (r"\b[A-Z][a-z]{2} +\d{1,2} \d\d:\d\d\b", "DATE"),
    (r"\b\d+(?:\.\d+)? (?:[KMG]i)?B\b|(?<=_bytes )\d+", "SIZE"),
    (r"\b\d+m\d+\.\d+s\b", "SECONDS"),
    (r"(?<![\w.])\d+\.\d+\.\d+(?![\w.])", "VERSION"),
    (r"(?<![\w.])\d+\.\d+(?![\w.])", "NUMBER"),
    (r"\b\d+ (steps|things|checks|files|entries)\b", r"MANY \1"),
)
PREPARE_WITH = """
import sys
from pathlib import Path
from invoke.context import Context
from codesmith.bootstrap import pack
payload = pack.pack_into(Path(sys.argv[1]), Path(sys.argv[2]))
pack.pack = lambda: payload
from codesmith.tasks import node
node.prepare(Context())
"""
ID = re.compile(r"\b[0-9a-f]{12,64}\b")
# How far something is, which goes again; whether a reader sees it depends on the machine.
ERASED = re.compile(r"[^\n]*\r\x1b\[K")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\x1b[=>]")


class Desk:
    """An operator's machine: a home with an ssh key, `~/fleet` with nodes.yaml, a shell whose commands come in turn.

    `web1.example.org` is a lab node, as the operator's ssh configuration has it; the login there may use sudo.
    `git` is the address of the git server that documents call https://git.example.org.
    """

    def __init__(self, person: Person, top: Path, login: str = "ops", *, git: str = "") -> None:
        self.person, self.top, self.login, self.git = person, top, login, git
        self.others: dict[str, Desk] = {}
        self.home, self.runtime, self.folder = top / login, top / f"run-{login}", top / login / "fleet"
        for place in (self.folder, self.home / ".ssh", self.home / "bin", self.runtime):
            place.mkdir(parents=True)
        self.address = person.lab_node("web1").add_login(login, sudo="nopasswd")
        environment = {name: value for name, value in person.environment.items() if not name.startswith("CODESMITH_")}
        self.environment = environment | {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "PATH": f"{self.home}/bin:{environment['PATH']}",
            "NO_COLOR": "1",
            "TERM": "xterm",
        }
        for name in ("COLUMNS", "LINES", "SSH_AUTH_SOCK", "XDG_STATE_HOME"):
            self.environment.pop(name, None)
        self.port, self.code = free_port(), 0
        self.exported = ""  # `export` and `unset` lines so far
        self.ids: dict[str, str] = {}  # ids that a page shows, with those of this run
        self._configure_ssh()
        shutil.copy(TOP / "tasks.py", self.folder)  # where `inv` looks for tasks

    def add_node(self) -> None:
        """Write nodes.yaml with web1 in it, and pin its host key."""
        self.does(f"codesmith node.add web1 --host {HOST} --user {self.login} --file nodes.yaml")
        self.does("codesmith node.trust web1 --yes")

    def prepare_with(self, version: str) -> None:
        """Prepare the node with the same agent under another version, as an earlier CodeSmith would have."""
        copy = shutil.copytree(TOP / "agent", self.top / version / "agent", ignore=lambda *_: ["__pycache__"])
        init = copy / "__init__.py"
        init.write_text(re.sub(r'(?<=__version__ = ")[^"]+', version, init.read_text()))
        program = [sys.executable, "-c", PREPARE_WITH, str(copy), str(self.top / version / "agent.pyz")]
        subprocess.run(program, cwd=self.folder, env=self.environment, check=True, capture_output=True)

    def of(self, login: str) -> Desk:
        """Return the desk of somebody; a colleague has a machine and a login of their own, and another nodes.yaml."""
        if login in ("", self.login):
            return self
        if login not in self.others:
            self.others[login] = Desk(self.person, self.top, login)
        return self.others[login]

    def does(self, command: str) -> str:
        """Run a line of shell that must end well; return its output."""
        self.code = 0
        shown = self.run(command)
        assert self.code == 0, f"{command}: exit {self.code}\n{shown}"
        return shown

    def leave(self) -> None:
        """End the forwarders."""
        for desk in (self, *self.others.values()):
            desk.run("codesmith node.disconnect --all")

    def _configure_ssh(self) -> None:
        # OpenSSH finds a home by the account, and not by HOME.
        folder = self.home / ".ssh"
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-C", f"{self.login}@laptop",
                        "-f", folder / "id_ed25519"], check=True)  # fmt: skip
        (folder / "config").write_text(
            f"Host {HOST} node\n  HostName {self.address.host}\n"
            f"Match all\n  IdentityFile {self.address.identity}\n  IdentityFile {folder}/id_ed25519\n"
            f"  UserKnownHostsFile {folder}/known_hosts\n  StrictHostKeyChecking accept-new\n  LogLevel ERROR\n"
        )
        for program in ("ssh", "scp", "sftp"):
            wrapper = self.home / "bin" / program
            dash_s = "" if program == "ssh" else f"-S {self.home}/bin/ssh "
            wrapper.write_text(f'#!/bin/sh\nexec /usr/bin/{program} {dash_s}-F {folder}/config "$@"\n')
            wrapper.chmod(0o755)

    def tidy(self) -> None:
        """Take away what a page has made: workspaces, users, files, variables; prepare the node if it is bare."""
        self.exported, self.ids = "", {}
        if not (self.folder / "nodes.yaml").exists():
            self.add_node()
            self.does("codesmith node.prepare")
        for noun in ("workspace", "user"):
            for name in self.does(f"codesmith {noun}.list -o name").split():
                self.does(f"codesmith {noun}.delete {name} --yes")
        for path in set(self.folder.iterdir()) - {
            self.folder / name for name in ("nodes.yaml", "known_hosts", "tasks.py")
        }:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def run_page(self, page: Path) -> list[tuple[Step, str]]:
        """Run a page from its top to its end; return each of its commands with what it printed."""
        return [(step, self.of(step.who).follow(step)) for step in steps(page) if not step.skipped]

    def follow(self, step: Step) -> str:
        """Run a command as its document says; return what it printed."""
        for command in step.before:
            self.run(command)
            assert self.code == 0, f"line {step.line}: {command}"
        shown = self.run(step.command, step.columns, answers(step))
        assert not step.is_silent or step.output or self.code == 0, f"line {step.line}: {step.command}\n{shown}"
        written = "\n".join(step.output)
        self.ids.update(zip(ID.findall(written), ID.findall(shown), strict=False))
        for written_id, ours in self.ids.items():
            shown = shown.replace(ours, written_id)
        return shown

    def run(self, command: str, columns: int = 0, typed: Sequence[str] = ()) -> str:
        """Run a line of shell, in a pipe or at a terminal; return both its outputs, as for the reader of a page."""
        for shown, ours in (*self.ids.items(), *((theirs, ours) for ours, theirs in self.places())):
            command = command.replace(shown, ours)
        if command.startswith(("export ", "unset ")):
            self.exported += command + "; "
        script = f"{self.exported}(exit {self.code}); {command}"
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
        for ours, theirs in (*self.places(), (self.address.host, HOST)):
            shown = shown.replace(ours, theirs)
        return shown

    def places(self) -> tuple[tuple[str, str], ...]:
        """Return each place of the test, with what stands for it in a document."""
        return (
            (str(self.runtime), "/run/user/1000"),
            (str(self.home), f"/home/{self.login}"),
            (str(BIN), f"/home/{self.login}/.venv/bin"),
            (f"127.0.0.1:{self.port}", "127.0.0.1:18000"),
            (f" {self.port}:8000", " 18000:8000"),
            *([(self.git, GIT)] if self.git else []),
        )

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
                    if shown.endswith("[y/N] "):
                        terminal.write(todo.pop(0).encode() + b"\n" if todo else b"\x04")
                else:
                    done.send_signal(signal.SIGKILL)
        assert not todo, f"never asked for {todo}\n{shown}"
        return done.returncode, ESCAPES.sub("", ERASED.sub("", shown)).replace("\r\n", "\n").replace("\r", "")


def answers(step: Step) -> list[str]:
    """Return what a document shows as typed at questions; where it leaves them out, it is yes."""
    shown = [found[1] for line in step.output if (found := re.search(r"\[y/N\] (\w+)$", line))]
    return shown or (["y"] if step.is_silent and not step.output and "trust" in step.command else [])


def comparable(line: str) -> str:
    """Return a line without what differs from run to run."""
    line = " ".join(line.split())
    for pattern, word in CHANGING:
        line = re.sub(pattern, word, line)
    return line


def differing(place: str, step: Step, shown: str) -> list[str]:
    """Return the lines of a diff between a document and what was printed; none if they agree."""
    if step.is_silent and not step.output:
        return []
    return compared(place, f"$ {step.command}", step.output, shown)


def compared(place: str, title: str, output: Sequence[str], shown: str) -> list[str]:
    """Return the lines of a diff between lines of a document and what was printed; none if they agree."""
    written = [comparable(line) for line in output]
    printed = [comparable(line) for line in shown.rstrip().splitlines()]
    pattern = "".join("(?:.*\n)*?" if line == "..." else re.escape(line) + "\n" for line in written)
    if re.fullmatch(pattern, "".join(line + "\n" for line in printed)):
        return []
    return list(difflib.unified_diff(written, printed, place, title, lineterm="", n=0))


def rewrite(page: Path, outputs: dict[int, str]) -> None:
    """Write what commands printed into their document; `outputs` by the line of the command."""
    lines = page.read_text().splitlines()
    for step in reversed(steps(page)):
        if step.line in outputs:
            first = step.line + step.command.count("\n")
            shown = [f"{step.indent}{line}".rstrip() for line in outputs[step.line].rstrip().splitlines()]
            lines[first : first + len(step.output)] = shown
    page.write_text("\n".join(lines) + "\n")
