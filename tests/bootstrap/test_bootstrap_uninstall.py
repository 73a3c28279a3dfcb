"""An uninstall removes what prepare made, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from codesmith.bootstrap import layout
from codesmith.bootstrap import pack as packing
from codesmith.bootstrap.apply import apply
from codesmith.bootstrap.prepare import prepare
from codesmith.bootstrap.session import Session
from codesmith.bootstrap.uninstall import plan_uninstall, uninstall
from codesmith.bootstrap.verify import verify
from codesmith.errors import NotPrepared, StepFailed
from codesmith.lab import LabNode
from codesmith.nodes.registry import Node
from tests.bootstrap.node_side import ask, call, ledger_of, listing, sh
from tests.releases import BOOKWORM_FIRST

pytestmark = pytest.mark.usefixtures("same_agent")
AsNode = Callable[..., Node]


@BOOKWORM_FIRST
def test_after_uninstall_a_node_is_as_it_was_before_prepare(any_node: LabNode, as_node: AsNode) -> None:
    any_node.add_login("ops", sudo="nopasswd")
    assert uninstall(as_node(any_node)).steps == ()  # nothing to do
    before = listing(any_node)
    prepare(as_node(any_node, user="ops"))
    planned = uninstall(as_node(any_node), plan_only=True)
    assert ask(any_node)
    done = uninstall(as_node(any_node))
    assert [step.text for step in done.steps] == [step.text for step in planned.steps]
    assert (done.kept, done.packages) == ((), ())
    after = listing(any_node)
    assert sorted(before - after) == []
    assert sorted(after - before) == []
    assert any_node.failed_units == []
    assert sh(any_node, "systemctl list-units --all --plain --no-legend 'codesmith*'") == ""
    with pytest.raises(NotPrepared):
        verify(as_node(any_node))
    assert uninstall(as_node(any_node)).steps == ()


def leftovers(node: LabNode) -> str:
    """Return everything on the node that has our name."""
    files = "set +e; find / -xdev -name '*codesmith*' -not -path '/proc/*'; ls -d /run/codesmith* 2>/dev/null"
    return sh(node, f"{files}; getent passwd codesmith; getent group codesmith codesmith-clients || true")


@pytest.fixture
def lived_in(node: LabNode, as_node: AsNode) -> Node:
    """The node, prepared, with a workspace, its user, and another user."""
    prepare(as_node(node))
    if not call(node, "user.list"):
        call(node, "workspace.create", name="demo")
        call(node, "user.create", name="ada")
    return as_node(node)


def test_a_node_that_is_lived_in_is_left_alone(node: LabNode, lived_in: Node) -> None:
    with pytest.raises(StepFailed, match="is in use: workspaces demo; users ada, demo") as error:
        uninstall(lived_in)
    assert "--purge --yes" in error.value.hint
    assert ask(node)["node_id"] == ledger_of(node)["node_id"]
    assert sh(node, "ls /srv/codesmith/workspaces") == "demo"


def test_the_node_itself_refuses_who_moves_in_meanwhile(
    node: LabNode, lived_in: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codesmith.bootstrap import uninstall as uninstalling

    plan = uninstalling.plan_uninstall
    blind = lambda facts, name, purge: plan(replace(facts, residents={}), name, purge=purge)  # noqa: E731
    monkeypatch.setattr(uninstalling, "plan_uninstall", blind)
    with pytest.raises(StepFailed, match=r"it is in use .workspaces: demo; users: ada, demo.") as error:
        uninstall(lived_in)
    assert error.value.hint == f"fix that, then run: inv node.uninstall --node {node.name}"
    assert ask(node)["node_id"] == ledger_of(node)["node_id"]  # and the agent runs again


def test_with_a_lost_ledger_nothing_is_removed(node: LabNode, lived_in: Node) -> None:
    sh(node, f"mv {layout.LEDGER} /root/ledger; echo '{{' >{layout.LEDGER}")
    for purge in (False, True):
        with pytest.raises(StepFailed, match="is lost or damaged"):
            uninstall(lived_in, purge=purge)
    assert ask(node)
    assert sh(node, "ls /srv/codesmith/workspaces") == "demo"
    sh(node, f"mv /root/ledger {layout.LEDGER}")


UNITS = "systemctl list-units --all --plain --no-legend '*codesmith*'"
# Deeper than Python can remove by recursion.
DEEP = "import os\nos.chdir('/var/lib/codesmith')\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')"


def test_purge_deletes_workspaces_and_users_as_the_helper_does(node: LabNode, lived_in: Node) -> None:
    assert call(node, "workspace.exec", name="demo", argv=["true"])["exit_code"] == 0
    assert "codesmith.slice" in sh(node, f"{UNITS}")
    sh(node, "setpriv --reuid=cs-demo --regid=cs-demo --clear-groups touch /tmp/of-demo")
    sh(node, f'setpriv --reuid=codesmith --regid=codesmith --clear-groups python3 -c "{DEEP}"')
    sh(node, "mkdir -p /run/codesmith/workspaces; touch /run/codesmith/workspaces/left.json")
    done = uninstall(lived_in, purge=True)
    assert done.steps[0].text == "delete the workspaces demo and the users ada, demo"
    assert done.kept == ()
    assert sh(node, "getent passwd cs-demo cs-ada || true; ls /srv; ls /tmp/of-demo 2>/dev/null || true") == ""
    assert leftovers(node) == ""
    assert sh(node, UNITS) == ""


@pytest.mark.parametrize("count", [*(pytest.param(few, marks=pytest.mark.long) for few in (2, 20)), -1])
def test_an_uninstall_that_was_cut_off_is_finished_by_the_next(node: LabNode, as_node: AsNode, count: int) -> None:
    prepare(as_node(node))
    desired = layout.desired_for(packing.pack(), "")
    with Session(as_node(node)) as session:
        facts = session.probe(desired, residents=True)
        assert apply(
            session.connection, facts, plan_uninstall(facts, "", purge=False)[:count], b"", lambda result: None
        )
    if count == -1:  # between the two halves of the last step
        sh(node, f"mv {layout.CONFIG} {layout.LEAVING}")
    uninstall(as_node(node))
    assert leftovers(node) == ""
    assert uninstall(as_node(node)).steps == ()


def test_what_others_put_there_and_what_was_there_before_stays(node: LabNode, as_node: AsNode) -> None:
    sh(node, "mkdir -m 711 -p /srv/codesmith/home; groupadd --system codesmith-clients")
    prepare(as_node(node))
    sh(node, "touch /srv/codesmith/workspaces/theirs /etc/codesmith/theirs")
    sh(node, "echo '# changed' >>$(readlink -f /etc/systemd/system/codesmith-agent.service)")
    kept = uninstall(as_node(node)).kept
    assert sorted(kept) == [
        "kept /etc/codesmith: it holds theirs",
        "kept /srv/codesmith/home: it was there before CodeSmith",
        "kept /srv/codesmith/workspaces: it holds theirs",
        "kept /srv/codesmith: it was there before CodeSmith",
        "kept codesmith-clients: it was there before CodeSmith",
    ]
    assert sh(node, "find /srv/codesmith /etc/codesmith | sort").split() == [
        "/etc/codesmith", "/etc/codesmith/theirs", "/srv/codesmith", "/srv/codesmith/home",
        "/srv/codesmith/workspaces", "/srv/codesmith/workspaces/theirs",
    ]  # fmt: skip
    assert sh(node, "getent group codesmith-clients").startswith("codesmith-clients:")
    sh(node, "rm -r /srv/codesmith /etc/codesmith; groupdel codesmith-clients")


@pytest.mark.long
def test_with_a_lost_ledger_nothing_is_removed_until_prepare_has_written_it_again(
    node: LabNode, as_node: AsNode
) -> None:
    prepare(as_node(node))
    sh(node, f"echo '{{' >{layout.LEDGER}")
    with pytest.raises(StepFailed, match="is lost or damaged"):
        uninstall(as_node(node))
    assert ask(node)
    prepare(as_node(node))
    uninstall(as_node(node))
    assert leftovers(node) == ""
