"""The plan is a table: see plans.yaml."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
import yaml

from codesmith.bootstrap import layout
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.plan import plan
from codesmith.bootstrap.probe import ANSWERED, parse, parse_sh_facts
from codesmith.bootstrap.rollback import plan_rollback
from codesmith.bootstrap.step import KINDS, Step
from codesmith.errors import LookFailed, Unsupported
from tests.bootstrap.bootstrap_facts import BARE, DESIRED, prepared

CASES = yaml.safe_load(
    (Path(__file__).with_name("plans.yaml")).read_text().replace(f"{layout.RELEASES}/RELEASE", DESIRED.release)
)


def facts(case: dict[str, Any]) -> Facts:
    found = prepared() if case["node"] == "prepared" else deepcopy(BARE)
    return Facts.from_json(change(found, case.get("but", {})))


def change(there: Any, but: Any) -> Any:
    """Return `there` with what `but` names replaced, level by level."""
    if not isinstance(there, dict) or not isinstance(but, dict):
        return but
    return {**there, **{key: change(there.get(key), value) for key, value in but.items()}}


def commands(steps: list[Step]) -> Iterator[str]:
    for order in (step.order for step in steps):
        if order["do"] == "run":
            yield shlex.join(order["argv"])
        if order["do"] == "user":
            yield from (shlex.join(argv) for argv in (order["commands"] if order["stop"] else order["new"]))
        if order["do"] == "package":
            yield from (shlex.join(order[act]) for act in ("install", "refresh"))
        if order["do"] == "units":
            again = [name for name in order["start"] if name in order["stop"]]
            stop, start = ([name for name in order[key] if name not in again] for key in ("stop", "start"))
            for verb, names in (("stop", stop), ("restart", again), ("start", start)):
                if names:
                    yield shlex.join(["systemctl", verb, *names])


@pytest.mark.parametrize("case", [case for case in CASES if "steps" in case], ids=itemgetter("case"))
def test_plan(case: dict[str, Any]) -> None:
    steps = plan(facts(case), DESIRED)
    assert [f"{step.kind} {step.name}" for step in steps] == case["steps"]
    assert "commands" not in case or list(commands(steps)) == case["commands"]


@pytest.mark.parametrize("case", [case for case in CASES if "refused" in case], ids=itemgetter("case"))
def test_refused(case: dict[str, Any]) -> None:
    with pytest.raises(Unsupported) as error:
        plan(facts(case), DESIRED)
    reasons = error.value.problem.split("; ")
    assert [any(wanted in reason for reason in reasons) for wanted in case["refused"]] == [True] * len(reasons)


# The releases at current, previous and fallback, and the one that a rollback goes to.
ROLLBACKS = {
    "after an upgrade": ("new", "old", "", "old"),
    "an upgrade was cut off before it changed anything": ("old", "older", "old", "older"),
    "an upgrade was cut off": ("new", "older", "old", "old"),
    "the first upgrade was cut off": ("new", "", "old", "old"),
    "a rollback was cut off": ("old", "old", "new", "old"),
}


@pytest.mark.parametrize("name", ROLLBACKS)
def test_where_a_rollback_goes(name: str) -> None:
    *links, wanted = ROLLBACKS[name]
    pairs = zip((layout.CURRENT, layout.PREVIOUS, layout.FALLBACK), links, strict=True)
    files = {path: {"type": "link", "target": release} for path, release in pairs if release}
    agents = {layout.agent_of(path): {"type": "file", "sha256": files[path]["target"]} for path in files}
    switch, _, restart = plan_rollback(Facts(files={**files, **agents}), "web1")
    assert (switch.order["target"], restart.order["answer"]["build"]) == (wanted, wanted)


def test_every_step_has_a_known_kind_and_tells_before_and_after() -> None:
    changes = {"missing_commands": ["git"]}
    bare = plan(Facts.from_json(change(BARE, changes)), DESIRED)
    drifted = plan(
        Facts.from_json(
            change(
                prepared(),
                {
                    "files": {layout.CURRENT: None},
                    "releases": [f"{layout.RELEASES}/000000000000"],
                    "accounts": {"drift": {"cs-ada": ["in the group docker"]}},
                },
            )
        ),
        DESIRED,
    )
    steps = [step.to_dict() for step in (*bare, *drifted)]
    assert {step["kind"] for step in steps} == set(KINDS) - {"resident"}  # only an uninstall has this
    assert all(step["before"] and step["after"] and step["before"] != step["after"] for step in steps)
    (git,) = [step for step in steps if step["kind"] == "package"]
    assert (git["name"], git["before"], git["after"]) == ("git", "missing", "installed")


def ledger_of(node: dict[str, Any]) -> dict[str, dict[str, Any]]:
    step = next(step for step in plan(Facts.from_json(node), DESIRED) if step.kind == "ledger")
    return {str(entry.get("name") or entry["path"]): entry for entry in json.loads(step.order["text"])["entries"]}


def test_the_ledger_tells_ours_from_what_was_there() -> None:
    node = change(BARE, {"files": {"/srv/codesmith": {**prepared()["files"]["/srv/codesmith"]}}})
    entries = ledger_of(node)
    assert not entries["/srv/codesmith"]["made_by_us"]
    assert entries["/srv/codesmith/home"]["made_by_us"]
    assert entries["/srv/codesmith/home"]["mode"] == "0711"
    assert entries[DESIRED.agent]["sha256"] == DESIRED.sha256


def test_what_we_made_stays_ours_and_old_releases_stay_on_record() -> None:
    node = prepared()
    old = {"kind": "file", "path": f"{layout.RELEASES}/000000000000/agent.pyz", "sha256": "0", "made_by_us": True}
    gone = {"kind": "file", "path": f"{layout.RELEASES}/111111111111/agent.pyz", "sha256": "1", "made_by_us": True}
    node["ledger"]["entries"] += [old, gone]
    node["releases"] += [f"{layout.RELEASES}/000000000000", f"{layout.RELEASES}/theirs"]
    node["login"] = "ada"
    entries = ledger_of(node)
    assert entries[old["path"]] == old
    assert gone["path"] not in entries
    assert all(entry["made_by_us"] for entry in entries.values())
    assert {"ops", "ada"} <= set(entries)


def test_a_node_without_python_is_described_by_sh_alone() -> None:
    text = (
        "login=ops\nkernel=6.1\narch=x86_64\npid1=systemd\nsystemd=systemd 252 (252)\n+PAM +AUDIT\nsystemd_runs=yes\n"
        "python=sh: 1: /usr/bin/python3: not found\nmanager=apt-get\nmissing=git\nfree=/usr 1000000\n"
        'ledger=unread\nos.ID=debian\nos.VERSION_ID="12"\nwhole=yes\n'
    )
    found = parse_sh_facts(text)
    assert (found.python, found.login, found.missing_commands) == (None, "ops", ("git",))
    assert (found.systemd_version, found.os["version_id"]) == (252, "12")
    assert found.is_ledger_unread
    assert plan(replace(found, is_ledger_unread=False), DESIRED)[1].name == "git, python3"


WHOLE = json.dumps({name: BARE.get(name) for name in ANSWERED})
CUT_OFF = {
    "nothing": ("", 0),
    "sh cut off": ("login=ops\nkernel=6.1\npid1=systemd\n", 0),
    "JSON cut off": (WHOLE[:-40], 0),
    "an answer is missing": (json.dumps({**json.loads(WHOLE), "units": {}, "unseen": {}}).replace('"files"', '"f"'), 0),
    "the program failed": (WHOLE, 1),
}


@pytest.mark.parametrize(("text", "status"), CUT_OFF.values(), ids=CUT_OFF)
def test_a_look_that_did_not_come_to_its_end_finds_nothing(text: str, status: int) -> None:
    assert parse("web1", json.dumps({**json.loads(WHOLE), "releases": [], "unseen": {}}), 0, "").login == "ops"
    with pytest.raises(LookFailed, match=r"incomplete|failed with status 1: killed"):
        parse("web1", text, status, "killed")


def test_the_plan_changes_no_facts() -> None:
    before = prepared()
    plan(Facts.from_json(before), DESIRED)
    assert before == prepared()
