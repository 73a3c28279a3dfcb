"""Verify compares a node with its ledger and with the desired state."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import paramiko
import pytest

from codesmith.bootstrap import layout
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.prepare import prepare
from codesmith.bootstrap.rollback import rollback
from codesmith.bootstrap.uninstall import uninstall
from codesmith.bootstrap.verify import Finding, judge, verify
from codesmith.errors import NotPrepared, StepFailed
from codesmith.lab import LabNode
from codesmith.nodes.registry import Node
from tests.bootstrap.bootstrap_facts import DESIRED, prepared
from tests.bootstrap.node_side import listing, sh
from tests.bootstrap.test_bootstrap_plan import change

AsNode = Callable[..., Node]
HOME = "/srv/codesmith/home"
Z = "/usr/lib/codesmith/releases/000000000000"
OLD = {"kind": "file", "path": f"{Z}/agent.pyz", "sha256": "0" * 64, "mode": "0644", "owner": "root:root"}
BEFORE, TWO = {layout.PREVIOUS: {"type": "link", "target": Z}}, [Z, DESIRED.release]
PROGRAM = {"type": "directory", "mode": 0o755, "owner": "root", "group": "root"}
OLD_FILE = {"type": "file", "mode": 0o644, "owner": "root", "group": "root", "sha256": "0" * 64}


def found(but: dict[str, Any], *entries: dict[str, Any]) -> list[str]:
    node = change(prepared(), but)
    node["ledger"] = deepcopy(node["ledger"])
    node["ledger"]["entries"] += entries
    return [
        f"{one.kind} {one.name} {one.status}" for one in judge(Facts.from_json(node), DESIRED) if one.status != "ok"
    ]


CASES: dict[str, tuple[dict[str, Any], tuple[dict[str, Any], ...], list[str]]] = {
    "nothing": ({}, (), []),
    "a wrong mode": (
        {"files": {"/srv/codesmith/home": {"mode": 0o777}}},
        (),
        ["directory /srv/codesmith/home changed"],
    ),
    "a lost account": (
        {"users": {"codesmith": None}},
        (),
        ["user codesmith missing", f"service {layout.AGENT_SERVICE} changed"],
    ),
    "a stopped agent": (
        {"units": {layout.AGENT_SERVICE: {"ActiveState": "inactive"}}},
        (),
        [f"service {layout.AGENT_SERVICE} changed"],
    ),
    "a release before, whole": ({"files": {OLD["path"]: OLD_FILE, **BEFORE}, "releases": TWO}, (OLD,), []),
    "a release before, damaged": (
        {"files": {OLD["path"]: {**OLD_FILE, "sha256": "1" * 64}, **BEFORE}, "releases": TWO},
        (OLD,),
        [f"file {OLD['path']} changed"],
    ),
    "a changed file of the program": (
        {"files": {DESIRED.program: {"differs": ["changed agent/main.py"]}}},
        (),
        [f"program {DESIRED.program} changed", f"service {layout.AGENT_SERVICE} changed"],
    ),
    "an added file in the program of the release before": (
        {"files": {f"{Z}/program": {**PROGRAM, "differs": ["added x"]}, **BEFORE}, "releases": TWO},
        ({"kind": "directory", "path": f"{Z}/program", "mode": "0755", "owner": "root:root"},),
        [f"directory {Z}/program changed"],
    ),
    "a release too many": ({"releases": [Z, DESIRED.release]}, (), [f"prune {Z} extra"]),
    "an operator who is no member any more": (
        {},
        ({"kind": "member", "name": "ada", "group": layout.CLIENTS},),
        ["member ada missing"],
    ),
    "a node that could not be prepared today": ({"pid1": "init"}, (), ["node support unsupported"]),
}


@pytest.mark.parametrize("case", CASES)
def test_judge(case: str) -> None:
    but, entries, wanted = CASES[case]
    got = found(but, *entries)
    assert [line for line in got if not line.startswith("ledger ")] == wanted


def test_verify_finds_drift_and_changes_nothing(
    node: LabNode, as_node: AsNode, same_agent: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotPrepared):
        verify(as_node(node))
    prepare(as_node(node))
    whole = verify(as_node(node))
    assert {one.status for one in whole} == {"ok"}
    assert {one.kind for one in whole} == {"directory", "file", "group", "link", "service", "user"}
    sh(node, "chmod 777 /srv/codesmith/.trash; echo x >>/usr/lib/codesmith/current/agent.pyz")
    sh(node, "cd /usr/lib/codesmith/current/program/agent; echo x >>main.py; touch added.py; rm __pycache__/dial.*")
    sh(node, f"systemctl stop {layout.AGENT_SERVICE}")
    before, scripts = listing(node), []
    open_channel = paramiko.Transport.open_channel

    def counted(*args: Any, **more: Any) -> Any:
        scripts.append(args[1])
        return open_channel(*args, **more)

    monkeypatch.setattr(paramiko.Transport, "open_channel", counted)
    drift = [one for one in verify(as_node(node)) if one.status != "ok"]
    assert scripts == ["session"]
    assert listing(node) == before
    trash, agent, program, service = drift
    assert trash == Finding("directory", "/srv/codesmith/.trash", "changed", "0700 root:root", "0777 root:root")
    assert (agent.kind, agent.status, agent.name) == ("release", "changed", f"{current(node)}/agent.pyz")
    different = "added agent/added.py, changed agent/main.py, missing agent/__pycache__/dial.cpython-311.pyc"
    assert (program.kind, program.status, program.found) == ("program", "changed", f"0755 root:root, {different}")
    assert (service.kind, service.name, service.status, service.expected) == (
        "service",
        layout.AGENT_SERVICE,
        "changed",
        "active",
    )
    prepare(as_node(node))
    assert {one.status for one in verify(as_node(node))} == {"ok"}


@pytest.mark.long
def test_a_prepared_node_that_lost_its_python_is_not_taken_for_a_bare_one(
    node: LabNode, as_node: AsNode, same_agent: None
) -> None:
    prepare(as_node(node))
    sh(node, "mv /usr/bin/python3 /usr/bin/python3.off")
    try:
        for act in (verify, rollback, uninstall):
            with pytest.raises(StepFailed, match="/usr/bin/python3 is missing, so its ledger cannot be read"):
                act(as_node(node))
        # The package manager takes it for installed.
        with pytest.raises(StepFailed, match="python3 is installed, but /usr/bin/python3 is still missing"):
            prepare(as_node(node))
    finally:
        sh(node, "mv /usr/bin/python3.off /usr/bin/python3")
    assert {one.status for one in verify(as_node(node))} == {"ok"}


def current(node: LabNode) -> str:
    return sh(node, f"readlink {layout.CURRENT}")
