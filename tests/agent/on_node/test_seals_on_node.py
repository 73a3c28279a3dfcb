"""Workspaces of a disabled user are closed, also to processes with their uids."""

from __future__ import annotations

import pytest

from tests.agent.on_node.test_users_on_node import as_user
from tests.agent.on_node.web1 import Web1
from tests.releases import TRIXIE_FIRST

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]
# A set-uid copy of a program that a user left with another login.
LEAVE = "cp /bin/cat /var/tmp/left; chmod 4755 /var/tmp/left; echo secret > $HOME/file; echo secret > $TREE/data/file"


def test_with_the_uid_of_a_disabled_workspace_nobody_gets_into_its_places(web1: Web1) -> None:
    client = web1.client
    client.user.create(name="leaves")
    client.workspace.create(name="helps")
    made = client.workspace.create(name="theirs", user="leaves")
    path, home = made.path, made.home
    as_user(web1, "cs-theirs", f"TREE={path}; umask 0; {LEAVE}")
    files = f"/var/tmp/left {path}/data/file; /var/tmp/left {home}/file"
    assert as_user(web1, "cs-helps", files) == "secret\nsecret\n"
    client.user.disable(name="leaves")
    assert web1.on(f"stat -c '%U %a' {path} {home}").out == "root 0\nroot 0\n"
    assert as_user(web1, "cs-helps", files, check=False) == ""
    # It is still a workspace of CodeSmith, and shown.
    assert (client.workspace.get(name="theirs").mode, client.workspace.list(user="leaves")[0].name) == (
        "0000",
        "theirs",
    )
    client.user.enable(name="leaves")
    assert as_user(web1, "cs-helps", files) == "secret\nsecret\n"
    for name in ("theirs", "helps"):
        client.workspace.delete(name=name)
    client.user.delete(name="leaves")
    web1.on("rm -f /var/tmp/left")


@pytest.mark.long
def test_workspaces_of_a_disabled_user_are_assigned_deleted_and_cleared(web1: Web1) -> None:
    client = web1.client
    for name in ("shut", "open"):
        client.user.create(name=name)
    for name in ("given", "cleared", "gone", "replaced"):
        path = client.workspace.create(name=name, user="shut").path
        client.repo.init(workspace=name, name="app")
    # A directory of another owner: it is not touched, and blocks nothing.
    web1.on(f"mv {path} /root/kept; mkdir {path}")
    client.user.disable(name="shut")
    assert web1.on(f"stat -c '%U %a' {path}").out == "root 755\n"
    assert client.repo.delete(workspace="cleared", name="app").deleted
    assert client.workspace.delete(name="gone").deleted
    assert client.workspace.assign(name="given", user="open").user == "open"
    web1.refuses(client.workspace.assign, "disabled", name="given", user="shut")
    assert client.workspace.exec(name="given", argv=["ls", "code"]).stdout == "app\n"
    client.user.enable(name="shut")
    assert client.workspace.exec(name="cleared", argv=["ls", "code"]).stdout == ""
    assert web1.on(f"stat -c '%U %a' {path}; rmdir {path}; mv /root/kept {path}").out == "root 755\n"
    for name in ("given", "cleared", "replaced"):
        client.workspace.delete(name=name)
    for name in ("shut", "open"):
        client.user.delete(name=name)


def test_disable_ends_what_runs_in_shared_workspaces_and_leaves_them_open(web1: Web1) -> None:
    client = web1.client
    path = client.workspace.create(name="common").path
    client.user.create(name="guest")
    client.workspace.share(name="common", user="guest")
    web1.on("systemd-run --quiet --uid=cs-common sleep 1000")
    client.user.disable(name="guest")
    assert not web1.on("pgrep -u cs-common", check=False).out
    assert web1.on(f"stat -c '%U %a' {path}").out == "cs-common 700\n"
    assert client.workspace.exec(name="common", argv=["true"]).exit_code == 0
    client.user.delete(name="guest")
    client.workspace.delete(name="common")
