"""Templates of workspaces: what `templates/NAME.yaml` beside nodes.yaml says a new workspace has."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codesmith.errors import BadTemplate, CodeSmithError, UnknownName
from codesmith.nodes.reader import NAME

FOLDER, SUFFIX = "templates", ".yaml"
# The modes of files that are written without one; a file here that may be run may be run there.
PLAIN, PROGRAM = "0644", "0755"


@dataclass(frozen=True)
class TemplateFile:
    """A file to write into a workspace: a file or directory of this machine (`source`), or `text`."""

    path: str
    source: Path | None = None
    text: str = ""
    mode: str | None = None

    def pieces(self) -> Iterator[tuple[str, bytes | Path, str]]:
        """Yield path, content and mode of each file: one, or all below a directory, in the order of their names."""
        if self.source is None:
            yield self.path, self.text.encode(), self.mode or PLAIN
        elif self.source.is_dir():
            for folder, folders, names in os.walk(self.source):
                folders.sort()
                for name in sorted(names):
                    file = Path(folder) / name
                    if file.is_file() and not file.is_symlink():
                        yield f"{self.path}/{file.relative_to(self.source)}", file, self.mode or _file_mode(file)
        else:
            yield self.path, self.source, self.mode or _file_mode(self.source)

    def to_dict(self) -> dict[str, Any]:
        """Return the file as plain data."""
        content = {"text": self.text} if self.source is None else {"from": str(self.source)}
        return {"path": self.path, **content, **({"mode": self.mode} if self.mode else {})}


@dataclass(frozen=True)
class Template:
    """What a new workspace has: each field is a key of the file, checked.

    `repo` has url, name, ref and depth, as far as they are given; `sandbox` the limits as sandbox.create takes them
    (memory_bytes, cpus, tasks, runtime_s, disk_bytes); `network` is full, none, {"allow": [...], "deny": [...]}, or
    None when nothing is said of it.
    """

    name: str
    file: Path
    description: str = ""
    repo: dict[str, Any] = field(default_factory=dict)
    sandbox: dict[str, Any] = field(default_factory=dict)
    network: Any = None
    labels: dict[str, str] = field(default_factory=dict)
    files: tuple[TemplateFile, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    setup: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the template as plain data, ready for JSON."""
        return {
            "name": self.name,
            "file": str(self.file),
            "description": self.description,
            "repo": self.repo,
            "sandbox": self.sandbox,
            "network": self.network,
            "labels": self.labels,
            "files": [one.to_dict() for one in self.files],
            "env": self.env,
            "setup": list(self.setup),
            "ports": list(self.ports),
        }


def folder_of(registry: Path) -> Path:
    """Return the folder of the templates, beside nodes.yaml."""
    return registry.parent / FOLDER


def names(registry: Path) -> list[str]:
    """Return the names of the templates there are, sorted."""
    try:
        found = [one.name.removesuffix(SUFFIX) for one in folder_of(registry).iterdir() if one.name.endswith(SUFFIX)]
    except OSError:
        return []
    return sorted(name for name in found if re.fullmatch(NAME, name, re.ASCII))


def load(registry: Path, name: str) -> Template:
    """Return a template; UnknownName names those there are, BadTemplate says file, line, key and what is expected."""
    from codesmith.nodes.reader import read_text
    from codesmith.workspace.template_reader import TemplateReader

    known = names(registry)
    if name not in known:
        there = f"{folder_of(registry)}/ has {', '.join(known)}" if known else f"{folder_of(registry)}/ has none"
        likely = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {likely[0]}? All of them: inv template.list" if likely else "inv template.list"
        raise UnknownName(f"no template {name!r}: {there}", hint=hint)
    path = folder_of(registry) / f"{name}{SUFFIX}"
    if path.stat().st_uid not in (0, os.getuid()):  # it names files of this machine to send
        raise BadTemplate(f"{path} belongs to another user", hint=f"if you trust it: chown $USER {path}")
    try:
        text = read_text(path)
    except CodeSmithError as error:
        raise BadTemplate(error.problem, hint=error.hint) from None
    return TemplateReader(path, text).template(name)


def listing(registry: Path) -> list[dict[str, Any]]:
    """Return all templates as rows; one with a mistake has `error` instead of what it says."""
    rows: list[dict[str, Any]] = []
    for name in names(registry):
        try:
            rows.append(load(registry, name).to_dict())
        except CodeSmithError as error:
            rows.append({"name": name, "file": str(folder_of(registry) / f"{name}{SUFFIX}"), "error": error.problem})
    return rows


def _file_mode(file: Path) -> str:
    return PROGRAM if file.stat().st_mode & stat.S_IXUSR else PLAIN
