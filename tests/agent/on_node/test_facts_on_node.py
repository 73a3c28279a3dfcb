"""What a workspace is told of itself on real nodes: as enforced, current, and nobody's inside to change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.agent.on_node.web1 import Web1
from tests.releases import BOOKWORM_FIRST

pytestmark = [pytest.mark.lab, BOOKWORM_FIRST]
PLACE = "/srv/codesmith/workspaces/{}/.codesmith"
# What the login tries, in the workspace's directory; each attempt ends, and its end does not matter.
ATTEMPTS = (
    "echo x > .codesmith/workspace.json", "echo x >> .codesmith/AGENTS.md", "echo x > .codesmith/new",
    "rm -rf .codesmith", "rmdir .codesmith", "mv .codesmith away", "mv data .codesmith", "chmod 777 .codesmith/*",
    "mv .codesmith/AGENTS.md AGENTS.md.old", "ln -sfn /tmp .codesmith", "ln -sf /tmp/x .codesmith/workspace.json",
    "umount .codesmith", "umount -l .codesmith", "mount -o remount,rw,bind .codesmith", "mv ../{name} ../gone",
    "unshare -Urm umount .codesmith", "unshare -Urm umount -l .codesmith", "unshare -Urm mv .codesmith away",
    "unshare -Urm sh -c 'mount -o remount,rw,bind .codesmith; echo x > .codesmith/workspace.json'",
    "unshare -Urm sh -c 'mkdir /tmp/m; mount --bind . /tmp/m; mv /tmp/m/.codesmith /tmp/m/away'",
    "unshare -Urm sh -c 'mkdir /tmp/w /tmp/n; mount -t overlay -o lowerdir=/etc,upperdir=.,workdir=/tmp/w o /tmp/n;"
    " mv /tmp/n/.codesmith /tmp/n/away'",
    "python3 -c 'import os; os.rename(\".codesmith\", \"away\")'",
)  # fmt: skip


def inside(web1: Web1, name: str, script: str) -> str:
    return str(web1.client.workspace.exec(name=name, argv=["sh", "-c", script], timeout_s=60.0).stdout)


def facts(web1: Web1, name: str) -> Any:
    return json.loads(inside(web1, name, "cat .codesmith/workspace.json"))


def agents_md(web1: Web1, name: str) -> str:
    return inside(web1, name, "cat .codesmith/AGENTS.md")


def test_they_are_what_sandbox_get_says_and_follow_it_without_a_restart(web1: Web1) -> None:
    client = web1.client
    made = client.workspace.create(name="told").to_dict()
    found = facts(web1, "told")
    assert {key: found[key] for key in ("name", "login", "uid", "path", "home")} == {
        key: made[key] for key in ("name", "login", "uid", "path", "home")
    }
    assert (found["limits"], found["network"], found["proxy"]) == ({}, "full", None)
    client.sandbox.create(workspace="told", limits={"tasks": 100, "runtime_s": 90.0}, network={"allow": ["a.org"]})

    def are_told() -> bool:
        got, found = client.sandbox.get(workspace="told").to_dict(), facts(web1, "told")
        return bool((found["limits"], found["network"]) == (got["limits"], got["network"]))

    assert are_told()
    job = client.job.start(workspace="told", argv=["sleep", "1000"])
    since = client.workspace.get(name="told").runtime.since
    client.sandbox.update(workspace="told", allow=["b.org"], limits={"memory_bytes": 256 << 20, "tasks": None})
    assert are_told()
    assert "- allowed: `b.org`" in agents_md(web1, "told") and "268,435,456 bytes" in agents_md(web1, "told")
    client.sandbox.update(workspace="told", drop=["b.org"], deny=["x.a.org"])
    assert are_told()
    assert "b.org" not in agents_md(web1, "told") and "- denied, whatever is allowed: `x.a.org`" in agents_md(
        web1, "told"
    )
    assert client.workspace.get(name="told").runtime.since == since
    client.job.stop(workspace="told", id=job.id)
    # Another mode, no sandbox, an idle end: each begins anew with what holds then.
    client.sandbox.update(workspace="told", network="none", restart=True)
    assert are_told()
    web1.on("systemctl stop codesmith-workspace@told.service")
    assert are_told()
    client.sandbox.delete(workspace="told")
    assert (facts(web1, "told")["network"], facts(web1, "told")["limits"]) == ("full", {})


def test_nobody_inside_changes_them(web1: Web1) -> None:
    client = web1.client
    client.workspace.create(name="fixed")
    client.workspace.create(name="beside")
    before = (facts(web1, "fixed"), agents_md(web1, "fixed"), facts(web1, "beside"))
    for attempt in ATTEMPTS:
        look = "echo; echo ---; ls -A .codesmith | xargs; cat .codesmith/workspace.json"
        tried = f"({attempt.replace('{name}', 'fixed')})"
        names, _, found = inside(web1, "fixed", f"{tried}; {look}").rpartition("---\n")[2].partition("\n")
        assert (names, json.loads(found)) == (".gitignore AGENTS.md workspace.json", before[0]), attempt
    assert (facts(web1, "fixed"), agents_md(web1, "fixed"), facts(web1, "beside")) == before
    for call, fields in (
        (client.file.write, {"path": ".codesmith/workspace.json", "data": "x"}),
        (client.file.write, {"path": ".codesmith/new", "data": "x"}),
        (client.file.remove, {"path": ".codesmith", "recursive": True}),
        (client.file.move, {"path": ".codesmith", "new_path": "away"}),
    ):
        web1.refuses(call, "command_failed", workspace="fixed", **fields)
    assert facts(web1, "fixed") == before[0]
    # A repository in the workspace's own directory.
    assert ".codesmith" not in inside(web1, "fixed", "git init -q . && git status --short")


def put_in_place(web1: Web1, name: str, put: str) -> None:
    """Have something else at the place of the facts, while nothing runs in the workspace."""
    become = f"setpriv --reuid=cs-{name} --regid=cs-{name} --clear-groups"
    web1.on(f"cd {PLACE.format(name)}/.. && rmdir .codesmith && {become} sh -c '{put}'")


def test_what_was_at_their_place_is_kept_and_not_followed(web1: Web1) -> None:
    web1.client.workspace.create(name="was")
    for number, put in enumerate(("ln -s /srv/evil/deep .codesmith", "ln -s /etc .codesmith", "echo mine > .codesmith",
                                  "mkdir .codesmith && echo mine > .codesmith/mine"), start=1):  # fmt: skip
        assert facts(web1, "was")["name"] == "was"
        web1.client.workspace.stop(name="was")
        put_in_place(web1, "was", put)
        assert facts(web1, "was")["name"] == "was", put
        assert inside(web1, "was", "ls -d .codesmith.* | wc -l") == f"{number}\n"
    assert inside(web1, "was", "cat .codesmith.*/mine; cat $(find .codesmith.* -type f)") == "mine\n" * 3
    assert inside(web1, "was", "rm -r .codesmith.* && ls -Ad .codesmith*") == ".codesmith\n"
    assert web1.on("ls -d /srv/evil; ls /etc/workspace.json", check=False).out == ""


@pytest.mark.parametrize(
    "put", ["ln -s /srv/evil/deep .codesmith", pytest.param("echo mine > .codesmith", marks=pytest.mark.long)]
)
def test_a_start_without_the_helper_follows_no_link_either(web1: Web1, put: str) -> None:
    name = f"idle-{len(put)}"
    web1.client.workspace.create(name=name)
    assert facts(web1, name)["name"] == name
    web1.on(f"systemctl stop codesmith-workspace@{name}.service")
    put_in_place(web1, name, put)
    # The service does not start, its socket fails; the next call has the helper make both anew.
    web1.refuses(web1.client.workspace.exec, "command_failed", name=name, argv=["true"])
    assert facts(web1, name)["name"] == name
    assert web1.on("ls -d /srv/evil", check=False).out == ""


@pytest.mark.long
def test_copies_and_the_end_of_a_workspace_do_not_mind(web1: Web1, tmp_path: Path) -> None:
    web1.client.workspace.create(name="brief")
    inside(web1, "brief", "echo one > data/one")
    web1.person.runs(f"inv workspace.copy brief:. {tmp_path}/out --node web1")
    assert (tmp_path / "out/data/one").read_text() == "one\n"
    assert json.loads((tmp_path / "out/.codesmith/workspace.json").read_text())["name"] == "brief"
    assert inside(web1, "brief", "cp -r . /tmp/all && ls /tmp/all/.codesmith").split() == [
        "AGENTS.md",
        "workspace.json",
    ]
    assert web1.client.workspace.delete(name="brief").leftovers == []
    assert web1.on("ls -d /srv/codesmith/workspaces/brief /run/codesmith/workspaces/brief*", check=False).out == ""
    web1.client.close()
