"""The shape of the project: who may import whom, what every folder tells, what the README promises."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codesmith.tasks import root

TOP = Path(__file__).resolve().parent.parent
CONTROLLER = sorted((TOP / "codesmith").rglob("*.py"))
AGENT = sorted((TOP / "agent").rglob("*.py"))
# What travels with the agent; everything else it imports must be the standard library or itself.
TRAVELS = {"agent", "fastjsonschema", "jsonrpclib"}
# What runs on a node before there is an agent: the standard library alone.
ON_NODE = TOP / "codesmith" / "remote" / "bootstrap" / "node"
# A layer and those it must not know. (tunnel uses remote's SSH; sdk asks tunnel for an endpoint.)
FORBIDDEN = {
    "remote": {"tasks", "tunnel", "sdk", "fleet", "output", "task", "program"},
    "tunnel": {"tasks", "sdk", "fleet", "output", "task", "program"},
    "sdk": {"tasks", "remote", "fleet", "output", "task", "program"},
    "lab": {"remote", "tunnel", "sdk", "fleet", "task", "program"},
}


def imports(path: Path) -> Iterator[str]:
    """Name every module that a file imports, wherever in it."""
    for found in ast.walk(ast.parse(path.read_text())):
        if isinstance(found, ast.Import):
            yield from (alias.name for alias in found.names)
        elif isinstance(found, ast.ImportFrom) and found.module:
            yield found.module
            yield from (f"{found.module}.{alias.name}" for alias in found.names)


def name_of(path: Path) -> str:
    return str(path.relative_to(TOP))


@pytest.mark.parametrize("path", AGENT, ids=name_of)
def test_the_agent_imports_only_what_travels(path: Path) -> None:
    tops = {name.partition(".")[0] for name in imports(path)}
    assert tops <= TRAVELS | set(sys.stdlib_module_names)


def test_the_front_end_imports_nothing_of_the_root_half() -> None:
    for path in AGENT:
        if path.parent.name != "helper" and path.name != "main.py":
            assert not [name for name in imports(path) if name.startswith("agent.helper")], path


def test_the_controller_never_imports_the_agent() -> None:
    for path in CONTROLLER:
        assert "agent" not in {name.partition(".")[0] for name in imports(path)}, path


@pytest.mark.parametrize("layer", sorted(FORBIDDEN))
def test_imports_point_one_way(layer: str) -> None:
    for path in sorted((TOP / "codesmith" / layer).rglob("*.py")):
        known = {name.split(".")[1] for name in imports(path) if name.startswith("codesmith.")}
        assert not known & FORBIDDEN[layer], path


def test_fabric_is_known_to_remote_alone_and_paramiko_to_the_forwarder_too() -> None:
    for path in CONTROLLER:
        tops = {name.partition(".")[0] for name in imports(path)}
        folder = path.relative_to(TOP / "codesmith").parts[0]
        assert "fabric" not in tops or folder == "remote", path
        assert "paramiko" not in tops or folder in ("remote", "tunnel"), path


def test_the_way_to_a_live_endpoint_needs_neither() -> None:
    modules = "sdk.client, codesmith.tunnel.local_endpoint, codesmith.tunnel.control, codesmith.nodes.registry"
    way = f"import sys, codesmith.{modules}"
    check = "print({'fabric', 'paramiko', 'jsonrpclib', 'rich', 'http.client'} & set(sys.modules))"
    command = [sys.executable, "-c", f"{way}; {check}"]
    assert subprocess.run(command, cwd=TOP, check=True, capture_output=True, text=True).stdout == "set()\n"


def source_folders() -> list[Path]:
    """Return the folders with code in them; tests explain themselves."""
    tracked = subprocess.run(["git", "ls-files", "*.py"], cwd=TOP, check=True, capture_output=True, text=True).stdout
    folders = {(TOP / line).parent for line in tracked.splitlines()}
    return sorted(folder for folder in folders if folder.relative_to(TOP).parts[:1] != ("tests",))


@pytest.mark.parametrize("folder", source_folders(), ids=lambda folder: name_of(folder) or ".")
def test_every_source_folder_explains_itself(folder: Path) -> None:
    for document in ("README.md", "SPECIFICATIONS.md"):
        assert (folder / document).is_file(), f"{folder} has no {document}"


def test_commands_in_readmes_exist() -> None:
    """Every `inv x.y` and `codesmith x.y` in a document is a task, every `make x` a target."""
    tasks = set(root().task_names)
    targets = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), flags=re.M))
    for document in [*TOP.glob("*.md"), *TOP.glob("*/**/*.md")]:
        if ".venv" in document.parts[len(TOP.parts)]:
            continue
        text = document.read_text()
        for task in re.findall(r"(?:^|[`$ ])(?:inv|codesmith) ([a-z]+\.[a-z-]+)", text, flags=re.M):
            assert task in tasks, f"{document}: {task}"
        for target in re.findall(r"`make ([a-z-]+)`", text):
            assert target in targets, f"{document}: make {target}"


def test_nothing_names_this_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=TOP, check=True, capture_output=True, text=True).stdout
    for line in tracked.splitlines():
        text = (TOP / line).read_text(errors="replace")
        assert str(TOP) + "/" not in text, line
