"""The main job over the operator's own ssh, from a bare node to an uninstalled one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.person import Person
from tests.releases import TRIXIE_FIRST

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]


@pytest.fixture(scope="module")
def ada(make_person: Callable[..., Person], release: str) -> Person:
    """Somebody whose only node is reached by OpenSSH, as a login that may use sudo."""
    person = make_person({"web1": release})
    person.lab_node("web1").add_login("ops", sudo="nopasswd")
    person.write_registry({"web1": {**person.lab_entry("web1"), "user": "ops", "ssh": "openssh"}})
    return person


def masters(person: Person) -> int:
    """Return how many ssh there are with a socket in this person's private folder."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        found += words[0].endswith(b"ssh") and any(word.startswith(bytes(person.home)) for word in words)
    return found


def test_the_main_job_passes_over_openssh(ada: Person) -> None:
    ada.runs("inv node.prepare")
    assert [row["carrier"] for row in ada.runs("inv node.connect --json").json] == ["openssh"]
    assert masters(ada) == 1
    ada.runs("inv workspace.create demo")
    assert ada.runs("inv workspace.exec demo -- sh -c 'echo $((6 * 7))'").out == "42\n"
    assert masters(ada) == 1


@pytest.mark.long  # each over the same connection as what is above
def test_so_does_all_else_until_the_node_is_bare_again(ada: Person) -> None:
    ada.runs("inv node.prepare")
    assert "nothing to do" in ada.runs("inv node.prepare").out
    ada.runs("inv node.connect")
    ada.runs("inv node.restart")
    assert "codesmith" in ada.runs("inv node.logs --lines 20").out
    ada.runs("inv node.verify")
    assert ada.runs("inv node.doctor --json").json
    assert masters(ada) == 1
    ada.runs("inv node.uninstall --purge --yes")
    ada.runs("inv node.disconnect")
    assert masters(ada) == 0
    assert not list((ada.home / "run").glob("ssh-*"))
