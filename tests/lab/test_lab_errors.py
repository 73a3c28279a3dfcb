"""Errors of the lab are one sentence and the next step."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from codesmith.errors import CodeSmithError, UnknownName
from codesmith.lab import Lab, LabNodeDown, address, images, programs
from codesmith.lab.lab import check_name

TOP = Path(__file__).resolve().parents[2]
USE = "from codesmith.lab import Lab; Lab()"
USE_AS_NOBODY = "import os, codesmith.lab.lab, codesmith.lab.setup; os.setgid(65534); os.setuid(65534); "
FAKE_MMDEBSTRAP = """#!/bin/sh
for target; do :; done
echo built >> "$(dirname "$0")/count"
mkdir -p "$target/etc/ssh" "$target/etc/systemd/system"
{end}
"""


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    command, told = [sys.executable, "-c", code], {**os.environ, **environment}
    return subprocess.run(command, cwd=TOP, env=told, capture_output=True, text=True, timeout=60)


@pytest.mark.lab
def test_missing_programs_are_named_with_their_packages():
    said = python(USE, PATH="/nowhere").stderr
    assert "error: the lab needs programs that are not installed: mmdebstrap, systemd-nspawn, ssh" in said
    hint = next(line for line in said.splitlines() if line.startswith("hint: "))
    assert hint.startswith("hint: sudo apt-get update && sudo apt-get install ")
    assert {"mmdebstrap", "openssh-client", "systemd-container"} <= set(hint.split())


@pytest.mark.lab
def test_who_is_not_root_is_told_how_to_become_it():
    said = python(USE_AS_NOBODY + USE).stderr
    assert "error: the lab needs root" in said
    assert "hint: sudo -E inv lab.up" in said


@pytest.mark.lab
def test_who_may_not_look_into_the_lab_is_told_so(node):
    said = python(USE_AS_NOBODY + f"codesmith.lab.address({node.name!r})").stderr
    assert "belongs to root" in said
    assert f"hint: sudo -E inv lab.up --node {node.name}" in said


@pytest.mark.lab
def test_setup_is_quick_and_silent_when_all_is_there():
    done = subprocess.run(
        [sys.executable, "-m", "codesmith.lab.setup"], cwd=TOP, capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_setup_names_the_package_of_each_program_that_is_missing():
    done = python(
        USE_AS_NOBODY + "raise SystemExit(codesmith.lab.setup.main(['sh', 'sh=dash', 'none-1', 'none-2=two']))"
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("apt-get install --yes none-1 two")


def test_setup_says_what_only_root_can_install():
    done = python(USE_AS_NOBODY + "codesmith.lab.setup.install(['mmdebstrap'])")
    assert "hint: sudo apt-get update && sudo apt-get install --yes mmdebstrap" in done.stderr


def test_an_unknown_node_names_the_task_that_boots_it():
    with pytest.raises(LabNodeDown) as caught:
        address("never-booted")
    assert caught.value.code == 5
    assert caught.value.hint == "inv lab.up --node never-booted"


@pytest.mark.lab
def test_an_unknown_release_names_those_there_are(lab, new_name):
    with pytest.raises(UnknownName, match="no release 'potato'; it has bookworm, trixie, bullseye"):
        lab.up(new_name(), "potato")


@pytest.mark.lab
def test_a_node_does_not_change_its_release(lab, node):
    with pytest.raises(CodeSmithError, match="is a bookworm, not a trixie") as caught:
        lab.up(node.name, "trixie")
    assert caught.value.hint == f"inv lab.down --node {node.name}"


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a b", "a/b", "..", "a\n", "a" * 64])
def test_bad_names_are_refused(name):
    with pytest.raises(CodeSmithError, match="cannot be the name of a lab node"):
        check_name(name)


@pytest.fixture
def mmdebstrap(tmp_path, monkeypatch):
    """Put a fast mmdebstrap first in PATH and the cache elsewhere; `ends` is the last line of its script."""
    monkeypatch.setattr(programs, "PATH", f"{tmp_path}:{programs.PATH}")
    monkeypatch.setattr(images, "CACHE", tmp_path / "cache")

    def write(ends: str) -> Path:
        (tmp_path / "mmdebstrap").write_text(FAKE_MMDEBSTRAP.format(end=ends))
        (tmp_path / "mmdebstrap").chmod(0o755)
        return tmp_path

    return write


@pytest.mark.slow
def test_an_image_is_built_once_for_all_who_wait(mmdebstrap):
    folder = mmdebstrap("sleep 0.3")
    with ThreadPoolExecutor(3) as pool:
        built = set(pool.map(images.ensure, ["bookworm"] * 3))
    assert built == {images.path_of("bookworm")}
    assert (folder / "count").read_text() == "built\n"
    assert (images.path_of("bookworm") / "etc/systemd/system/apt-daily.timer").is_symlink()


def test_a_failed_build_leaves_no_image_and_says_why(mmdebstrap):
    mmdebstrap("echo 'E: no such mirror' >&2; exit 25")
    with pytest.raises(CodeSmithError, match="image of Debian bookworm could not be built: E: no such mirror"):
        images.ensure("bookworm")
    assert [path.name for path in images.path_of("bookworm").parent.iterdir()] == ["bookworm.lock"]
    mmdebstrap("true")
    assert images.ensure("bookworm").is_dir()


def test_the_address_is_light():
    heavy = ["fabric", "paramiko", "rich", "testinfra", "codesmith.lab.node", "codesmith.lab.programs"]
    code = f"import sys, codesmith.lab.address; print([name for name in {heavy} if name in sys.modules])"
    assert python(code).stdout.strip() == "[]"


def test_a_nodes_supervisor_is_light():
    heavy = ["invoke", "yaml", "asyncio", "codesmith.lab.teardown"]
    code = f"import sys, codesmith.lab.supervisor; print([name for name in {heavy} if name in sys.modules])"
    assert python(code).stdout.strip() == "[]"


def test_an_overlay_that_cannot_be_mounted_names_the_way_out(lab, node, monkeypatch):
    # An overlay cannot be the upper layer of another one.
    inside = node.root / "var/lib/nested"
    monkeypatch.setenv("CODESMITH_LAB_HOME", str(inside))
    with pytest.raises(CodeSmithError, match="an overlay cannot be mounted") as caught:
        with Lab() as nested:
            nested.up("nested")
    assert caught.value.hint.startswith("export CODESMITH_LAB_HOME=")


def test_too_many_nodes_are_refused_before_they_fail():
    # Without free descriptors the kernel refuses as it does when no inotify instances are left.
    lean = "import resource as r; from codesmith.lab import requirements; r.setrlimit(r.RLIMIT_NOFILE, (8, 8)); "
    said = python(lean + "requirements.ensure_inotify()").stderr
    assert "error: too many nodes at once" in said
    assert "hint: sudo sysctl --write fs.inotify.max_user_instances=" in said
