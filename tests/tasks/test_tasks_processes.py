"""Real `inv` processes, against a scripted endpoint."""

from __future__ import annotations

import base64
import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from codesmith.nodes.registry import Node
from codesmith.ssh import connect
from codesmith.ssh.target import resolve
from tests.agent.on_node.terminal import Terminal
from tests.docs import pages
from tests.sdk.sdk_doubles import USER, error, real_agent, result, scripted

pytestmark = pytest.mark.slow

TOP = Path(__file__).parents[2]
EXECUTION = {
    "exit_code": 0,
    "signal": None,
    "stdout": "",
    "stdout_encoding": "text",
    "stderr": "",
    "stderr_encoding": "text",
    "truncated": False,
    "omitted_bytes": 0,
    "duration_s": 0.1,
    "killed_by": None,
}
HEAVY = (
    "asyncio", "cryptography", "fabric", "http.client", "jsonrpclib", "paramiko", "rich", "ruamel", "ssl", "unittest",
)  # fmt: skip


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


def test_a_pipe_gets_tabs_and_json_gets_all(place):
    with scripted(place.endpoint(), result([USER]), result([USER])):
        piped, as_json = place.inv("user.list"), place.inv("user.list", "--json")
    row = "ada\tcs-ada\t70000\tactive\ta,b\\t\\x1b[31m\t2026-11-23T00:00:00.000Z\n"
    assert (piped.returncode, piped.stdout, piped.stderr) == (0, row, "")
    assert json.loads(as_json.stdout) == [USER]


def test_one_object_is_a_line_per_field(place):
    with scripted(place.endpoint(), result({**USER, "drift": []})):
        done = place.inv("user.get", "ada")
    assert done.stdout.splitlines()[:2] == ["name\tada", "login\tcs-ada"]


def test_a_refusal_of_the_agent_ends_with_6_and_an_unknown_name_with_3(place):
    with scripted(
        place.endpoint(), error(1004, "busy", kind="in_use", hint="wait"), error(1001, "none", kind="not_found")
    ):
        refused, unknown = place.inv("user.delete", "ada", "--yes"), place.inv("user.get", "ada")
    assert (refused.returncode, refused.stdout, refused.stderr) == (6, "", "error: busy\nhint: wait\n")
    assert (unknown.returncode, unknown.stderr) == (3, "error: none\n")


def test_json_has_a_command_and_its_output_as_one_answer(place, tmp_path):
    sent = bytes(range(256)) * 4
    (tmp_path / "blob").write_bytes(sent)
    answer = {**EXECUTION, "exit_code": 42, "stdout": "out\x1b[0m\n", "stderr": "/w==", "stderr_encoding": "base64"}
    with scripted(place.endpoint(), result(answer), result(answer)) as server:
        words = ["workspace.exec", "demo", "--env", "A=b=c", "--cwd", "code", "--timeout", "2.5", "--json"]
        done = place.inv(*words, "--stdin", "-", "--", "sh", "-c", "a  b", "--help", stdin=None, input="typed\n")
        place.inv(*words, "--stdin", str(tmp_path / "blob"), "--", "tac")
        text, binary = (request["params"] for request in server.requests)
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (42, answer, "")
    assert text.pop("request_id")
    assert text == {
        "name": "demo",
        "argv": ["sh", "-c", "a  b", "--help"],
        "cwd": "code",
        "env": {"A": "b=c"},
        "timeout_s": 2.5,
        "stdin": "typed\n",
    }
    assert (base64.b64decode(binary["stdin"]), binary["encoding"]) == (sent, "base64")


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


def test_keys_and_labels_are_read_as_people_give_them(place, tmp_path):
    (tmp_path / "keys.pub").write_text("# mine\nssh-ed25519 AAAA one\n\necdsa-sha2-nistp256 BBBB two\n")
    with scripted(place.endpoint(), error(1002, "there", kind="already_exists")) as server:
        words = ["--ssh-key", str(tmp_path / "keys.pub"), "--ssh-key", "ssh-rsa CCCC", "--label", "a=b"]
        place.inv("workspace.create", "demo", *words)
        sent = server.requests[0]["params"]
    assert sent["ssh_keys"] == ["ssh-ed25519 AAAA one", "ecdsa-sha2-nistp256 BBBB two", "ssh-rsa CCCC"]
    assert sent["labels"] == {"a": "b"}


