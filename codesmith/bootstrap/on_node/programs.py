"""The program of a release: agent.pyz unpacked and compiled, so that no start of it compiles or writes anything.

Python loads the compiled files without a look at their sources. `compiled.json` there has the sums of all files.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import stat
from importlib.util import cache_from_source

TYPE_CHECKING = False  # the typing module takes 2 ms to import
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

PROGRAM, COMPILED = "program", "compiled.json"
SHOWN_MAX = 3
# The settings of runtimes, as the helper writes them; root's.
RUNTIMES = "/run/codesmith/workspaces"


def program_of(release: str) -> str:
    """Return the folder of a release's program."""
    return f"{release}/{PROGRAM}"


def differences(release: str) -> list[str]:
    """Return how a release's program differs from what was unpacked and compiled on this node; sorted.

    Each is `changed`, `missing` or `added` with a path in the program.
    """
    program = program_of(release)
    sums = _read_object(f"{program}/{COMPILED}")
    # Another Python than the one that compiled them looks for other names.
    files = {COMPILED, *sums, *compiled_names(sums).values()}
    folders = folders_of(files)
    wanted, found = files | folders, dict(_look(program, sums, folders))
    different = [f"changed {name}" for name in wanted & set(found) if not found[name]]
    different += [f"missing {name}" for name in wanted - set(found)]
    return sorted([*different, *(f"added {name}" for name in set(found) - wanted)])


def shown(found: list[str]) -> list[str]:
    """Return the first few of many differences."""
    more = [f"{len(found) - SHOWN_MAX} more"] if len(found) > SHOWN_MAX else []
    return [*found[:SHOWN_MAX], *more]


def compiled_names(names: Iterable[str]) -> dict[str, str]:
    """Return the compiled file of each source among `names`."""
    return {name: cache_from_source(name, optimization="") for name in names if name.endswith(".py")}


def folders_of(names: Iterable[str]) -> set[str]:
    """Return all folders that these files are in."""
    found: set[str] = set()
    for name in names:
        folder = os.path.dirname(name)
        while folder:
            found.add(folder)
            folder = os.path.dirname(folder)
    return found


def sum_of(path: str) -> str:
    """Return the sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def used_releases(releases: list[str]) -> list[str]:
    """Return the releases whose program a process runs from, or a runtime will.

    A command line, or the settings of a runtime, names it. Anybody on the node can make a release look used; then it is
    kept, and nothing more.
    """
    programs = {program_of(release): release for release in releases}
    named = {*_commands(), *_runtimes()} if programs else set()
    return sorted(programs[word] for word in named & set(programs))


def _commands() -> Iterator[str]:
    """Yield the words of all command lines."""
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{int(entry)}/cmdline", "rb") as file:
                yield from file.read().decode(errors="replace").split("\0")
        except (OSError, ValueError):
            continue  # no process, or one that has ended


def _runtimes() -> Iterator[str]:
    """Yield the programs of runtimes whose sockets are there: one that has ended is started by the next connection."""
    for path in glob.glob(f"{RUNTIMES}/*.json"):
        yield str(_read_object(path).get("release"))


def _read_object(path: str) -> dict[str, Any]:
    """Return the object in a JSON file; {} if it is missing or damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _look(program: str, sums: dict[str, str], wanted_folders: set[str]) -> Iterator[tuple[str, bool]]:
    """Yield each path in the program, and whether its type, mode, owner and sum are as they should be."""
    for folder, folders, names in os.walk(program):
        inside = "" if folder == program else os.path.relpath(folder, program) + "/"
        for name in folders + names:
            path, full = inside + name, f"{folder}/{name}"
            there = os.lstat(full)
            is_folder = path in wanted_folders
            kind = stat.S_IFDIR | 0o755 if is_folder else stat.S_IFREG | 0o644
            fits = (there.st_mode, there.st_uid, there.st_gid) == (kind, 0, 0)
            yield path, fits and (is_folder or path == COMPILED or sum_of(full) == sums.get(path))
