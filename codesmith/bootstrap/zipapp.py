"""Build agent.pyz, the one file that a node runs: the agent and its two libraries, reproducible byte for byte.

`python -m codesmith.bootstrap.zipapp agent dist/agent.pyz` writes it. Only the standard library is used here: the
wheel's build hook loads this file by path.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

# Each packed library, and the distribution that it and its licence come from.
LIBRARIES = {"fastjsonschema": "fastjsonschema", "jsonrpclib": "jsonrpclib-pelix"}
SUFFIXES, NOT_SEARCHED = (".json", ".py"), {"__pycache__", "tests"}
# These make openrpc.json; a node has the finished document.
NOT_SHIPPED = {
    "agent/contract/document.py",
    "agent/contract/titles.py",
    "agent/contract/examples.py",
    "agent/methods/__main__.py",
}
MAIN = b"""\
import os
import sys

# What is imported late comes from this release too, although `current` leads to another one by then.
sys.path[0] = os.path.realpath(sys.path[0])
# Prepare compiles all of it. A new Python that was not told of at prepare must leave no files here.
sys.dont_write_bytecode = True

from agent.main import main

sys.exit(main(sys.argv[1:]))
"""
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time a zip file can hold
REGULAR_0644 = 0o100644 << 16


def build(agent: Path) -> bytes:
    """Return the zipapp of the folder `agent`: sorted, without times, uncompressed.

    Uncompressed, because compressed bytes differ between zlib versions. A node starts both equally fast, and SSH sends
    it compressed.
    """
    entries = {"__main__.py": MAIN}
    for path, name in sources(agent):
        entries[name] = path.read_bytes()
    for distribution in LIBRARIES.values():
        entries.update(_licences(distribution))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            archive.writestr(_entry(name), entries[name])
    return buffer.getvalue()


def sources(agent: Path) -> Iterator[tuple[Path, str]]:
    """Yield every file to pack with its name in the archive: code and contract, no tests, docs or bytecode."""
    yield from (found for found in _tree(agent, "agent") if found[1] not in NOT_SHIPPED)
    for package in LIBRARIES:
        yield from _tree(_folder(package), package)


def version(agent: Path) -> str:
    """Return `__version__` of agent/__init__.py without importing it."""
    return parse_version((agent / "__init__.py").read_text(encoding="utf-8"))


def parse_version(text: str) -> str:
    """Return the value of `__version__` in a module's text."""
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and name.strip() == "__version__":
            return value.strip().strip("\"'")
    raise ValueError("agent/__init__.py has no __version__")


def parse_format(text: str) -> int:
    """Return the version of the `LAYOUT` in a module's text."""
    found = re.search(r"^LAYOUT = Layout\(\s*(\d+),", text, re.MULTILINE)
    if found is None:
        raise ValueError("the module has no LAYOUT")
    return int(found[1])


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.create_system = 3  # Unix, wherever it is built
    entry.external_attr = REGULAR_0644
    return entry


def _tree(folder: Path, prefix: str) -> Iterator[tuple[Path, str]]:
    for place, folders, names in os.walk(folder):  # some times faster than Path.rglob
        folders[:] = sorted(set(folders) - NOT_SEARCHED)
        inside = place.replace(str(folder), prefix, 1).replace(os.sep, "/")
        yield from ((Path(place, name), f"{inside}/{name}") for name in sorted(names) if name.endswith(SUFFIXES))


def _folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"the library {package} is not installed", name=package)
    return Path(next(iter(found.submodule_search_locations)))


def _licences(distribution: str) -> Iterator[tuple[str, bytes]]:
    import importlib.metadata  # only a new agent.pyz needs it

    for file in importlib.metadata.files(distribution) or ():
        if "dist-info" in str(file) and file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "AUTHORS")):
            yield f"licenses/{distribution}/{file.name}", Path(str(file.locate())).read_bytes()


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(build(source))
