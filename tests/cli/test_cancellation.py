"""What Ctrl-C leaves: each method of the contract that changes something has a command that shows what it did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codesmith.cli.cancellation import cancelled, look
from codesmith.errors import CallInterrupted, Interruption
from codesmith.tasks import root

CONTRACT = json.loads((Path(__file__).parents[2] / "agent" / "openrpc.json").read_text())
CHANGES = [
    method for method in CONTRACT["methods"] if "request_id" in {parameter["name"] for parameter in method["params"]}
]


@pytest.mark.parametrize("method", CHANGES, ids=lambda method: method["name"])
def test_the_command_to_look_is_one_of_ours(method):
    given = {parameter["name"]: "it" for parameter in method["params"] if parameter.get("required")}
    command = look(method["name"], given)
    assert command.split()[1] in {*root().task_names, "file.stat"}
    assert "{" not in command
    assert command != "inv audit.list"


def test_what_goes_on_is_named():
    error = cancelled(CallInterrupted("web1", "repo.clone", {"workspace": "demo", "url": "https://h/p"}))
    assert (error.problem, error.hint) == ("cancelled: web1 goes on with repo.clone of demo", "inv repo.list demo")
    command = cancelled(CallInterrupted("web1", "workspace.exec", {"name": "demo", "argv": ["make"]}))
    assert command.hint == "this ends it, with all that runs there: inv workspace.stop demo"
    odd = cancelled(CallInterrupted("web1", "user.create", {"name": "a b"}))
    assert odd.hint == "inv user.get 'a b'"
    assert cancelled(CallInterrupted("web1", "audit.list", {})).hint == "inv audit.list"


def test_what_is_known_already_is_said():
    error = cancelled(Interruption("job 1 goes on", hint="inv job.get demo 1"))
    assert (error.problem, error.hint, error.exit_code) == ("cancelled: job 1 goes on", "inv job.get demo 1", 2)


def test_a_task_has_a_hint_of_its_own():
    error = cancelled(KeyboardInterrupt(), "inv node.prepare")
    assert (error.problem, error.hint) == ("cancelled", "inv node.prepare")
