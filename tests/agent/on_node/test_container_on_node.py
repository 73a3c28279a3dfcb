"""A node in a user namespace with 65536 uids, as an unprivileged container is: what works elsewhere works there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from codesmith.lab import Lab
from tests.agent.on_node.web1 import Web1, calling
from tests.person import Person
from tests.releases import TRIXIE_FIRST

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]


@pytest.fixture(scope="module")
def bare(lab: Lab, new_name: Callable[[str], str], release: str) -> Iterator[Person]:
    """Somebody with such a node, not prepared."""
    with TemporaryDirectory(prefix="codesmith-") as folder:
        person = Person(Path(folder), lab, {"web1": release}, new_name("p"), uids=65536)
        yield person
        person.leave()


@pytest.fixture(scope="module")
def web1(bare: Person) -> Iterator[Web1]:
    bare.runs("inv node.prepare")
    with calling(bare) as web1:
        yield web1


@pytest.mark.long  # tests/bootstrap/test_bootstrap_uids.py has the choice without a node
@pytest.mark.parametrize(
    ("file", "line", "reason"),
    [
        ("/etc/subuid", "somebody:1000:64536", "no 1000 uids in a row"),
        ("/etc/subgid", "1234:1000:64536", "no 1000 uids in a row"),
        ("/etc/login.defs", "SUB_UID_MIN 1000\nSUB_UID_MAX 65535", "no 1000 uids in a row"),
    ],
)
def test_a_node_without_free_uids_is_refused_with_the_reason(bare: Person, file: str, line: str, reason: str) -> None:
    bare.on("web1", f"cp -p {file} /root/kept; printf '\\n{line}\\n' >> {file}")
    try:
        said = bare.runs("inv node.prepare", code=1)
        assert reason in said.err
        assert "0 to 65535" in said.err
    finally:
        bare.on("web1", f"cp -p /root/kept {file}")
    assert not bare.on("web1", "ls -d /etc/codesmith /srv/codesmith; getent passwd codesmith", check=False).out


def test_users_and_workspaces_are_made_and_ended(web1: Web1) -> None:
    user = web1.client.user.create(name="ada")
    assert user.uid == 20000
    web1.client.workspace.create(name="site", user="ada")
    assert web1.client.workspace.exec(name="site", argv=["id", "-u"]).stdout == "20001\n"
    web1.on("setpriv --reuid=cs-site --regid=cs-site --clear-groups sleep 1234 >/dev/null 2>&1 &")
    # Who kills has a uid that exists there.
    assert web1.client.user.disable(name="ada").state == "disabled"
    assert not web1.on("ps -o pid= -u cs-site", check=False).out
    assert web1.client.user.enable(name="ada").state == "active"
    web1.client.user.create(name="heir")
    web1.client.workspace.assign(name="site", user="heir")
    assert web1.client.workspace.exec(name="site", argv=["id", "-u"]).stdout == "20001\n"
    assert web1.client.node.health().status == "ok"
    assert web1.person.runs("inv node.verify").ok
    assert web1.client.user.delete(name="ada").leftovers == []


@pytest.mark.long  # the same
def test_a_range_that_does_not_exist_there_is_told_and_prepare_chooses_another(web1: Web1) -> None:
    """A node that was moved into a container keeps its disk."""
    file = "/etc/codesmith/uids.json"
    web1.on(f"echo '{{\"ranges\": [[1879048192, 2147483646]]}}' > {file}")
    refusal = web1.refuses(web1.client.user.create, "unsupported", name="bob")
    assert "uid 1879048192 does not exist on this node: uids 0 to 65535" in refusal.problem
    health = {check.name: check for check in web1.client.node.health().checks}
    assert health["uids"].status == "failing"
    assert "no user can be created" in health["uids"].detail
    assert f"uids\t{file}\tchanged" in web1.person.runs("inv node.verify", code=1).out
    rows = {row["code"]: row for row in web1.person.runs("inv node.doctor --json", code=1).json}
    assert (rows["node.uids"]["status"], rows["node.uids"]["next"]) == ("fail", "inv node.prepare --node web1")
    web1.person.runs("inv node.prepare")
    assert web1.on(f"cat {file}").out == '{"ranges": [[20000, 59999], [1879048192, 2147483646]]}\n'
    assert web1.client.user.create(name="bob").uid == 20003
    web1.client.user.delete(name="bob")
