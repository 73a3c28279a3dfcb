"""Directories of users, despite hostile users. Needs root, but no node."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from agent.helper.trees import trash, trees
from agent.shared.errors import NotManaged
from tests.deep_tree import make_deep

UID = 98765
ATTACKER = """
import os, sys
os.setgroups([]); os.setresgid({uid}, {uid}, {uid}); os.setresuid({uid}, {uid}, {uid})
os.chdir(sys.argv[1])
inside = os.open(".", os.O_RDONLY)
print("ready", flush=True)
while True:
    try:
        os.mkdir("a", dir_fd=inside); os.rename("a", "b", src_dir_fd=inside, dst_dir_fd=inside)
        os.symlink("/etc", "a", dir_fd=inside); os.unlink("a", dir_fd=inside)
        os.rmdir("b", dir_fd=inside)
    except PermissionError:
        sys.exit(0)
    except OSError:
        try:
            os.symlink(sys.argv[2], "a", dir_fd=inside)
        except OSError:
            pass
"""


ENTRIES = [trees.Entry("code", 0o700), trees.Entry("code/a", 0o600, b"text"), trees.Entry("locked", 0o500)]


def test_a_tree_appears_whole_and_owned(base: Path) -> None:
    trees.make(str(base / "homes"), "ada", UID, 0o700, ENTRIES)
    home = base / "homes" / "ada"
    found = {
        str(path.relative_to(home)): (path.stat().st_uid, path.stat().st_mode & 0o7777) for path in home.rglob("*")
    }
    assert found == {"code": (UID, 0o700), "code/a": (UID, 0o600), "locked": (UID, 0o500)}
    assert (home / "code" / "a").read_bytes() == b"text"
    assert trees.is_owned_directory(str(base / "homes"), "ada", UID)
    assert list((base / "staging").iterdir()) == []


def test_what_stands_in_the_way_is_left_alone(base: Path) -> None:
    (base / "homes" / "ada").mkdir()
    (base / "homes" / "ada" / "mine").touch()
    with pytest.raises(NotManaged):
        trees.make(str(base / "homes"), "ada", UID, 0o700, ENTRIES)
    assert (base / "homes" / "ada" / "mine").exists()
    trees.clean_staging()
    assert list((base / "staging").iterdir()) == []


def test_a_link_is_removed_and_not_followed(base: Path) -> None:
    target = base / "precious"
    target.mkdir()
    (target / "file").touch()
    os.symlink(target, base / "homes" / "ada")
    assert trees.remove(str(base / "homes"), "ada")
    assert (target / "file").exists()
    assert not trees.remove(str(base / "homes"), "ada")


def test_everything_a_user_can_make_is_removed(base: Path) -> None:
    trees.make(str(base / "homes"), "ada", UID, 0o700, ENTRIES)
    home = base / "homes" / "ada"
    os.mkfifo(home / "pipe")
    os.symlink("/nowhere", home / "dangling")
    os.link(home / "code" / "a", home / "hard")
    (home / ("n" * 255)).mkdir()
    (home / "new\nline").mkdir(mode=0)
    assert trees.remove(str(base / "homes"), "ada")
    assert trash.empty(None) == []
    assert list((base / "trash").iterdir()) == []


@pytest.mark.slow
def test_depth_is_no_defence(base: Path) -> None:
    trees.make(str(base / "homes"), "ada", UID, 0o700, [])
    make_deep(base / "homes" / "ada", "d", 5000)
    assert trees.remove(str(base / "homes"), "ada")
    assert trash.empty(None) == []
    assert list((base / "trash").iterdir()) == []


@pytest.mark.slow
def test_many_directories_cost_no_memory(base: Path) -> None:
    trees.make(str(base / "homes"), "ada", UID, 0o700, [])
    for number in range(5_000):
        (base / "homes" / "ada" / str(number)).mkdir()
    tracemalloc.start()
    assert trees.remove(str(base / "homes"), "ada")
    assert trash.empty(None) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250_000, peak
    assert list((base / "trash").iterdir()) == []


def test_a_user_who_swaps_links_meanwhile_gains_nothing(base: Path) -> None:
    precious = base / "precious"
    precious.mkdir()
    for name in "abc":
        (precious / name).touch()
    for _ in range(15):
        trees.make(str(base / "homes"), "ada", UID, 0o700, ENTRIES)
        attack = [sys.executable, "-c", ATTACKER.format(uid=UID), base / "homes" / "ada", precious]
        with subprocess.Popen(attack, stdout=subprocess.PIPE) as attacker:
            assert attacker.stdout
            assert attacker.stdout.readline() == b"ready\n"
            try:
                assert trees.remove(str(base / "homes"), "ada")
                assert trash.empty(None) == []
            finally:
                attacker.kill()
    assert sorted(os.listdir(precious)) == ["a", "b", "c"]
    assert precious.stat().st_uid == 0
    assert list((base / "trash").iterdir()) == []


def test_a_base_that_others_may_write_is_refused(base: Path) -> None:
    (base / "homes").chmod(0o777)
    with pytest.raises(NotManaged, match="closed to other writers"):
        trees.make(str(base / "homes"), "ada", UID, 0o700, [])
    os.rename(base / "homes", base / "real")
    os.symlink(base / "real", base / "homes")
    with pytest.raises(NotManaged):
        trees.remove(str(base / "homes"), "ada")


def test_leftovers_of_an_interrupted_run_are_swept(base: Path) -> None:
    (base / "staging" / "ada.1234" / "code").mkdir(parents=True)
    (base / "trash" / "feed" / "deep" / "er").mkdir(parents=True)
    (base / "trash" / "file").touch()
    trees.clean_staging()
    assert list((base / "staging").iterdir()) == []
    assert trash.empty(None) == []
    assert list((base / "trash").iterdir()) == []