def test_a_private_key_never_leaves(place, tmp_path):
    (tmp_path / "id").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n")
    with scripted(place.endpoint()) as server:
        done = place.inv("user.create", "ada", "--ssh-key", str(tmp_path / "id"))
        assert server.requests == []
    assert done.stderr == "error: this is a private key; keep it to yourself\nhint: give the file that ends in .pub\n"


def test_of_several_nodes_each_has_its_own_result(place):
    place.write("nodes: {web1: {host: a.invalid}, web2: {host: b.invalid}}\n")
    version = {"agent": "1", "api": "1", "python": "3", "build": "", "node_id": "n"}
    with scripted(place.endpoint("web1"), result(version)):
        with scripted(place.endpoint("web2"), error(-32603, "broken", kind="internal", hint="inv node.logs")):
            done = place.inv("node.version", "--all", "--json")
    rows = json.loads(done.stdout)
    assert rows == [{"node": "web1", **version}, {"node": "web2", "error": "broken", "kind": "AgentRefused"}]
    assert (done.returncode, json.loads(done.stderr)["error"]) == (6, {
        "kind": "CodeSmithError", "problem": "1 of 2 nodes failed:\n  web2: broken",
        "hint": "inv node.logs --node web2", "exit_code": 6,
    })  # fmt: skip


def test_ctrl_c_ends_with_2(place):
    with scripted(place.endpoint(), b"HTTP/1.1 200 OK\r\n") as server:
        argv = [str(Path(sys.executable).parent / "inv"), "node.version"]
        running = subprocess.Popen(argv, cwd=TOP, env=place.environment, stderr=subprocess.PIPE, text=True)
        assert server.was_called.wait(20)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=20)
    assert (running.returncode, err) == (2, "error: cancelled\n")


def test_a_reader_that_has_seen_enough_is_no_error(place):
    many = [{**USER, "name": f"u{number}"} for number in range(3000)]
    with scripted(place.endpoint(), result(many)):
        inv = Path(sys.executable).parent / "inv"
        done = place.run(["sh", "-c", f"{inv} user.list | head -1"])
    assert done.stdout.startswith("u0\t")
    assert done.stderr == ""


def test_the_way_of_a_call_imports_nothing_heavy(place, tmp_path):
    inv = Path(sys.executable).parent / "inv"
    with real_agent(place.endpoint(), tmp_path):
        done = place.run([sys.executable, "-X", "importtime", str(inv), "node.version", "--json"])
    assert json.loads(done.stdout)[0]["node"] == "web1"
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "codesmith.sdk.api" in imported
    assert not {name for name in imported if name.startswith(HEAVY)}
    assert not {
        name for name in imported if name.startswith(("codesmith.ssh", "codesmith.lab", "codesmith.tunnel.control"))
    }


def test_the_program_works_away_from_the_checkout(place, tmp_path):
    done = place.codesmith("node.list", cwd=tmp_path)
    assert done.stdout == f"web1\tweb1.invalid\tunix:{place.endpoint()}\tstopped\t\teu\tnodes.yaml\n"


def test_a_node_is_added_shown_and_removed(place):
    place.write("nodes:\n  web1: {host: web1.invalid}  # ours\n")
    added = place.inv("node.add", "db1", "--host", "db1.invalid", "--port", "2222", "--tag", "eu", "--label", "a=b")
    assert (added.returncode, added.stderr) == (0, "")
    assert "# ours\n" in place.nodes.read_text()
    assert [row["name"] for row in json.loads(place.inv("node.list", "--json").stdout)] == ["web1", "db1"]
    assert json.loads(place.inv("node.remove", "db1", "--yes", "--json").stdout)["removed"] is True
    assert place.nodes.read_text() == "nodes:\n  web1: {host: web1.invalid}  # ours\n"


