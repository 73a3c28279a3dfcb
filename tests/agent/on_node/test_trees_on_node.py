"""Trees of workspaces: those that others put in their place, those hard to remove, and what waits for it meanwhile."""

from __future__ import annotations

import threading

import pytest

from codesmith.nodes.registry import Registry
from codesmith.sdk.client import Client
from tests.agent.on_node.web1 import Web1
from tests.releases import BOOKWORM_BEFORE_TRIXIE

pytestmark = [pytest.mark.lab, BOOKWORM_BEFORE_TRIXIE]
TRASH = "/srv/codesmith/.trash"


def test_other_changes_go_on_while_a_tree_is_taken_apart(web1: Web1) -> None:
    path = web1.client.workspace.create(name="huge").path
    web1.on(f"mkdir {path}/data/a {path}/data/b")
    # Another process is emptying the trash, for a long time.
    web1.on(f"setsid flock {TRASH} sleep 600 </dev/null >/dev/null 2>&1 &")
    web1.on(f"until ! flock --nonblock {TRASH} true; do sleep 0.05; done")
    deletion = threading.Thread(target=_delete, args=(web1, "huge"))
    deletion.start()
    web1.on(f"while [ -e {path} ]; do sleep 0.05; done")
    assert web1.client.workspace.create(name="huge").state == "ready", "the name is free at once"
    assert web1.client.user.create(name="other").state == "active"
    assert web1.on(f"ls -A {TRASH}").out
    web1.on("pkill --full --exact 'sleep 600'")
    deletion.join(60)
    assert not deletion.is_alive()
    web1.client.workspace.delete(name="huge")
    web1.client.user.delete(name="other")
    assert web1.on(f"ls -A {TRASH}").out == ""


def _delete(web1: Web1, name: str) -> None:
    with Client(Registry.load(web1.person.registry).get("web1")) as client:
        client.workspace.delete(name=name)


# Delete a workspace that left more in shared directories than can be searched in time.
UNFINISHED = """\
import sys
sys.path.insert(0, "/usr/lib/codesmith/current/program")
from agent.helper.accounts import leftovers; from agent.helper import workspaces
leftovers.LIMIT_S = -1
print(workspaces.remove_workspace(None, "messy", True))
"""


def test_what_a_power_cut_left_unremoved_goes_with_the_next_verb(web1: Web1) -> None:
    web1.client.workspace.create(name="small")
    web1.client.workspace.create(name="messy")
    web1.on("systemctl stop codesmith-helper.service")
    web1.on(f"mkdir -p {TRASH}/feed/deep/er && touch {TRASH}/feed/file")
    web1.on("touch /var/tmp/left-over; chown cs-messy /var/tmp/left-over")
    said = web1.on(f"python3 -c '{UNFINISHED}'; ls -d /var/tmp/left-over").out
    assert "/var/tmp (search not finished)" in said
    web1.client.workspace.exec(name="small", argv=["true"])
    web1.on(
        f'while [ -n "$(ls -A {TRASH})" ]; do sleep 0.05; done; while [ -e /var/tmp/left-over ]; do sleep 0.05; done'
    )
    for name in ("small", "messy"):
        web1.client.workspace.delete(name=name)


def test_a_file_that_root_made_immutable_is_told_and_holds_nothing_up(web1: Web1) -> None:
    path = web1.client.workspace.create(name="fixed").path
    web1.on(f"mkdir {path}/data/d && touch {path}/data/d/file {path}/data/other && chattr +i {path}/data/d/file")
    done = web1.client.workspace.delete(name="fixed")
    assert done.deleted and done.user_deleted
    (left,) = done.leftovers
    assert left.startswith(f"{TRASH}/") and left.endswith(": Operation not permitted")
    assert web1.on(f"find {TRASH} -type f | wc -l").out.strip() == "1"
    web1.client.workspace.create(name="fixed")
    web1.on(f"chattr -R -i {TRASH}")
    assert web1.client.workspace.delete(name="fixed").leftovers == []
    assert web1.on(f"ls -A {TRASH}").out == ""


