"""What real `inv` processes print: tables, tabs, JSON, for one node or several, to readers of all kinds."""

from __future__ import annotations

import base64
import json

import pytest
import yaml

from tests.agent.on_node.terminal import Terminal
from tests.sdk.sdk_doubles import USER, error, result, scripted
from tests.tasks.conftest import INV
from tests.tasks.exec_command import EXECUTION

pytestmark = pytest.mark.slow


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


def test_a_reader_that_has_seen_enough_is_no_error(place):
    many = [{**USER, "name": f"u{number}"} for number in range(3000)]
    with scripted(place.endpoint(), result(many)):
        done = place.run(["sh", "-c", f"{INV} user.list | head -1"])
    assert done.stdout.startswith("u0\t")
    assert done.stderr == ""


def test_a_table_is_for_a_terminal_and_has_no_colour_with_no_color(place):
    shown = {}
    for value in ("1", ""):
        with scripted(place.endpoint(), result([USER])):
            environment = {**place.environment, "NO_COLOR": value, "TERM": "xterm-256color", "COLUMNS": "200"}
            done = place.run(["script", "-qec", f"{INV} user.list", "/dev/null"], env=environment)
        shown[value] = done.stdout
    for text in shown.values():
        assert "workspaces" in text and "\\x1b[31m" in text
        assert "\x1b[31m" not in text
    assert "\x1b[3" not in shown["1"]


def test_output_is_for_every_task_that_has_json(place):
    with scripted(place.endpoint(), *[result([USER])] * 3):
        assert place.inv("user.list", "-o", "name").stdout == "ada\n"
        assert yaml.safe_load(place.inv("user.list", "-o", "yaml").stdout) == [USER]
        heads, row = place.inv("user.list", "--output", "table").stdout.splitlines()
    assert (heads.split()[:2], row.split()[:2]) == (["name", "login"], ["ada", "cs-ada"])


def test_watch_redraws_a_terminal_until_ctrl_c(place):
    rows = [{**USER, "name": f"u{number}"} for number in range(9)]
    with (
        scripted(place.endpoint(), result(rows), result(rows[:1]), *[error(1009, "damaged\x1b", kind="read_only")] * 9),
        Terminal([INV, "user.list", "--watch"], place.environment, rows=8, columns=120) as terminal,
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


@pytest.mark.parametrize(("where", "code"), [(">&-", 0), (">/dev/full", 1), ("<&- >&- 2>&-", 0)])
def test_an_output_that_takes_nothing_is_no_accident(place, where, code):
    with scripted(place.endpoint(), result([USER])):
        done = place.run(["sh", "-c", f"{INV} user.list {where}"])
    said = "error: cannot write the result: No space left on device\nhint: df -h /dev/full\n"
    assert (done.returncode, done.stderr) == (code, said if code else "")


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
