"""The commands in a hint can be pasted: right program, right node, right registry."""

from __future__ import annotations

import re
import sys

import pytest

from codesmith.cli.hints import completed
from codesmith.errors import THIS_COMMAND
from tests.sdk.sdk_doubles import error, scripted

CASES = [
    ("inv node.start --node web1; inv node.logs", {}, "inv node.start --node web1; inv node.logs"),
    ("inv workspace.list", {"node": "web1"}, "inv workspace.list --node web1"),
    ("inv node.start --node a; inv node.logs", {"node": "web1"}, "inv node.start --node a; inv node.logs --node web1"),
    ("so: inv node.trust web1", {"node": "web1", "file": "a b"}, "so: inv node.trust --file 'a b' web1"),
    ("see `inv node.health`; wait", {"node": "web1", "file": "n"}, "see `inv node.health --node web1 --file n`; wait"),
    ("inv node.add NAME --host HOST --file x", {"file": "y"}, "inv node.add NAME --host HOST --file x"),
    ("inv workspace.exec demo -- ls", {"node": "web1"}, "inv workspace.exec --node web1 demo -- ls"),
    ("inv lab.up --node x", {"node": "web1", "file": "n"}, "inv lab.up --file n --node x"),
    ("inv lab.status", {"node": "web1", "file": "n"}, "inv lab.status"),
    ("ssh -v web1; rm inv", {"node": "web1", "file": "n"}, "ssh -v web1; rm inv"),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "meant", "pasted"), CASES)
def test_a_command_gets_the_node_and_the_file_that_were_meant(hint, meant, pasted, monkeypatch):
    for program in ("/usr/bin/inv", "/lib/invoke/__main__.py"):
        monkeypatch.setattr(sys, "argv", [program])
        assert completed(hint, **meant) == pasted
    for program in ("/usr/bin/codesmith", "/lib/codesmith/__main__.py"):
        monkeypatch.setattr(sys, "argv", [program])
        assert completed(hint, **meant) == re.sub(r"\binv (?=[a-z])", "codesmith ", pasted)


def test_the_same_again_is_the_command_that_was_typed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/codesmith", "workspace.exec", "demo", "--", "sh", "-c", "ls a b"])
    again = "again: CODESMITH_REQUEST_ID=1 codesmith workspace.exec demo -- sh -c 'ls a b'"
    assert completed(f"again: CODESMITH_REQUEST_ID=1 {THIS_COMMAND}", node="web1") == again


@pytest.mark.slow
def test_a_hint_on_the_command_line_is_one_to_paste(place):
    other = place.nodes.with_name("other.yaml")
    other.write_text("nodes: {a: {host: 127.0.0.1, port: 1}, b: {host: 127.0.0.1, port: 1}}\n")
    done = place.codesmith("node.version", "--node", "c", "--file", str(other))
    assert done.returncode == 3
    assert f"hint: list them with `codesmith node.list --file {other}`" in done.stderr
    assert place.codesmith("node.list", "--file", str(other)).returncode == 0
    done = place.inv("node.version", "--file", str(other))
    assert done.stderr == f"error: which node? {other} has 2: a, b\nhint: name one: --node a\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["node.add", "UPPER", "--host", "h"],
        ["node.logs", "--lines", "-1"],
        ["workspace.create", "x", "--forward-agent"],
        ["node.list", "web1"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_an_argument_leads_to_the_tasks_help(place, words):
    done = place.inv(*words)
    error, hint = done.stderr.splitlines()
    assert (done.returncode, error[:7], hint[:6]) == (1, "error: ", "hint: ")
    assert hint.endswith(f"inv {words[0]} --help")
    assert place.nodes.read_text() == "nodes: {web1: {host: web1.invalid, tags: [eu]}}\n"


@pytest.mark.parametrize(
    ("words", "field", "says"),
    [
        (["job.wait", "demo", "1" * 12, "--timeout", "-1"], "timeout_s", "--timeout"),
        (["job.stop", "demo", "1" * 12, "--grace", "99"], "grace_s", "--grace"),
        (["workspace.get", "De mo"], "name", "NAME"),
    ],
)
def test_what_an_agent_says_of_a_parameter_names_the_option(place, words, field, says):
    data = {"kind": "invalid_params", "errors": [{"field": field, "problem": "must be good"}]}
    with scripted(place.endpoint(), error(-32602, f"{field} must be good", **data)):
        done = place.inv(*words)
    hint = f"hint: inv {words[0]} --help"
    assert (done.returncode, done.stderr) == (1, f"error: {says} must be good\n{hint}\n")


def test_a_parameter_that_does_not_fit_is_named_too_and_stays_a_refusal(place, tmp_path):
    (tmp_path / "token").write_text("x")
    words = ["repo.pull", "demo", "site", "--credential-file", str(tmp_path / "token")]
    with scripted(place.endpoint(), error(-32602, "credential: is for https", kind="invalid_params")):
        done = place.inv(*words)
    assert (done.returncode, done.stderr.splitlines()[0]) == (6, "error: --credential-file: is for https")
