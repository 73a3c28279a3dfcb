"""workspace.open on a real node: the way that is shown leads in, for those whose key is authorised."""

from __future__ import annotations

import pytest

from tests.node.web1 import Web1

pytestmark = pytest.mark.lab
SSH = "-o BatchMode=yes -o ConnectTimeout=20"


def test_the_way_that_is_shown_leads_into_the_workspace(web1: Web1) -> None:
    person = web1.person
    public = f"{person.lab_entry('web1')['identity']}.pub"
    person.runs(f"inv workspace.create enter --ssh-key {public}")
    opened = person.runs("inv workspace.open enter --json").json
    assert opened["login"]["user"] == "cs-enter"
    assert opened["login"]["directory"] == opened["path"]
    assert web1.client.workspace.get(name="enter").opened_at == opened["opened_at"]
    said = person.runs(
        "inv workspace.open enter --shell", typed='id -un; pwd; echo "$CODESMITH_WORKSPACE"; exit 7\n', code=7
    )
    assert said.out.split()[-3:] == ["cs-enter", "/srv/codesmith/workspaces/enter", "enter"]


def test_without_a_key_the_door_is_closed(web1: Web1) -> None:
    web1.person.runs("inv workspace.create closed")
    said = web1.person.fails("inv workspace.open closed --shell", code=4)
    assert "no key at all" in said.err


def test_labels_and_owner_are_changed_by_task(web1: Web1) -> None:
    person = web1.person
    person.runs("inv workspace.create moved --label a=b")
    person.runs("inv user.create taker")
    assert person.runs("inv workspace.update moved --label c=d --json").json["labels"] == {"c": "d"}
    assert person.runs("inv workspace.assign moved taker --json").json["login"] == "cs-taker"
    assert person.runs("inv workspace.exec moved -- id -un").out == "cs-taker\n"
    said = person.runs("inv workspace.assign moved nobody", code=3)
    assert said.err.startswith("error: no user 'nobody'")