def test_what_root_has_mounted_is_not_removed(web1: Web1) -> None:
    client = web1.client
    path = client.workspace.create(name="joined").path
    client.repo.init(workspace="joined", name="app")
    # The same file system: the device number does not show it.
    web1.on("mkdir /srv/precious && touch /srv/precious/file")
    web1.on(f"mount --bind /srv/precious {path}/code/app")
    for call, more in (
        (client.workspace.delete, {"name": "joined"}),
        (client.repo.delete, {"workspace": "joined", "name": "app"}),
    ):
        refusal = web1.refuses(call, "in_use", **more)
        assert f"{path}/code/app" in refusal.problem and refusal.hint.endswith(f"umount {path}/code/app")
    assert client.workspace.get(name="joined").state == "ready"
    assert client.workspace.exec(name="joined", argv=["true"]).exit_code == 0
    home = client.workspace.get(name="joined").home
    web1.on(f"umount {path}/code/app; mount --bind /srv/precious {home}")
    assert home in web1.refuses(client.workspace.delete, "in_use", name="joined").problem
    web1.on(f"umount {home} && test -e /srv/precious/file && rm -r /srv/precious")
    client.workspace.delete(name="joined")


def test_a_mount_of_the_users_own_is_in_nobodys_way(web1: Web1) -> None:
    client = web1.client
    path = client.workspace.create(name="own").path
    inside = f"mount --bind /etc {path}/data && exec sleep 600"
    web1.on(
        f"setsid setpriv --reuid=cs-own --regid=cs-own --clear-groups unshare --map-root-user --mount sh -c '{inside}'"
        " </dev/null >/dev/null 2>&1 &"
    )
    web1.on("until pgrep --uid cs-own --exact sleep; do sleep 0.05; done")
    assert client.workspace.delete(name="own").deleted
    assert web1.on(f"ls -A {TRASH}; ls /etc/passwd").out.strip() == "/etc/passwd"


def test_the_mode_of_a_workspace_is_told_as_it_is(web1: Web1) -> None:
    assert web1.client.workspace.create(name="mode").mode == "0700"
    web1.client.workspace.exec(name="mode", argv=["chmod", "2751", "."])
    assert web1.client.workspace.get(name="mode").mode == "2751"
    assert {one.name: one.mode for one in web1.client.workspace.list()}["mode"] == "2751"
    path = "/srv/codesmith/workspaces/mode"
    problem = f"{path} is open to other logins: its mode is 0755 (on the node: chmod 0700 {path})"
    for mode, is_named in (("00711", False), ("00755", True), ("00700", False)):
        web1.client.workspace.exec(name="mode", argv=["chmod", mode, "."])
        assert (problem in str([one.detail for one in web1.client.node.health().checks])) == is_named
    assert web1.client.workspace.delete(name="mode").deleted


def test_no_job_runs_in_a_directory_that_was_put_in_the_place_of_ours(web1: Web1) -> None:
    client, path = web1.client, "/srv/codesmith/workspaces/swapped"
    client.workspace.create(name="swapped")
    web1.on(f"rm -rf {path}")
    web1.refuses(client.workspace.exec, "not_managed", name="swapped", argv=["true"])
    assert client.workspace.get(name="swapped") in client.workspace.list()
    web1.on(f"mkdir {path}; echo mine > {path}/mine")
    web1.refuses(client.workspace.exec, "not_managed", name="swapped", argv=["cat", "mine"])
    web1.refuses(client.sandbox.create, "not_managed", workspace="swapped")
    web1.refuses(client.repo.init, "not_managed", workspace="swapped")
    web1.refuses(client.workspace.open, "not_found", name="swapped")
    assert "swapped" not in [one.name for one in client.workspace.list()]
    assert web1.on(f"ls -A {path}; rm -rf {path}").out == "mine\n"
    assert client.workspace.delete(name="swapped").user_deleted


def test_a_directory_put_in_the_place_of_ours_is_left_alone(web1: Web1) -> None:
    workspaces, homes = "/srv/codesmith/workspaces", "/srv/codesmith/home"
    web1.client.workspace.create(name="swap")
    for place in (f"{workspaces}/swap", f"{homes}/cs-swap"):
        web1.on(f"mv {place} {place}.moved; mkdir -m 755 {place}; touch {place}/of-root")
        refusal = web1.refuses(web1.client.workspace.delete, "not_managed", name="swap")
        assert place in refusal.problem
        web1.on(f"rm {place}/of-root; rmdir {place}; mv {place}.moved {place}")
        assert web1.client.workspace.exec(name="swap", argv=["true"]).exit_code == 0
    assert web1.client.workspace.delete(name="swap").user_deleted
