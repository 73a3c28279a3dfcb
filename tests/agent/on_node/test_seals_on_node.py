"""Home and workspaces of a disabled user are closed, also to processes with its uid."""

from __future__ import annotations

import threading

import pytest

from codesmith.nodes.registry import Registry
from codesmith.sdk.client import Client
from tests.agent.on_node.test_users_on_node import as_user
from tests.agent.on_node.web1 import BOTH_RELEASES, Web1

pytestmark = [pytest.mark.lab, BOTH_RELEASES]
# A set-uid copy of a program that a user left with another login.
LEAVE = "cp /bin/cat /var/tmp/left; chmod 4755 /var/tmp/left; echo secret > $HOME/file; echo secret > $TREE/data/file"


def test_with_the_uid_of_a_disabled_user_nobody_gets_into_its_places(web1: Web1) -> None:
    client = web1.client
    for name in ("leaves", "helps"):
        client.user.create(name=name)
    path = client.workspace.create(name="theirs", user="leaves").path
    home = "/srv/codesmith/home/cs-leaves"
    as_user(web1, "cs-leaves", f"TREE={path}; umask 0; {LEAVE}")
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
    client.workspace.delete(name="theirs")
    for name in ("leaves", "helps"):
        client.user.delete(name=name)
    web1.on("rm -f /var/tmp/left")


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


def test_who_is_disabled_while_a_workspace_comes_to_it_does_not_get_in(web1: Web1) -> None:
    client = web1.client
    client.user.create(name="heir")
    path = client.workspace.create(name="coming").path
    many = f"import os\nfor n in range(3000): os.mknod(f'{path}/data/{{n}}')"
    web1.on(f'python3 -c "{many}"; chown -R cs-coming: {path}/data')
    assignment = threading.Thread(target=_assign, args=(web1, "coming", "heir"))
    assignment.start()
    helper = "$(systemctl show --value --property=MainPID codesmith-helper.service)"
    web1.on(f"until [ -e /srv/codesmith/.staging/@coming ]; do sleep 0.01; done; pkill --signal STOP --parent {helper}")
    try:
        client.user.disable(name="heir")
    finally:
        web1.on(f"pkill --signal CONT --parent {helper}")
    assignment.join(60)
    assert not assignment.is_alive()
    assert web1.on(f"stat -c '%U %a' {path}").out == "root 0\n"
    assert client.workspace.get(name="coming").user == "heir"
    client.user.enable(name="heir")
    assert client.workspace.exec(name="coming", argv=["stat", "-c", "%U %a", "."]).stdout == "cs-heir 700\n"
    client.workspace.delete(name="coming")
    for name in ("coming", "heir"):
        client.user.delete(name=name)


def test_an_assignment_to_who_is_disabled_before_it_is_completed_ends_sealed(web1: Web1) -> None:
    client = web1.client
    client.user.create(name="heir")
    path = client.workspace.create(name="late").path
    web1.on(f"touch {path}/data/file; chattr +i {path}/data/file")
    web1.refuses(client.workspace.assign, "command_failed", name="late", user="heir")
    client.user.disable(name="heir")
    web1.on("chattr -R -i /srv/codesmith/.staging; systemctl restart codesmith-agent")
    web1.person.wait_until(lambda: client.workspace.get(name="late").state == "ready", within_s=30)
    assert (client.workspace.get(name="late").user, web1.on(f"stat -c '%U %a' {path}").out) == ("heir", "root 0\n")
    client.user.enable(name="heir")
    assert client.workspace.exec(name="late", argv=["stat", "-c", "%U %a", "."]).stdout == "cs-heir 700\n"
    client.workspace.delete(name="late")
    for name in ("late", "heir"):
        client.user.delete(name=name)
    client.close()


def _assign(web1: Web1, name: str, user: str) -> None:
    with Client(Registry.load(web1.person.registry).get("web1")) as client:
        client.workspace.assign(name=name, user=user)