def test_what_was_remembered_of_the_way_to_a_node_goes_with_it(place):
    place.write("nodes:\n  web1: {host: web1.invalid}\n")
    stays, goes = (resolve(Node(name, place.nodes, f"{name}.invalid")) for name in ("web2", "web1"))
    for target in (stays, goes):
        connect.remember(target, "no common algorithm")
    assert place.inv("node.remove", "web1", "--yes").returncode == 0
    assert [connect.recall(target) for target in (stays, goes)] == ["no common algorithm", ""]


def test_a_lab_node_that_is_gone_can_be_removed(place):
    place.write("nodes:\n  web1: {lab: bookworm}\n")
    assert place.inv("node.remove", "web1", "--yes").returncode == 0


def test_a_table_is_for_a_terminal_and_has_no_colour_with_no_color(place):
    shown = {}
    for value in ("1", ""):
        with scripted(place.endpoint(), result([USER])):
            inv = Path(sys.executable).parent / "inv"
            environment = {**place.environment, "NO_COLOR": value, "TERM": "xterm-256color", "COLUMNS": "200"}
            done = place.run(["script", "-qec", f"{inv} user.list", "/dev/null"], env=environment)
        shown[value] = done.stdout
    for text in shown.values():
        assert "workspaces" in text and "\\x1b[31m" in text
        assert "\x1b[31m" not in text
    assert "\x1b[3" not in shown["1"]


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
    command = [str(Path(sys.executable).parent / "inv"), *words.split()]
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


def test_output_is_for_every_task_that_has_json(place):
    with scripted(place.endpoint(), *[result([USER])] * 3):
        assert place.inv("user.list", "-o", "name").stdout == "ada\n"
        assert yaml.safe_load(place.inv("user.list", "-o", "yaml").stdout) == [USER]
        heads, row = place.inv("user.list", "--output", "table").stdout.splitlines()
    assert (heads.split()[:2], row.split()[:2]) == (["name", "login"], ["ada", "cs-ada"])


def test_watch_redraws_a_terminal_until_ctrl_c(place):
    rows = [{**USER, "name": f"u{number}"} for number in range(9)]
    inv = str(Path(sys.executable).parent / "inv")
    with (
        scripted(place.endpoint(), result(rows), result(rows[:1]), *[error(1009, "damaged\x1b", kind="read_only")] * 9),
        Terminal([inv, "user.list", "--watch"], place.environment, rows=8, columns=120) as terminal,
    ):
        terminal.wait_for(r"every 2 s, q or Ctrl-C ends")
        terminal.wait_for(r"u3.*\n.*and 5 more lines")
        terminal.wait_for(r"every 2 s(?s:.*)u0")
        terminal.wait_for(r"error: damaged\\x1b")
        terminal.types("\x03")
        assert terminal.wait_for_end() == 0
    done = place.inv("user.list", "--watch")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: --watch redraws a terminal")
    assert place.inv("user.create", "x", "--watch").stderr.startswith("error: user.create has no option --watch")


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


@pytest.mark.parametrize(("where", "code"), [(">&-", 0), (">/dev/full", 1), ("<&- >&- 2>&-", 0)])
def test_an_output_that_takes_nothing_is_no_accident(place, where, code):
    inv = Path(sys.executable).parent / "inv"
    with scripted(place.endpoint(), result([USER])):
        done = place.run(["sh", "-c", f"{inv} user.list {where}"])
    said = "error: cannot write the result: No space left on device\nhint: df -h /dev/full\n"
    assert (done.returncode, done.stderr) == (code, said if code else "")


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


