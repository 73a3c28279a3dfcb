"""The two places of a copy: NAME:PATH is in a workspace, relative to its directory; everything else is here."""

from __future__ import annotations

import os
import re
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
    match = IN_WORKSPACE.fullmatch(word)
    return Place(match[1], match[3]) if match else Place("", word)


def parse_pair(source: str, destination: str) -> tuple[Place, Place]:
    """Return source and destination, of which exactly one is in a workspace."""
    pair = parse(source), parse(destination)
    inside = [place for place in pair if place.workspace]
    if not inside:
        raise BadArgument("neither place is in a workspace", hint=f"inv workspace.copy {source} NAME:{destination}")
    if len(inside) == 2:
        steps = f"inv workspace.copy {source} ./between/ && inv workspace.copy ./between/ {destination}"
        raise BadArgument("both places are in workspaces: copy by way of this machine", hint=steps)
    return pair
