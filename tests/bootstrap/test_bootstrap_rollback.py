"""A rollback makes the release before current again, is done once, and is never called what it is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from codesmith.bootstrap import apply as applying
from codesmith.bootstrap import layout
from codesmith.bootstrap import pack as packing
from codesmith.bootstrap import prove as proving
from codesmith.bootstrap.prepare import Progress, prepare
from codesmith.bootstrap.rollback import rollback
from codesmith.bootstrap.verify import verify
from codesmith.errors import NotPrepared, StepFailed, Unproven
from codesmith.lab import LabNode
from codesmith.nodes.registry import Node
from tests.bootstrap.node_side import ask, call, sh
from tests.bootstrap.shipping import Ship, links
from tests.kinds import some_names_of

pytestmark = pytest.mark.usefixtures("same_agent")
AsNode = Callable[..., Node]


@pytest.fixture
def seven(node: LabNode, as_node: AsNode, ship: Ship) -> Node:
    """The node with release 7.0.0; the previous one is 6.0.0."""
    ship("6.0.0")
    if links(node) != {"current": "7.0.0", "previous": "6.0.0"}:
        prepare(as_node(node))
    ship("7.0.0", agent_service="[Service]\nEnvironment=SEVEN=7\n")
    prepare(as_node(node))
    return as_node(node)


def is_seven(node: LabNode) -> bool:
    return "SEVEN=7" in sh(node, "systemctl show --property=Environment codesmith-agent.service")


def test_rollback_goes_back_and_once_more_forth(node: LabNode, seven: Node) -> None:
    node_id = ask(node)["node_id"]
    done = rollback(seven)
    assert (done.agent_version, done.left_version, done.node_id) == ("6.0.0", "7.0.0", node_id)
    assert ask(node)["agent"] == "6.0.0"
    assert not is_seven(node)
    assert links(node) == {"current": "6.0.0", "previous": "7.0.0"}
    node.reboot()
    assert ask(node)["agent"] == "6.0.0"
    assert rollback(seven).agent_version == "7.0.0"
    assert is_seven(node)
    assert prepare(seven).steps == ()


def test_of_two_rollbacks_at_once_one_is_done_and_the_other_says_so(node: LabNode, seven: Node) -> None:
    others: list[Node] = []

    def meanwhile(step: Progress) -> None:
        if step.phase == "probe" and not others:
            others.append(seven)
            assert rollback(seven).agent_version == "6.0.0"

    with pytest.raises(Unproven, match="changed meanwhile, and is not rolled back by this") as error:
        rollback(seven, on_progress=meanwhile)
    assert error.value.hint == f"see which release answers: inv node.version --node {node.name}"
    assert links(node) == {"current": "6.0.0", "previous": "7.0.0"}


def test_a_rollback_that_was_cut_off_is_finished_by_the_next(node: LabNode, seven: Node) -> None:
    sh(node, f"cd {layout.CODE}; cp -P current fallback; ln -sfn $(readlink previous) current")
    assert links(node) == {"current": "6.0.0", "previous": "6.0.0", "fallback": "7.0.0"}
    done = rollback(seven)
    assert (done.agent_version, done.left_version) == ("6.0.0", "7.0.0")
    assert links(node) == {"current": "6.0.0", "previous": "7.0.0"}
    assert not is_seven(node)


def test_a_rollback_whose_end_nobody_saw_is_not_called_failed(
    node: LabNode, seven: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = applying.program
    killed = "import os\nos.rename = lambda *_: os.kill(os.getpid(), 9)\nos.replace = os.rename\n"
    monkeypatch.setattr(applying, "program", lambda name: killed + program(name))
    look = f"see which release answers: inv node.version --node {node.name}"
    with pytest.raises(Unproven, match="the steps ended early") as error:
        rollback(seven)
    assert error.value.hint == look
    monkeypatch.setattr(applying, "program", program)
    monkeypatch.setattr(proving, "REQUEST", b"nothing\r\n\r\n")
    with pytest.raises(Unproven, match="everything is installed, but the agent's answer to") as error:
        rollback(seven)
    assert ask(node)["agent"] == "6.0.0"
    assert error.value.hint == f"on the node: journalctl -u {layout.AGENT_SERVICE} -n 50"


@pytest.mark.long
def test_rollback_repairs_what_it_goes_back_to(node: LabNode, seven: Node) -> None:
    program = layout.program_of(layout.PREVIOUS)
    sums = "find . -name '*.pyc' -o -type f -not -name compiled.json -exec sha256sum {} + | sort"
    before = sh(node, f"cd {program}; {sums}")
    sh(node, f"echo broken >{program}/agent/main.py; rm -r {program}/jsonrpclib; rm {program}/agent/__pycache__/*")
    assert rollback(seven).agent_version == "6.0.0"
    assert sh(node, f"cd {layout.program_of(layout.CURRENT)}; {sums}") == before
    assert rollback(seven).agent_version == "7.0.0"
    assert {one.status for one in verify(seven)} == {"ok"}


@pytest.mark.long
def test_rollback_to_what_does_not_answer_any_more_changes_nothing(node: LabNode, seven: Node) -> None:
    unit = f"{layout.PREVIOUS}/units/{layout.AGENT_SERVICE}"
    sh(node, f"cp {unit} /tmp/whole; sed -i 's/^ExecStart=.*/ExecStart=false/' {unit}")
    with pytest.raises(StepFailed, match=r"the previous release .7\.0\.0. runs again") as error:
        rollback(seven)
    assert error.value.hint == f"fix that, then run: inv node.rollback --node {node.name}"
    sh(node, f"cp /tmp/whole {unit}")
    assert links(node) == {"current": "7.0.0", "previous": "6.0.0"}
    assert is_seven(node)


@pytest.mark.parametrize("store", some_names_of(layout.STORES, f"{layout.STATE}/state.db"))
def test_rollback_to_what_would_not_understand_its_store_is_refused(node: LabNode, seven: Node, store: str) -> None:
    if "ada" not in str(call(node, "user.list")):
        call(node, "user.create", name="ada")
    started = sh(node, "systemctl show --property=InvocationID codesmith-agent.service")
    change = 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute("PRAGMA user_version=" + sys.argv[2])'
    known = layout.desired_for(packing.pack(), "").formats[layout.STORES[store]]
    said = f"{store} has format {known + 1}, written by a newer agent; this one knows {known}"
    sh(node, f"python3 -c '{change}' {store} {known + 1}")
    try:
        with pytest.raises(StepFailed, match=said):
            rollback(seven)
    finally:
        sh(node, f"python3 -c '{change}' {store} {known}")
    assert links(node) == {"current": "7.0.0", "previous": "6.0.0"}
    assert sh(node, "systemctl show --property=InvocationID codesmith-agent.service") == started


@pytest.mark.long
def test_a_node_that_never_had_another_release_cannot_be_rolled_back(
    fresh: Callable[..., LabNode], as_node: AsNode
) -> None:
    node = fresh("first")
    with pytest.raises(NotPrepared):
        rollback(as_node(node))
    prepare(as_node(node))
    with pytest.raises(StepFailed, match="there is no release to go back to"):
        rollback(as_node(node))
    sh(node, f"rm -r {layout.CODE}")
    # The ledger shows what is missing.
    assert {one.status for one in verify(as_node(node))} >= {"missing", "ok"}
