"""An upgrade keeps the old release until the new one has answered; otherwise the node rolls back by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from codesmith.bootstrap import door_files, layout
from codesmith.bootstrap import pack as packing
from codesmith.bootstrap.prepare import Prepared, prepare
from codesmith.bootstrap.uninstall import uninstall
from codesmith.bootstrap.verify import verify
from codesmith.errors import StepFailed, Unsupported
from codesmith.lab import LabNode
from codesmith.nodes.registry import Node
from tests.bootstrap.node_side import ask, call, ledger_of, listing, sh, sums_of
from tests.bootstrap.shipping import Ship, links
from tests.kinds import some_names_of

pytestmark = pytest.mark.usefixtures("same_agent")
AsNode = Callable[..., Node]
SERVE = '    if command == "agent" and not rest:\n'


def kinds(done: Prepared) -> list[str]:
    return [step.kind for step in done.steps]


def assert_ledger_is_true(node: LabNode, not_yet: str = "") -> None:
    """Every file in the ledger but `not_yet` is on the node as it says, and every release on the node is in it."""
    entries = ledger_of(node)["entries"]
    sums = {entry["path"]: entry["sha256"] for entry in entries if "sha256" in entry and entry["path"] != not_yet}
    assert sums_of(node, sums) == sums
    known = {
        entry["path"]
        for entry in entries
        if entry["kind"] == "directory" and entry["path"].startswith(layout.RELEASES + "/")
    }
    # What is in a program is compared with agent.pyz.
    there = sh(node, f"find {layout.RELEASES} -mindepth 1 -type d -not -path '*/program/*'").split()
    assert known == set(there)


def test_an_upgrade_keeps_the_release_that_answered_before_and_no_older_one(
    node: LabNode, as_node: AsNode, ship: Ship
) -> None:
    first = prepare(as_node(node))
    node_id = first.node_id
    ship("2.0.0")
    done = prepare(as_node(node))
    units = ["unit"] * len(layout.UNITS)
    assert kinds(done) == ["ledger", "release", "program", *units, "link", "reload", "service"]
    assert (ask(node)["agent"], done.node_id) == ("2.0.0", node_id)
    assert links(node) == {"current": "2.0.0", "previous": first.agent_version}
    ship("3.0.0")
    assert kinds(prepare(as_node(node)))[-1] == "prune"
    assert links(node) == {"current": "3.0.0", "previous": "2.0.0"}
    assert len(sh(node, f"ls {layout.RELEASES}").split()) == 2
    assert_ledger_is_true(node)
    assert prepare(as_node(node)).steps == ()


# Imports a part of its program when it is told to.
LATE = """
import sys
sys.path.insert(0, sys.argv[1])
import agent.main
sys.stdin.readline()
import agent.dial
print(agent.__version__, agent.dial.__file__, agent.dial.__cached__)
"""


@pytest.mark.long
def test_what_runs_from_an_older_release_keeps_it_through_upgrades(node: LabNode, as_node: AsNode, ship: Ship) -> None:
    ship("11.0.0")
    prepare(as_node(node))
    program = sh(node, f"readlink -f {layout.program_of(layout.CURRENT)}")
    node.run(["sh", "-c", "mkfifo /run/told; cat >/run/late.py"], input=LATE)
    sh(node, f"python3 -I -S /run/late.py {program} <>/run/told >/run/said 2>&1 & echo $! >/run/late.pid")
    for version in ("12.0.0", "13.0.0"):
        ship(version)
        prepare(as_node(node))
    assert links(node) == {"current": "13.0.0", "previous": "12.0.0"}
    assert prepare(as_node(node)).steps == ()
    assert {one.status for one in verify(as_node(node))} == {"ok"}
    assert_ledger_is_true(node)
    sh(node, "echo >/run/told; while [ -d /proc/$(cat /run/late.pid) ]; do sleep 0.05; done")
    version, source, compiled = sh(node, "cat /run/said").split()
    assert (version, source) == ("11.0.0", f"{program}/agent/dial.py")
    assert compiled.endswith(".pyc")
    # A runtime that will be started by its socket.
    settings = json.dumps({"release": program})
    sh(node, f"mkdir -p /run/codesmith/workspaces; echo '{settings}' >/run/codesmith/workspaces/demo.json")
    assert prepare(as_node(node)).steps == ()
    sh(node, "rm -r /run/codesmith/workspaces")
    assert kinds(prepare(as_node(node))) == ["prune"]
    assert_ledger_is_true(node)
    assert sh(node, f"ls {layout.RELEASES} | wc -l") == "2"


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "an agent that ends at once": (
        {"old": SERVE, "new": SERVE + "        raise SystemExit('broken on purpose')\n"},
        "broken on purpose",
    ),
    "an agent that hangs": (
        {"old": SERVE, "new": SERVE + "        __import__('time').sleep(1000)\n"},
        "did nothing for 10 s",
    ),
    "an agent that cannot be run": ({"old": "import json\n", "new": "import jsn\n"}, "No module named 'jsn'"),
    "a unit that systemd cannot start": (
        {"agent_service": "[Service]\nExecStart=\nExecStart=/nowhere\n"},
        "/nowhere: No such file",
    ),
    "a unit that systemd cannot read": ({"agent_socket": "[Socket]\nListenStream=\n"}, "codesmith-agent.socket"),
}


# Each of the others takes ten seconds or more, and ends in the same way.
@pytest.mark.parametrize("broken", some_names_of(BROKEN, "an agent that ends at once"))
def test_a_release_that_does_not_answer_is_replaced_by_the_one_before(
    node: LabNode, as_node: AsNode, ship: Ship, broken: str
) -> None:
    ship("4.0.0")
    prepare(as_node(node))
    before = (links(node), sh(node, "systemctl cat codesmith-agent.service codesmith-agent.socket"))
    changes, said = BROKEN[broken]
    ship("5.0.0", **changes)
    with pytest.raises(StepFailed) as error:
        prepare(as_node(node))
    assert said in error.value.problem
    if "cannot be run" not in broken:  # noticed before the running agent is touched
        assert "the previous release (4.0.0) runs again" in error.value.problem
    assert "inv node.prepare" in error.value.hint
    assert ask(node)["agent"] == "4.0.0"
    assert (links(node), sh(node, "systemctl cat codesmith-agent.service codesmith-agent.socket")) == before
    assert node.failed_units == []
    assert_ledger_is_true(node)
    ship("4.0.0")
    assert kinds(prepare(as_node(node))) == ["prune"]
    assert_ledger_is_true(node)


@pytest.mark.long
def test_a_first_install_that_does_not_answer_has_nothing_to_go_back_to(
    fresh: Callable[..., LabNode], as_node: AsNode, ship: Ship
) -> None:
    node = fresh("first")
    changes, said = BROKEN["an agent that ends at once"]
    ship("1.0.0", **changes)
    with pytest.raises(StepFailed, match=f"could not start .*: the agent did not answer: {said}") as error:
        prepare(as_node(node))
    assert "runs again" not in error.value.problem
    assert f"inv node.uninstall --node {node.name}" in error.value.hint
    # The settings of sshd come after an agent that answers.
    assert_ledger_is_true(node, not_yet=door_files.SSHD_SETTINGS)
    uninstall(as_node(node))
    assert sh(node, "find / -xdev -name '*codesmith*' -not -path '/proc/*'") == ""


@pytest.mark.long  # two releases, and packages
def test_what_an_earlier_codesmith_has_is_told_saved_by_the_hint_and_then_begun_anew(
    fresh: Callable[..., LabNode], as_node: AsNode, ship: Ship
) -> None:
    node = fresh("earlier")
    before = prepare(as_node(node))
    call(node, "workspace.create", name="demo")
    call(node, "workspace.create", name="site")
    sh(node, "cd /srv/codesmith/workspaces/demo/data; echo kept >file; chown cs-demo: file")
    sh(node, f"systemctl stop {layout.HELPER_SERVICE}")
    known = layout.desired_for(packing.pack(), "").formats["helper"]
    ship("20.0.0", f"LAYOUT = Layout(\n    {known},", f"LAYOUT = Layout(\n    {known + 1},", "helper/ledger/ledger.py")
    there = listing(node)
    for plan_only in (True, False):
        with pytest.raises(Unsupported, match=r"an earlier CodeSmith, .*; it has workspaces demo, site") as error:
            prepare(as_node(node), plan_only=plan_only)
    assert listing(node) == there
    assert ask(node)["agent"] == before.agent_version
    (problem,) = [one for one in verify(as_node(node)) if one.status == "unsupported"]
    assert "an earlier CodeSmith" in problem.found
    # The hint, step by step.
    save, _, then = error.value.hint.partition("; copy that file away; then: ")
    assert then == f"inv node.uninstall --node {node.name} --purge --yes; inv node.prepare --node {node.name}"
    sh(node, save.removeprefix("on the node, as root: "))
    uninstall(as_node(node), purge=True)
    assert prepare(as_node(node)).agent_version == "20.0.0"
    call(node, "workspace.create", name="demo")
    sh(node, RESTORE)
    assert sh(node, "cd /srv/codesmith/workspaces/demo/data; stat -c %U file; cat file") == "cs-demo\nkept"
    assert prepare(as_node(node)).steps == ()


# As the README has it.
RESTORE = """
gzip --decompress --stdout /root/codesmith-saved.tar.gz | setpriv --reuid=cs-demo --regid=cs-demo --clear-groups \\
    tar --extract --directory /srv/codesmith/workspaces/demo --strip-components=2 \\
    workspaces/demo/code workspaces/demo/config workspaces/demo/data
"""
