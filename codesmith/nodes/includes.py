"""The files that nodes.yaml includes: others of its kind, Ansible inventories, and programs that print one.

Nodes of an included file are read here and changed there.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from codesmith import paths
from codesmith.nodes import reader
from codesmith.nodes.reader import Include, NodesFile, Section

YAML = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Found:
    """One node, and the file that has it."""

    section: Section
    path: Path

    @property
    def place(self) -> str:
        """Return file and line, for people."""
        return f"{self.path}:{self.section.first_line}"


@dataclass
class Whole:
    """All nodes of a nodes.yaml with what it includes, in the order of the files, and the files that were read."""

    nodes: dict[str, Found] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)


def resolve(file: NodesFile, *, runs_programs: bool = True) -> Whole:
    """Return the nodes of a file and of all that it includes; BadRegistry if a name or port is there twice.

    Without `runs_programs`, what a program printed when it ran last counts, or nothing.
    """
    includer = _Includer(runs_programs)
    includer.take(file, (file.path.resolve(),))
    if file.default is not None and file.default not in includer.whole.nodes:
        known = ", ".join(includer.whole.nodes) or "none"
        problem = f"no node is named {file.default!r} (nodes here and in what it includes: {known})"
        raise reader.bad(file.path, file.default_line or 1, "default", problem, "the name of one of them")
    return includer.whole


class _Includer:
    def __init__(self, runs_programs: bool) -> None:
        self._runs_programs = runs_programs
        self._ports: dict[str, Found] = {}
        self.whole = Whole()

    def take(self, file: NodesFile, chain: tuple[Path, ...]) -> None:
        """Take the nodes of a file, then what it includes; `chain` are the files that lead here."""
        self.whole.files.append(file.path)
        for name, section in file.sections.items():
            self._add(name, Found(section, file.path))
        for include in file.includes:
            self._include(file.path, include, chain)

    def _include(self, by: Path, include: Include, chain: tuple[Path, ...]) -> None:
        path = by.parent / paths.expanded(include.word)
        real = path.resolve()
        if real in chain:
            circle = " -> ".join(str(one) for one in (*chain[chain.index(real) :], real))
            raise reader.bad(by, include.line, "include", f"a circle: {circle}", "a file that does not lead back here")
        try:
            status = path.stat()
        except OSError as error:
            problem = f"cannot read {path}: {error.strerror}"
            raise reader.bad(by, include.line, "include", problem, reader.EXPECTED["include"]) from None
        _check(path, status, by, include)
        self.take(self._read(path, status), (*chain, real))

    def _read(self, path: Path, status: os.stat_result) -> NodesFile:
        if status.st_mode & 0o111:
            from codesmith.nodes import program

            self.whole.files.append(program.kept_file(path))
            text = program.output(path) if self._runs_programs else program.kept(path)
            return reader.parse(text, path) if text.strip() else reader.nothing(path)
        text = reader.read_text(path)
        if path.suffix in YAML and not _is_inventory(path, text):
            return reader.parse(text, path)
        from codesmith.nodes import inventory

        return inventory.parse(text, path, is_yaml=path.suffix in YAML)

    def _add(self, name: str, found: Found) -> None:
        if name in self.whole.nodes:
            other = self.whole.nodes[name]
            problem = f"{other.place} has a node of this name too"
            raise reader.bad(found.path, found.section.first_line, f"nodes.{name}", problem, "each name once")
        endpoint = found.section.values.get("endpoint", "unix")
        if endpoint in self._ports:
            problem = f"{endpoint} is the endpoint of {self._ports[endpoint].section.name} already, in "
            problem += self._ports[endpoint].place
            key = f"nodes.{name}.endpoint"
            raise reader.bad(found.path, found.section.first_line, key, problem, "a port of its own for each node")
        if endpoint != "unix":
            self._ports[endpoint] = found
        self.whole.nodes[name] = found


def _check(path: Path, status: os.stat_result, by: Path, include: Include) -> None:
    """Refuse what another user could make us read or run: a file decides hosts, logins and host keys."""
    problem = ""
    if not stat.S_ISREG(status.st_mode):
        problem = f"{path} is no file"
    elif status.st_uid not in (0, os.getuid()):
        problem = f"{path} belongs to another user"
    elif status.st_mode & 0o111 and status.st_mode & 0o002:
        problem = f"{path} is a program that everybody may change"
    if problem:
        raise reader.bad(by, include.line, "include", problem, "a file that you or root own")


def _is_inventory(path: Path, text: str) -> bool:
    """Tell whether YAML is an Ansible inventory: all that is at its top are groups."""
    from codesmith.nodes import inventory

    return inventory.is_inventory(text, path)
