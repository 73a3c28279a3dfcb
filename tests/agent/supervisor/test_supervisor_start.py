"""What a supervisor imports before it accepts: each start of a runtime pays for it, and each running workspace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
PRINT_MODULES = "import sys; sys.path.insert(0, sys.argv[1]); import agent.supervisor.main; print(*sys.modules)"
# A fork whose work fails: there is no request.
FAIL = """
import sys; sys.path.insert(0, sys.argv[1])
from agent.supervisor import fork
from agent.supervisor.job import Pipes
import os
pipes = Pipes(has_input=False)
pid = fork.fork("git", None, None, "/", {}, pipes)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(os.read(pipes.stderr, 1 << 16).decode())
sys.exit(code)
"""


def python(program: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", "-S", "-c", program, str(TOP)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_a_start_imports_little() -> None:
    modules = set(python(PRINT_MODULES).stdout.split())
    assert "agent.supervisor.server" in modules
    assert not {"inspect", "linecache", "logging", "subprocess", "threading", "tokenize", "traceback"} & modules


def test_a_fork_that_fails_says_where() -> None:
    done = python(FAIL)
    assert done.returncode == 1 and done.stdout.startswith("Traceback ") and "TypeError" in done.stdout
