"""/etc of the runtimes: links to the node's, kept up to date, with passwd and group that are never replaced."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from agent.helper.runtime import etc


def shown(place: Path) -> dict[str, str]:
    kinds = {True: "file", False: "directory"}
    return {path.name: os.readlink(path) if path.is_symlink() else kinds[path.is_file()] for path in place.iterdir()}


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
        "profile.d": "directory", "localtime": "/usr/share/zoneinfo/UTC",
        "resolv.conf": "../run/systemd/resolve/stub-resolv.conf",
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


def test_login_shells_read_the_nodes_profiles_and_one_of_ours(tmp_path: Path) -> None:
    place, nodes = tmp_path / "ours", tmp_path / "nodes"
    (nodes / "profile.d").mkdir(parents=True)
    (nodes / "profile.d/lang.sh").write_text("")
    place.mkdir()
    (place / "profile.d").symlink_to("/boot/profile.d")  # of an earlier release
    for _ in range(2):
        etc.refresh(str(place), str(nodes))
        assert shown(place / "profile.d") == {"lang.sh": "/boot/profile.d/lang.sh", "codesmith.sh": "file"}
    command = ["sh", "-c", f". {place}/profile.d/codesmith.sh; echo $PATH"]
    said = subprocess.run(
        command, env={"PATH": "/bin", "HOME": "/h"}, capture_output=True, text=True, check=True
    ).stdout
    assert said == "/bin:/h/.local/state/codesmith/bin\n"
    assert (place / "profile.d/codesmith.sh").stat().st_mode & 0o777 == 0o644
