"""What a command line pays before its task runs: no other namespace, and of the libraries only what it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from codesmith.tasks import NAMESPACES

TOP = Path(__file__).parents[2]
PROGRAMS = {"inv": "codesmith.cli.inv", "codesmith": "codesmith.__main__"}
# Invoke has asyncio and ssl of unittest.mock; the rest waits for those who need it.
HEAVY = {
    "asyncio", "codesmith.cli.help_pages", "codesmith.cli.watching", "codesmith.doctor.finding", "codesmith.fleet.top",
    "difflib", "fabric", "http.client", "jsonrpclib", "paramiko", "rich", "ssl", "unittest",
}  # fmt: skip


def imported(tmp_path: Path, program: str, *words: str, say: str = "") -> set[str]:
    """Return what a program has imported when it has run a command line; `say` has to be in what it printed."""
    code = (
        "import json, sys\n"
        f"from {PROGRAMS[program]} import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "finally:\n    print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    nodes = tmp_path / "nodes.yaml"
    nodes.write_text("nodes: {web1: {host: web1.invalid}}\n")
    environment = {"HOME": str(tmp_path), "CODESMITH_HOME": str(tmp_path / "home"), "CODESMITH_NODES": str(nodes)}
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, timeout=60)
    assert say in done.stdout + done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_a_command_imports_its_own_namespace_and_nothing_heavy(tmp_path, program):
    modules = imported(tmp_path, program, "node.version", "--jobs", "0", say="--jobs takes")
    assert {f"codesmith.tasks.{name}" for name in NAMESPACES} & modules == {"codesmith.tasks.node"}
    assert not HEAVY & modules


@pytest.mark.slow
def test_what_lists_the_tasks_has_them_all(tmp_path):
    for words, say in ((["--list"], "workspace.usage"), (["nod.version"], "did you mean: ")):
        modules = imported(tmp_path, "inv", *words, say=say)
        assert {f"codesmith.tasks.{name}" for name in NAMESPACES} <= modules, words


def test_a_double_of_invoke_gets_the_real_mock():
    code = (
        "import sys\n"
        "from codesmith import errors\n"
        "assert 'unittest' not in sys.modules\n"
        "from invoke import MockContext\n"
        "context = MockContext(run=True)\n"
        "assert context.run('true').ok\n"
        "import unittest.mock\n"
        "assert isinstance(context.run, unittest.mock.Mock)\n"
        "print(context.run.call_count)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