@pytest.mark.parametrize("program", ["inv", "codesmith"])
def test_help_has_examples_to_paste_and_is_the_same_page_either_way(place, program):
    run = getattr(place, program)
    page = run("workspace.exec", "--help").stdout
    assert f"  {program} workspace.exec demo -- make test\n" in page
    assert f"  tar c src | {program} workspace.exec demo --cwd code -- tar x\n" in page
    for words in (("-h", "workspace.exec"), ("help", "workspace.exec"), ("help", "workspace", "exec")):
        assert run(*words).stdout == page
    unknown = run("-h", "workspace.exek")
    said = f"error: no task 'workspace.exek'\nhint: did you mean: {program} workspace.exec\n"
    assert (unknown.returncode, unknown.stderr) == (1, said)


@pytest.mark.parametrize("program", ["inv", "codesmith"])
def test_a_namespace_is_listed(place, program):
    run = getattr(place, program)
    listed = run("workspace")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "\n  workspace.exec " in listed.stdout
    for words in (("--list", "workspace"), ("help", "workspace"), ("-h", "workspace"), ("workspace", "--help")):
        assert run(*words).stdout == listed.stdout


@pytest.mark.parametrize("program", ["inv", "codesmith"])
def test_the_program_alone_shows_what_there_is_and_invokes_options_last(place, program):
    run = getattr(place, program)
    page = run()
    assert (page.returncode, page.stderr) == (0, "")
    heads = [line for line in page.stdout.splitlines() if line and not line.startswith(" ")]
    assert heads == [
        f"Usage: {program} TASK [ARGUMENTS] [--options] [-- COMMAND ...]", "First steps:", "Namespaces:",
        "Tasks without one:", "More:", "Options of Invoke, before the task:",
    ]  # fmt: skip
    assert f"\n  {program} node.trust web1\n" in page.stdout
    assert run("help").stdout == page.stdout
    assert run("--help").stdout == page.stdout


@pytest.mark.parametrize("tasks", ["", "from invoke import task\n\n@task\ndef own(c):\n    'Do it.'\n"])
def test_bare_help_of_inv_is_invokes_where_the_tasks_are_not_ours(place, tmp_path, tasks):
    (tmp_path / "tasks.py").write_text(tasks) if tasks else None
    done = place.inv("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: inv[oke] [--core-opts]")


def test_bare_help_of_inv_may_be_read_in_part(place):
    done = place.run(["bash", "-c", f"{Path(sys.executable).parent}/inv --help | head -1"])
    assert (done.stdout[:10], done.stderr) == ("Usage: inv", "")


@pytest.mark.parametrize("option", ["--pty", "--echo", "--warn-only", "--hide=both", "--command-timeout=3"])
def test_an_option_that_means_nothing_is_refused(place, option):
    name = option.partition("=")[0]
    for run in (place.inv, place.codesmith):
        for words in ((option, "node.list"), ("node.list", option)):
            done = run(*words)
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr.startswith(f"error: {name} has no meaning here: no task runs commands by Invoke\n")


def test_a_list_of_several_nodes_is_one_list(place):
    place.write("nodes: {web1: {host: a.invalid, tags: [eu]}, web2: {host: b.invalid, tags: [eu]}}\n")
    other = {**USER, "name": "zoe"}
    with (
        scripted(place.endpoint("web1"), *[result([USER, other])] * 3),
        scripted(place.endpoint("web2"), result([other]), result([]), error(1009, "damaged", kind="read_only")),
    ):
        rows = json.loads(place.inv("user.list", "--all", "--json").stdout)
        piped = place.inv("user.list", "--tag", "eu").stdout
        failed = place.inv("user.list", "--node", "web1", "--node", "web2", "--json")
    assert rows == [{"node": "web1", **USER}, {"node": "web1", **other}, {"node": "web2", **other}]
    assert [line.split("\t")[:2] for line in piped.splitlines()] == [["web1", "ada"], ["web1", "zoe"]]
    assert json.loads(failed.stdout)[2] == {"node": "web2", "error": "damaged", "kind": "AgentRefused"}
    assert (failed.returncode, json.loads(failed.stderr)["error"]["exit_code"]) == (6, 6)


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
