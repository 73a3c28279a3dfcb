"""What real `inv` processes say when something is wrong, with which exit code, and what to do next."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import pages
from tests.sdk.sdk_doubles import USER, error, result, scripted
from tests.tasks.conftest import INV, TOP
from tests.tasks.exec_command import EXECUTION

pytestmark = pytest.mark.slow


def test_an_unknown_node_ends_with_3(place):
    done = place.inv("node.version", "--node", "nope")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"error: no node 'nope' in {place.nodes} (known: web1)\nhint: ")


@pytest.mark.parametrize(
    "words", [["user.list", "--nope"], ["user.get"], ["user.gett", "x"], ["node.logs", "--lines=x"]]
)
def test_a_bad_command_line_ends_with_1_and_no_traceback(place, words):
    for run in (place.inv, place.codesmith):
        done = run(*words)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Traceback" not in done.stderr
        assert 1 <= len(done.stderr.splitlines()) <= 2


def test_a_bad_registry_ends_with_1_file_and_line(place):
    place.write("nodes:\n  web1: {hots: x}\n")
    done = place.inv("user.list")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {place.nodes}:2: nodes.web1.hots: no such key, did you mean `host`?")


def test_a_refusal_of_the_agent_ends_with_6_and_an_unknown_name_with_3(place):
    with scripted(
        place.endpoint(), error(1004, "busy", kind="in_use", hint="wait"), error(1001, "none", kind="not_found")
    ):
        refused, unknown = place.inv("user.delete", "ada", "--yes"), place.inv("user.get", "ada")
    assert (refused.returncode, refused.stdout, refused.stderr) == (6, "", "error: busy\nhint: wait\n")
    assert (unknown.returncode, unknown.stderr) == (3, "error: none\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("audit.list demo", "error: audit.list does not take 'demo'\nhint: name a node with --node: "),
        ("node.version demo --help", "error: node.version does not take 'demo'\nhint: name a node with --node: "),
        ("user.list user.delete", "error: user.list does not take 'user.delete'\nhint: run it by itself: "),
        ("user.get ada demo", "error: user.get does not take 'demo'\nhint: see what it takes: "),
        ("workspace.exec web demo", "error: workspace.exec does not take 'demo'\nhint: put the command behind --: "),
    ],
)
def test_one_task_a_command_line(place, words, says):
    for run in (place.inv, place.codesmith):
        with scripted(place.endpoint()) as server:
            done = run(*words.split())
            assert (done.returncode, done.stdout, server.requests) == (1, "", [])
        assert done.stderr.startswith(says)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("audit.list -- demo", "error: audit.list takes nothing behind --, not 'demo'\nhint: "),
        ("user.delete ada -- --node web1", "error: user.delete takes nothing behind --, not '--node web1'\nhint: "),
        ("--list -- demo", "error: "),
        ("-- audit.list", "error: "),
    ],
)
def test_words_behind_dashes_are_for_a_task_that_takes_them(place, words, says):
    for run in (place.inv, place.codesmith):
        with scripted(place.endpoint()) as server:
            done = run(*words.split())
            assert (done.returncode, done.stdout, server.requests) == (1, "", [])
        assert done.stderr.startswith(says)


def test_ctrl_c_ends_with_2(place):
    with scripted(place.endpoint(), b"HTTP/1.1 200 OK\r\n") as server:
        argv = [INV, "node.version"]
        running = subprocess.Popen(argv, cwd=TOP, env=place.environment, stderr=subprocess.PIPE, text=True)
        assert server.was_called.wait(20)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=20)
    assert (running.returncode, err) == (2, "error: cancelled\n")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("node.prepare web1", "inv node.prepare --node web1"),
        ("workspace.exec demo ls", "inv workspace.exec NAME -- ls"),
        ("workspce.list", "inv workspace.list"),
        ("node.health --jsn", "did you mean: --json"),
        ("workspace list", "inv workspace.list"),
        ("workspace list --node web1", "inv workspace.list --node web1"),
        ("exec demo", "inv workspace.exec"),
        ("workspac", "inv help workspace"),
        ("help wurkspace", "inv help workspace"),
        ("workspace.create", "inv workspace.create --help"),
    ],
)
def test_what_inv_cannot_parse_gets_a_next_step(words: str, hint: str) -> None:
    command = [INV, *words.split()]
    said = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=60)
    assert said.returncode == 1
    assert said.stderr.startswith("error: ")
    assert f"hint: {hint}" in said.stderr or f": {hint}\n" in said.stderr


def test_with_json_an_error_is_json_in_the_last_line_of_stderr(place):
    refusal = error(1004, "busy\x1b", kind="in_use", hint="inv user.list")
    expected = {"kind": "AgentRefused", "problem": "busy\x1b", "hint": "inv user.list", "exit_code": 6,
                "rpc": {"code": 1004, "kind": "in_use"}}  # fmt: skip
    for words in (["--json"], ["-o", "json"], ["--output=yaml"]):
        with scripted(place.endpoint(), refusal):
            done = place.inv("user.enable", "ada", *words)
        assert (done.returncode, done.stdout, json.loads(done.stderr)) == (6, "", {"error": expected})
    usage = json.loads(place.inv("user.get", "--nod", "x", "--json").stderr)["error"]
    assert usage == {
        "kind": "BadArgument", "problem": "user.get has no option --nod", "hint": "did you mean: --node",
        "exit_code": 1,
    }  # fmt: skip
    assert place.inv("user.list", "--json", "-o", "name").stderr.startswith("error: --json and --output name")
    assert place.inv("user.list", "-o", "xml").stderr.startswith("error: --output takes one of table, json, yaml, name")


def test_a_lost_change_is_repeated_by_the_command_in_its_hint(place):
    with scripted(place.endpoint(), None, None, result(EXECUTION)) as server:
        done = place.inv("workspace.exec", "demo", "--json", "--", "echo", "a b; 'c'")
        assert done.returncode == 5
        command = json.loads(done.stderr)["error"]["hint"].partition("twice: ")[2]
        programs = str(Path(sys.executable).parent)
        place.environment["PATH"] = f"{programs}:{place.environment['PATH']}"
        assert place.run(["sh", "-c", command]).returncode == 0
    first, _, again = (request["params"] for request in server.requests)
    assert again == first


def test_the_error_in_the_readme_is_the_one_that_is_printed(place):
    (step,) = [one for one in pages.steps(TOP / "README.md") if '"kind": "CallLost"' in "".join(one.output)]
    (line,) = step.output
    asked = re.search("CODESMITH_REQUEST_ID=([0-9a-f]+)", line)
    with scripted(place.endpoint(), None, None):
        environment = {**place.environment, "CODESMITH_REQUEST_ID": asked[1]}
        done = place.codesmith(*shlex.split(step.command)[1:], env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (5, "", f"{line}\n")


# Python imports this at its start: Ctrl-C comes exactly when the module is looked for.
CTRL_C_AT_AN_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["CTRL_C_AT"]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize(
    ("program", "module"),
    [
        ("codesmith", "invoke.collection"),
        ("codesmith", "codesmith.tasks.node"),
        ("inv", "codesmith.cli.program"),
        ("inv", "codesmith.tasks.node"),
    ],
)
def test_ctrl_c_before_a_task_runs_is_one_line(place, tmp_path, program, module):
    (tmp_path / "sitecustomize.py").write_text(CTRL_C_AT_AN_IMPORT)
    environment = {**place.environment, "PYTHONPATH": str(tmp_path), "CTRL_C_AT": module}
    done = getattr(place, program)("node.list", env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: cancelled\n")


@pytest.mark.parametrize("option", ["--pty", "--echo", "--warn-only", "--hide=both", "--command-timeout=3"])
def test_an_option_that_means_nothing_is_refused(place, option):
    name = option.partition("=")[0]
    for run in (place.inv, place.codesmith):
        for words in ((option, "node.list"), ("node.list", option)):
            done = run(*words)
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr.startswith(f"error: {name} has no meaning here: no task runs commands by Invoke\n")


def test_a_mistyped_name_gets_the_likely_one(place):
    missing = error(1001, "no user 'adda' on this node", kind="not_found", hint="inv user.list")
    with scripted(place.endpoint(), missing, result([USER])):
        done = place.inv("user.disable", "adda", "--node", "web1")
    said = "hint: did you mean ada? All of them: inv user.list --node web1\n"
    assert (done.returncode, done.stderr) == (3, f"error: no user 'adda' on this node\n{said}")
    for answer in (error(1010, "out", kind="out_of_scope"), result([]), result([{**USER, "name": "zoe"}])):
        with scripted(place.endpoint(), missing, answer):
            done = place.inv("user.disable", "adda")
        assert (done.returncode, done.stderr) == (3, "error: no user 'adda' on this node\nhint: inv user.list\n")
    assert "hint: did you mean web1? Else list them" in place.inv("node.version", "--node", "web11").stderr
