"""The shape of the project: who may import whom, what every folder tells, what the README promises."""

from __future__ import annotations

import ast
import functools
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from codesmith.bootstrap.zipapp import NOT_SHIPPED
from codesmith.tasks import root

TOP = Path(__file__).resolve().parent.parent
CONTROLLER = sorted((TOP / "codesmith").rglob("*.py"))
AGENT = sorted(path for path in (TOP / "agent").rglob("*.py") if str(path.relative_to(TOP)) not in NOT_SHIPPED)
# What travels with the agent; everything else it imports must be the standard library or itself.
TRAVELS = {"agent", "fastjsonschema", "jsonrpclib"}
# What runs on a node before there is an agent: the standard library alone.
TESTS = TOP / "tests"
# Loose modules of `codesmith/`: shared ground, which every room may use, and entry points, which no room knows.
GROUND = {"debug", "errors", "late_mock", "paths", "secrets"}
ENTRY = {"__init__", "__main__"}
# Rooms that a room never needs, beside those above it.
NEVER = {("ssh", "lab"), ("tunnel", "lab"), ("sdk", "ssh"), ("sdk", "bootstrap"), ("cli", "tasks")}
NEVER |= {("fleet", "ui"), ("lab", "ui"), ("sdk", "ui"), ("ui", "bootstrap"), ("ui", "lab"), ("ui", "ssh")}


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Name every module that a file imports, wherever in it."""
    names: list[str] = []
    for found in ast.walk(ast.parse(path.read_text())):
        if isinstance(found, ast.Import):
            names += [alias.name for alias in found.names]
        elif isinstance(found, ast.ImportFrom) and found.module:
            names += [found.module, *(f"{found.module}.{alias.name}" for alias in found.names)]
    return tuple(names)


def name_of(path: Path) -> str:
    return str(path.relative_to(TOP))


@pytest.mark.parametrize("path", AGENT, ids=name_of)
def test_the_agent_imports_only_what_travels(path: Path) -> None:
    tops = {name.partition(".")[0] for name in imports(path)}
    assert tops <= TRAVELS | set(sys.stdlib_module_names)


@pytest.mark.slow
def test_the_front_end_imports_nothing_of_the_root_half() -> None:
    for path in AGENT:
        if "helper" not in path.parts and path.name != "main.py":
            assert not [name for name in imports(path) if name.startswith("agent.helper")], path


def test_the_root_half_imports_nothing_of_the_front_end() -> None:
    for path in AGENT:
        if "helper" in path.parts:
            above = ("agent.frontend", "agent.methods", "agent.contract")
            assert not [name for name in imports(path) if name.startswith(above)], path


@pytest.mark.slow
def test_the_controller_never_imports_the_agent() -> None:
    for path in CONTROLLER:
        assert "agent" not in {name.partition(".")[0] for name in imports(path)}, path


def room_of(module: str, depth: int) -> str:
    """Return the folder that a module of ours is in, at most so deep; a loose module is in its program."""
    path = TOP.joinpath(*module.split("."))
    folder = module if path.is_dir() else module.rpartition(".")[0]
    return ".".join(folder.split(".")[: depth + 1])


@functools.cache
def arrows(program: str, depth: int = 1) -> dict[str, set[str]]:
    """Return which rooms each room imports; entry points and shared ground are left out. A room has all below it."""
    found: dict[str, set[str]] = {}
    for path in sorted((TOP / program.replace(".", "/")).rglob("*.py")):
        room = room_of(name_of(path)[:-3].replace("/", "."), depth)
        if room == program:
            continue
        for name in imports(path):
            while name.startswith(f"{program}.") and not is_ours(name):
                name = name.rpartition(".")[0]
            other = room_of(name, depth) if name.startswith(f"{program}.") else program
            if other not in (room, program):
                found.setdefault(room, set()).add(other)
    return found


def is_ours(module: str) -> bool:
    path = TOP.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("program", "depth"), [("agent", 1), ("codesmith", 1), ("agent.helper", 2)])
def test_imports_between_rooms_point_one_way(program: str, depth: int) -> None:
    order = list(graphlib.TopologicalSorter(arrows(program, depth)).static_order())  # CycleError names the circle
    assert len(order) > 3


@pytest.mark.slow
@pytest.mark.parametrize(("room", "other"), sorted(NEVER))
def test_a_room_does_not_know(room: str, other: str) -> None:
    assert f"codesmith.{other}" not in arrows("codesmith").get(f"codesmith.{room}", set())


def test_no_module_lies_loose_in_the_controller_but_shared_ground_and_entry_points() -> None:
    assert {path.stem for path in (TOP / "codesmith").glob("*.py")} == GROUND | ENTRY


@pytest.mark.slow
def test_fabric_is_known_to_ssh_alone_and_paramiko_to_the_forwarder_too() -> None:
    for path in CONTROLLER:
        tops = {name.partition(".")[0] for name in imports(path)}
        folder = path.relative_to(TOP / "codesmith").parts[0]
        assert "fabric" not in tops or folder in ("ssh", "bootstrap"), path
        assert "paramiko" not in tops or folder in ("ssh", "bootstrap", "tunnel"), path


@pytest.mark.slow
def test_the_web_server_is_known_to_the_pages_alone() -> None:
    web = {"jinja2", "starlette", "uvicorn"}
    for path in CONTROLLER:
        tops = {name.partition(".")[0] for name in imports(path)}
        assert not tops & web or path.parent == TOP / "codesmith" / "ui", path
    check = f"import sys; from codesmith.tasks import root; root(); print({web} & set(sys.modules))"
    command = [sys.executable, "-c", check]
    assert subprocess.run(command, cwd=TOP, check=True, capture_output=True, text=True).stdout == "set()\n"


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


@pytest.mark.slow
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


def named_tests(text: str) -> list[str]:
    return [name for code in re.findall(r"`([^`\n]*)`", text) for name in re.findall(r"\btest_\w+(?:\.py)?", code)]


def test_each_line_of_the_security_page_names_its_test() -> None:
    lines = (TOP / "docs" / "security.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.startswith(("| what | ", "| --- "))]
    assert len(rows) > 40
    assert [row for row in rows if not named_tests(row)] == []


@pytest.mark.slow
def test_the_tests_of_the_security_page_run() -> None:
    """None of their names is cut short, and none is skipped, or in a file or class where pytest does not look."""
    names = set(named_tests((TOP / "docs" / "security.md").read_text()))
    for path in TESTS.glob("**/test_*.py"):
        text = path.read_text()
        if names.isdisjoint((path.name, *re.findall(r"\bdef (test_\w+)", text))):
            continue
        tree = ast.parse(text)
        marks = [
            one for one in tree.body if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "pytestmark"
        ]
        assert not is_skipped(marks), path
        names.discard(path.name)
        for one in tree.body:
            if isinstance(one, ast.FunctionDef) and one.name in names:
                assert not is_skipped(one.decorator_list), f"{path}: {one.name}"
                names.discard(one.name)
    assert names == set()


def is_skipped(marks: Sequence[ast.AST]) -> bool:
    return any(re.search(r"\b(skip|xfail)\b", ast.unparse(one)) for one in marks)


@pytest.mark.slow
def test_the_tests_of_promises_exist() -> None:
    """Each test that a SPECIFICATIONS.md or the page about security names is there; a name may be cut short."""
    files = list(TESTS.glob("**/*.py"))
    names = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}
    names |= {file.name for file in files} | {file.stem for file in files}
    missing = [
        f"{document.relative_to(TOP)}: {name}"
        for document in (*TOP.glob("**/SPECIFICATIONS.md"), TOP / "docs" / "security.md")
        if ".venv" not in document.parts[len(TOP.parts)]
        for name in named_tests(document.read_text())
        if not any(one.startswith(name) for one in names)
    ]
    assert missing == []


def private_names(path: Path) -> Iterator[str]:
    """Name the `_names` of other modules and classes that a test reads, imports or replaces."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr":
            names = [str(word.value) for word in node.args[:2] if isinstance(word, ast.Constant)]
        for name in names:
            if re.search(r"(^|\.)_[a-z]", name) and name != "_exit":  # os._exit is public
                yield f"{path.relative_to(TOP)}:{node.lineno}: {name}"


@pytest.mark.slow
def test_tests_use_public_names() -> None:
    assert [name for path in TESTS.glob("**/*.py") for name in private_names(path)] == []


def test_nothing_names_this_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=TOP, check=True, capture_output=True, text=True).stdout
    for line in tracked.splitlines():
        text = (TOP / line).read_text(errors="replace")
        assert str(TOP) + "/" not in text, line
