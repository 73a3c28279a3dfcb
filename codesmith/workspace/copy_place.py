"""The two places of a copy: NAME:PATH is in a workspace, relative to its directory; everything else is here."""

from __future__ import annotations

import os
import posixpath
import re
import shlex
from dataclasses import dataclass

from codesmith.errors import BadArgument

IN_WORKSPACE = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?):(.*)", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """One place: `workspace` is "" for this machine."""

    workspace: str
    path: str

    @property
    def word(self) -> str:
        """The place as it was typed."""
        return f"{self.workspace}:{self.path}" if self.workspace else self.path

    @property
    def quoted(self) -> str:
        """The place as a shell takes it."""
        return shlex.quote(self.word)

    @property
    def folder(self) -> Place:
        """The directory that it is in."""
        return Place(self.workspace, posixpath.dirname(self.path.rstrip("/")) + "/" if "/" in self.path else "")

    @property
    def is_contents(self) -> bool:
        """Whether it means what is in a directory, not the directory itself."""
        return self.path == "" or self.path.endswith("/") or self.path.rpartition("/")[2] in (".", "..")

    @property
    def plain(self) -> str:
        """The path as every program takes it: never empty, never like an option or another machine's."""
        path = self.path or "./"
        return path if path.startswith(("/", "./", "../")) else f"./{path}"

    @property
    def raw(self) -> bytes:
        """The path as bytes, without slashes at its end."""
        return os.fsencode(self.plain).rstrip(b"/") or b"/"


def parse(word: str) -> Place:
    """Return the place that a word names; `./a:b` is a file of this machine."""
    if "\0" in word or not word:
        raise BadArgument("a place is NAME:PATH in a workspace, or a path of this machine; it is not empty")
    if word == "-":
        problem = "`-` is no place: a copy is of files and directories"
        raise BadArgument(problem, hint="inv file.read NAME PATH; inv file.write NAME PATH")
    match = IN_WORKSPACE.fullmatch(word)
    return Place(match[1], match[3]) if match else Place("", word)


def parse_pair(source: str, destination: str) -> tuple[Place, Place]:
    """Return source and destination, of which exactly one is in a workspace."""
    pair = parse(source), parse(destination)
    inside = [place for place in pair if place.workspace]
    if not inside:
        hint = f"inv workspace.copy {pair[0].quoted} {shlex.quote('NAME:' + destination)}"
        raise BadArgument("neither place is in a workspace", hint=hint)
    if len(inside) == 2:
        raise BadArgument("both places are in workspaces: copy by way of this machine", hint=_steps(*pair))
    return pair


def _steps(source: Place, destination: Place) -> str:
    if os.path.lexists(source.word):  # a file of this machine with a colon in its name
        return f"inv workspace.copy {shlex.quote('./' + source.word)} {destination.quoted}"
    if os.path.lexists(destination.word):
        return f"inv workspace.copy {source.quoted} {shlex.quote('./' + destination.word)}"
    return f"inv workspace.copy {source.quoted} ./between/; inv workspace.copy ./between/ {destination.quoted}"
