"""Whose a workspace is, and who else may enter it: assign, share, unshare; a login for each, or one for a pair."""

from __future__ import annotations

import json

import pytest

from tests.agent.on_node.web1 import Web1
from tests.releases import TRIXIE_FIRST

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]
# Everything about a tree, so that any change shows.
LOOK = "cd {path} && find . -printf '%p %i %U %G %m %s %T@\\n' | sort && cat AGENTS.md"


def look(web1: Web1, name: str) -> str:
    """Describe the files of a workspace and its home."""
    home = f"/srv/codesmith/home/cs-{name}"
    script = "; ".join(LOOK.format(path=path) for path in (f"/srv/codesmith/workspaces/{name}",))
    return web1.on(f"{script}; find {home} -printf '%p %i %U %G %m %s %T@\\n' | sort").out


def runs(web1: Web1, login: str) -> bool:
    return bool(web1.on(f"ps -Lu {login} -o pid=", check=False).out.strip())


def start(web1: Web1, name: str) -> None:
    """Leave a process and a job running as the login of a workspace."""
    become = f"setpriv --reuid=cs-{name} --regid=cs-{name} --clear-groups"
    web1.on(f"{become} setsid sleep 1000 >/dev/null 2>&1 & systemd-run --quiet --uid=cs-{name} sleep 1000; sleep 0.2")
    assert runs(web1, f"cs-{name}")


def test_an_assigned_workspace_ends_what_runs_and_keeps_every_file(web1: Web1) -> None:
    client = web1.client
    before = client.workspace.create(name="given")
    client.user.create(name="heir")
    keep = "umask 0; echo mine >data/file; ln data/file ~/kept; mkdir -m 2770 data/shared; chmod 4755 data/file"
    assert client.workspace.exec(name="given", argv=["sh", "-c", keep]).exit_code == 0
    files = look(web1, "given")
    start(web1, "given")
    assigned = client.workspace.assign(name="given", user="heir")
    assert assigned == client.workspace.get(name="given")
    assert assigned.to_dict() == {**before.to_dict(), "user": "heir"}
    assert not runs(web1, "cs-given")
    assert look(web1, "given") == files
    assert "heir" not in files, "AGENTS.md names no user"
    assert client.workspace.exec(name="given", argv=["id", "-un"]).stdout == "cs-given\n"
    # The dedicated user stays, and may not open it any more.
    assert client.user.get(name="given").workspaces == []
    client.user.disable(name="given")
    assert client.workspace.exec(name="given", argv=["cat", "data/file"]).stdout == "mine\n"
    client.user.disable(name="heir")
    web1.refuses(client.workspace.exec, "disabled", name="given", argv=["true"])
    assert client.workspace.delete(name="given").user_deleted is False
    for name in ("given", "heir"):
        assert client.user.delete(name=name).deleted


def test_sharing_and_its_end(web1: Web1) -> None:
    client = web1.client
    client.workspace.create(name="common")
    client.user.create(name="guest")
    start(web1, "common")
    files = look(web1, "common")
    assert client.workspace.share(name="common", user="guest").shared_with == ["guest"]
    assert runs(web1, "cs-common"), "sharing ends nothing"
    web1.person.runs("inv workspace.share common guest")
    assert web1.person.runs("inv workspace.unshare common guest --json").json["shared_with"] == []
    assert not runs(web1, "cs-common")
    assert look(web1, "common") == files
    web1.refuses(client.workspace.unshare, "not_found", name="common", user="guest")
    client.user.disable(name="guest")
    web1.refuses(client.workspace.share, "disabled", name="common", user="guest")
    client.user.enable(name="guest")
    # With a deleted user nothing is shared, and what he may have left running there is ended.
    client.workspace.share(name="common", user="guest")
    start(web1, "common")
    client.user.delete(name="guest")
    assert not runs(web1, "cs-common")
    assert client.workspace.get(name="common").shared_with == []
    assert {check.name: check.status for check in client.node.health().checks}["records"] == "ok"
    client.workspace.delete(name="common")


def test_with_a_pair_that_is_deleted_ends_what_it_may_have_started_elsewhere(web1: Web1) -> None:
    client = web1.client
    client.workspace.create(name="common")
    client.workspace.create(name="guest")
    client.workspace.share(name="common", user="guest")
    start(web1, "common")
    assert client.workspace.delete(name="guest").user_deleted
    assert not runs(web1, "cs-common")
    assert client.workspace.get(name="common").shared_with == []
    client.workspace.delete(name="common")


def test_a_name_is_a_user_or_a_workspace_for_the_helper_too(web1: Web1) -> None:
    client = web1.client
    client.user.create(name="maker")
    client.workspace.create(name="thing", user="maker")
    for verb, arguments in (
        ("user.ensure", {"name": "thing"}),
        ("workspace.ensure", {"name": "maker", "user": "thing", "dedicated": False}),
    ):
        answer = json.loads(web1.helper({"verb": verb, "arguments": arguments}).out)
        assert answer["error"]["data"]["kind"] in ("already_exists", "not_found"), answer
    client.user.create(name="other")
    arguments = {"name": "maker", "user": "other", "dedicated": False}
    answer = json.loads(web1.helper({"verb": "workspace.ensure", "arguments": arguments}).out)
    assert answer["error"]["data"]["kind"] == "already_exists", answer
    web1.refuses(client.user.create, "already_exists", name="thing")
    web1.refuses(client.workspace.create, "already_exists", name="maker", user="other")
    client.workspace.delete(name="thing")
    for name in ("maker", "other"):
        client.user.delete(name=name)


def test_a_login_stays_while_its_user_or_workspace_does(web1: Web1) -> None:
    client = web1.client
    uid = client.user.create(name="pair").uid
    assert client.workspace.create(name="pair").uid == uid
    assert client.workspace.delete(name="pair").user_deleted is False, "it was there before"
    assert web1.on("id -u cs-pair; ls -d /srv/codesmith/*/*pair", check=False).out == f"{uid}\n"
    assert client.workspace.create(name="pair").uid == uid
    client.user.create(name="next")
    client.workspace.assign(name="pair", user="next")
    assert client.user.delete(name="pair").deleted
    assert client.workspace.exec(name="pair", argv=["id", "-u"]).stdout == f"{uid}\n"
    web1.refuses(client.user.create, "already_exists", name="pair")
    client.workspace.delete(name="pair")
    assert not web1.on("id cs-pair", check=False).ok
    assert client.user.create(name="pair").uid != uid
    for name in ("pair", "next"):
        client.user.delete(name=name)


def test_assign_is_refused_before_anything_is_touched(web1: Web1) -> None:
    client = web1.client
    client.workspace.create(name="still")
    start(web1, "still")
    web1.refuses(client.workspace.assign, "not_found", name="still", user="nobody")
    for verb in ({"name": "still", "user": "root"}, {"name": "etc", "user": "still"}):
        for kind in ("workspace.assign", "workspace.share"):
            answer = json.loads(web1.helper({"verb": kind, "arguments": verb}).out)
            assert answer["error"]["data"]["kind"] == "not_found", answer
    answer = json.loads(web1.helper({"verb": "workspace.assign", "arguments": {"name": "..", "user": "still"}}).out)
    assert answer["error"]["code"] == -32602
    assert runs(web1, "cs-still")
    client.workspace.delete(name="still")
