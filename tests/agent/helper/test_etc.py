"""/etc of the runtimes: links to the node's, kept up to date, with passwd and group that are never replaced."""

from __future__ import annotations

import os
from pathlib import Path

from agent.helper.runtime import etc


def shown(place: Path) -> dict[str, str]:
    return {path.name: os.readlink(path) if path.is_symlink() else "file" for path in place.iterdir()}


def test_it_follows_the_nodes_and_keeps_its_own_two(tmp_path: Path) -> None:
    place, nodes = tmp_path / "ours", tmp_path / "nodes"
    (nodes / "ssl").mkdir(parents=True)
    for name in ("passwd", "group", "hosts", "gone"):
        (nodes / name).write_text(name)
    (nodes / "localtime").symlink_to("/usr/share/zoneinfo/UTC")
    (nodes / "resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    etc.refresh(str(place), str(nodes))
    wanted = {
        "passwd": "file", "group": "file", "hosts": "/boot/hosts", "ssl": "/boot/ssl", "gone": "/boot/gone",
        "localtime": "/usr/share/zoneinfo/UTC", "resolv.conf": "../run/systemd/resolve/stub-resolv.conf",
    }  # fmt: skip
    assert shown(place) == wanted
    before = (place / "passwd").stat().st_ino
    assert (place / "passwd").read_text() == ""
    (nodes / "gone").unlink()
    (nodes / "new").write_text("")
    (nodes / "localtime").unlink()
    (nodes / "localtime").symlink_to("/usr/share/zoneinfo/CET")
    for _ in range(2):
        etc.refresh(str(place), str(nodes))
        del wanted["gone"]
        wanted |= {"new": "/boot/new", "localtime": "/usr/share/zoneinfo/CET"}
        assert shown(place) == wanted
        wanted["gone"] = ""
    assert (place / "passwd").stat().st_ino == before
    assert place.stat().st_mode & 0o777 == 0o755
