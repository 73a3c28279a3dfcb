"""A base that root has put on another disk by a link: works as any other, and is refused where it is not safe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.kinds import some_of
from tests.person import Person
from tests.releases import BOOKWORM_BEFORE_TRIXIE

pytestmark = BOOKWORM_BEFORE_TRIXIE
# A file system of its own, as another disk is.
DISK = "mkdir -p /data; mount -t tmpfs -o size=300m,mode=755 data /data; "
LINKS = {
    "/srv": f"{DISK} mkdir /data/srv; rmdir /srv; ln -s /data/srv /srv",
    "the base": f"{DISK} mkdir -m 755 /data/work; ln -s ../data/work /srv/codesmith",
    "a link to a link": f"{DISK} mkdir /data/srv; ln -s srv /data/now; rmdir /srv; ln -s data/now /srv",
}


@pytest.fixture(scope="module")
def ops(make_person: Callable[..., Person], release: str) -> Person:
    return make_person({"web1": release})


@pytest.fixture
def bare(ops: Person) -> Any:
    """A node without agent, and /srv as it was before."""
    yield ops
    ops.runs("inv node.uninstall --purge --yes", check=False)
    ops.runs("inv node.disconnect --all")
    links = "rm -f /srv/codesmith; [ ! -L /srv ] || { rm /srv; mkdir /srv; }"
    ops.on("web1", f"{links}; umount /data; rm -rf /srv/codesmith /data /home/data", check=False)
    ops.on("web1", "chown root:root /srv; chmod 755 /srv")


@pytest.mark.long
@pytest.mark.parametrize("link", some_of(LINKS, "a link to a link"))
def test_all_of_a_workspaces_life(bare: Person, link: str) -> None:
    bare.on("web1", link)
    bare.runs("inv node.prepare")
    assert "nothing to do" in bare.runs("inv node.prepare").err
    bare.runs("inv node.verify")
    made = bare.runs("inv workspace.create demo --json").json
    assert made["path"] == "/srv/codesmith/workspaces/demo"
    bare.runs("inv workspace.create other")
    look = "pwd; ls /srv/codesmith/workspaces /data/*/workspaces /data/*/*/workspaces; touch data/x ~/y"
    said = bare.runs(f"inv workspace.exec demo -- sh -c '{look}'").out
    assert said.splitlines()[0] == "/srv/codesmith/workspaces/demo"
    assert "other" not in said
    bare.runs("inv repo.init demo --name site")
    assert bare.runs("inv sandbox.create demo --memory 100M --network none --json").json["enforced"]["files"]
    bare.runs("inv user.create ada; inv workspace.assign demo ada")
    assert bare.runs("inv workspace.exec demo -- ls data").out == "x\n"
    assert bare.on("web1", "readlink -f /srv/codesmith").out.startswith("/data/")
    bare.on(
        "web1",
        "mkdir -p /srv/codesmith/workspaces/other/data/m; mount -t tmpfs m /srv/codesmith/workspaces/other/data/m",
    )
    assert "umount /srv/codesmith/workspaces/other/data/m" in bare.fails("inv workspace.delete other --yes", code=6).err
    bare.on("web1", "umount /srv/codesmith/workspaces/other/data/m")
    assert bare.runs("inv node.health --json").json[0]["status"] == "ok"
    rows = bare.runs("inv node.doctor --json").json
    assert [row for row in rows if row["status"] != "ok"] == []
    for name in ("demo", "other"):
        assert bare.runs(f"inv workspace.delete {name} --yes --json").json["leftovers"] == []
    bare.runs("inv user.delete ada --yes && inv user.delete demo --yes")
    assert bare.on(
        "web1", "ls -A /srv/codesmith/workspaces /srv/codesmith/home/ /srv/codesmith/.trash"
    ).out.split() == ["/srv/codesmith/.trash:", "/srv/codesmith/home/:", "/srv/codesmith/workspaces:"]
    bare.runs("inv node.uninstall --yes")
    assert bare.on("web1", "find /data -mindepth 2; [ -L /srv ] || [ -L /srv/codesmith ]").out == ""


UNSAFE = {
    "leads nowhere": ("ln -s /data/gone /srv/codesmith", "/srv/codesmith leads to /data, which is not there"),
    "leads to a home": ("mkdir /home/data; ln -s /home/data /srv/codesmith", "/home is closed to jobs"),
    "leads to what is gone at boot": ("mkdir -p /run/x; ln -s /run/x /srv/codesmith", "/run is closed to jobs"),
    "of somebody": ("mkdir /data; ln -s /data /srv/codesmith; chown -h games /srv/codesmith", "must belong to root"),
    "to a directory of somebody": (
        "mkdir /data; chown games /data; ln -s /data /srv/codesmith",
        "/data must belong to root",
    ),
    "to one that others can write": (
        "mkdir -m 777 /data; ln -s /data /srv/codesmith",
        "/data can be written by others",
    ),
    "in a directory of somebody": ("chown games /srv", "/srv must belong to root"),
    "in a circle": ("ln -s codesmith /srv/codesmith", "too many links"),
}


@pytest.mark.parametrize(("link", "words"), some_of(UNSAFE, "leads to a home"))
def test_what_is_not_roots_alone_is_refused_before_anything_is_done(bare: Person, link: str, words: str) -> None:
    bare.on("web1", link)
    said = bare.fails("inv node.prepare", code=1).err
    assert words in said
    assert "hint: on the node, as root: " in said
    assert bare.on("web1", "ls -d /etc/codesmith 2>/dev/null || true").out == ""
    found = {row["code"]: row for row in bare.runs("inv node.doctor --json", code=1).json if row["status"] != "ok"}
    assert words in found["node.needs"]["detail"]
