"""workspace.copy on real nodes: by rsync and by SFTP the same tree, the same errors, the same ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.on_node.terminal import Terminal
from tests.agent.on_node.web1 import Web1
from tests.kinds import some_names_of
from tests.person import TOP
from tests.releases import BOOKWORM_FIRST

pytestmark = [pytest.mark.lab, BOOKWORM_FIRST]
AWAY = "mv /usr/bin/rsync /usr/bin/rsync.away 2>/dev/null"
BACK = "mv /usr/bin/rsync.away /usr/bin/rsync 2>/dev/null; test -x /usr/bin/rsync"
DATA = os.urandom(2_500_000)
# What the one shows in `make test`, the other shows in `make test-long`.
LATER = pytest.mark.long
RSYNC_FIRST = pytest.mark.parametrize("by", ["rsync", pytest.param("sftp", marks=LATER)], indirect=True)
SFTP_FIRST = pytest.mark.parametrize("by", ["sftp", pytest.param("rsync", marks=LATER)], indirect=True)


@pytest.fixture(scope="module")
def demo(web1: Web1) -> Web1:
    web1.client.workspace.create(name="demo")
    web1.client.workspace.create(name="other")
    web1.on("command -v rsync || { apt-get update -qq; apt-get install -qqy rsync; }")
    return web1


@pytest.fixture(params=["rsync", "sftp"])
def by(request: pytest.FixtureRequest, demo: Web1) -> Iterator[str]:
    """What copies: the node has rsync, or has not."""
    if request.param == "sftp":
        demo.on(AWAY, check=False)
    yield request.param
    demo.on(BACK)


@pytest.fixture
def here() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cs copy ") as folder:
        yield Path(folder)


@pytest.fixture
def tree(here: Path) -> Path:
    """A directory with all that a copy must keep."""
    top = here / "tree"
    (top / "a b" / "deep").mkdir(parents=True)
    (top / "a b" / "file").write_text("hello\n")
    (top / "big").write_bytes(DATA)
    (top / "big").chmod(0o640)
    (top / "run").write_text("#!/bin/sh\n")
    (top / "run").chmod(0o4755)
    os.utime(top / "big", (1_577_836_800, 1_577_836_800))
    (top / "out").symlink_to("/etc/passwd")
    (top / "in").symlink_to("a b")
    Path(os.fsdecode(os.fsencode(top) + b"/n\xff 'q' \n*")).write_text("no UTF-8\n")
    return top


def copies(demo: Web1, *words: object, code: int = 0) -> dict[str, object]:
    """Copy, and return what it said of itself."""
    done = run(demo, *words, *([] if code else ["--json"]))
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if code == 0 else {"error": done.stderr}


def run(demo: Web1, *words: object) -> subprocess.CompletedProcess[str]:
    argv = [Path(sys.executable).parent / "inv", "workspace.copy", *map(str, words)]
    return subprocess.run(
        argv, cwd=TOP, env=demo.person.environment, capture_output=True, text=True, timeout=120, check=False
    )


def looks(top: Path) -> dict[bytes, tuple[int, int, bytes]]:
    """Return name, mode, time and content of all below a directory; links as they are."""
    found = {}
    for folder, dirs, files in os.walk(os.fsencode(top)):
        for name in [*dirs, *files]:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            kind = os.readlink(path) if os.path.islink(path) else b""
            data = kind or (b"" if name in dirs else Path(os.fsdecode(path)).read_bytes())
            time = 0 if kind else int(status.st_mtime)
            found[os.path.relpath(path, os.fsencode(top))] = (0 if kind else status.st_mode & 0o777, time, data)
    return found


def test_a_tree_goes_in_and_out_as_it_is(demo: Web1, by: str, tree: Path, here: Path) -> None:
    said = copies(demo, f"{tree}/", f"demo:data/{by}")
    assert (said["by"], said["files"]) == (by, 4)
    owners = demo.on(f"find /srv/codesmith/workspaces/demo/data/{by} -printf '%u\\n' | sort -u").out
    assert owners.strip() == "cs-demo"
    assert copies(demo, f"demo:data/{by}/", here / "back")["files"] == 4
    assert looks(here / "back") == looks(tree)
    assert not (here / "back" / "run").stat().st_mode & 0o7000


@SFTP_FIRST
def test_a_second_copy_carries_only_what_differs(demo: Web1, by: str, tree: Path) -> None:
    place = f"demo:data/again-{by}"
    copies(demo, f"{tree}/", place)
    assert copies(demo, f"{tree}/", place)["files"] == 0
    (tree / "a b" / "file").write_text("another\n")  # of another size: it may be the same second
    assert copies(demo, f"{tree}/", place)["files"] == 1
    (tree / "run").unlink()
    assert copies(demo, f"{tree}/", place)["deleted"] == 0
    assert copies(demo, f"{tree}/", place, "--delete")["deleted"] == 1
    assert "run" not in demo.on(f"ls -a /srv/codesmith/workspaces/demo/data/again-{by}").out.split()


@SFTP_FIRST
def test_a_slash_at_the_end_means_the_contents(demo: Web1, by: str, tree: Path, here: Path) -> None:
    folder = f"/srv/codesmith/workspaces/demo/data/slash-{by}"
    copies(demo, tree, f"demo:data/slash-{by}")
    assert demo.on(f"ls {folder}").out.split() == ["tree"]
    copies(demo, tree / "big", f"demo:data/slash-{by}/")
    copies(demo, tree / "big", f"demo:data/slash-{by}/named")
    assert set(demo.on(f"ls {folder}").out.split()) == {"tree", "big", "named"}
    copies(demo, f"demo:data/slash-{by}/named", here)
    assert (here / "named").read_bytes() == DATA


@RSYNC_FIRST
def test_a_directory_that_is_there_keeps_its_mode_and_times(demo: Web1, by: str, tree: Path, here: Path) -> None:
    """The workspace's own above all: 0755 would let every login of the node read it."""
    top = "/srv/codesmith/workspaces/demo"
    demo.client.workspace.exec(name="demo", argv=["sh", "-c", f"mkdir -p data/kept-{by} && chmod 710 data/kept-{by}"])
    tree.chmod(0o755)
    os.utime(tree, (1, 1))
    for place in ("demo:", f"demo:data/kept-{by}", f"demo:{top}/data/kept-{by}/"):
        said = copies(demo, f"{tree}/", place)
        assert said["by"] == by
    assert demo.on(f"stat -c %a {top} {top}/data/kept-{by}").out.split() == ["700", "710"]
    assert "1970" not in demo.on(f"stat -c %y {top} {top}/data/kept-{by}").out
    back = here / "back"
    back.mkdir(mode=0o700)
    demo.client.workspace.exec(name="demo", argv=["chmod", "777", f"data/kept-{by}"])
    copies(demo, f"demo:data/kept-{by}/", back, "--delete")
    assert back.stat().st_mode & 0o777 == 0o700 and looks(back) == looks(tree)
    (back / "more").write_text("")
    assert copies(demo, f"demo:data/kept-{by}/", back, "--delete")["deleted"] == 1
    demo.on(f"cd {top} && rm -rf 'a b' big run out in n*")


@RSYNC_FIRST
def test_delete_never_takes_what_a_workspace_always_has(demo: Web1, by: str, here: Path) -> None:
    (here / "src").mkdir()
    (here / ".codesmith").mkdir()
    demo.client.workspace.exec(name="demo", argv=["ln", "-sfn", ".", "self"])
    for place in ("demo:", "demo:.", "demo:data/..", "demo:self/", "demo:/srv/codesmith/workspaces/demo/"):
        assert "--delete would empty demo itself" in str(
            copies(demo, f"{here}/src/", place, "--delete", code=1)["error"]
        )
    for words in ((f"{here}/src/", "demo:.codesmith/"), (f"{here}/.codesmith", "demo:"), (f"{here}/src/", "demo:..")):
        assert "error: --delete would " in str(copies(demo, *words, "--delete", code=1)["error"])
    (here / "demo").mkdir(mode=0o755)
    for place in ("demo:..", "demo:/srv/codesmith/workspaces/"):
        assert "error: that would be demo itself" in str(copies(demo, here / "demo", place, code=1)["error"])
    copies(demo, here / "demo", f"demo:data/namesake-{by}/")
    said = str(copies(demo, f"{here}/src/", "demo:AGENTS.md", code=1)["error"])
    assert "error: demo:AGENTS.md is no directory" in said and "hint: " in said
    assert demo.on("ls -d /srv/codesmith/workspaces/demo/.codesmith /srv/codesmith/workspaces/demo/AGENTS.md").ok


@RSYNC_FIRST
def test_a_workspace_that_was_copied_out_is_put_back(demo: Web1, by: str, here: Path) -> None:
    """What is read-only inside is left out, at its place alone."""
    demo.client.workspace.exec(name="demo", argv=["mkdir", "-p", f"data/{by}/.codesmith"])
    copies(demo, "demo:", here / "saved")
    assert (here / "saved" / ".codesmith" / "workspace.json").is_file()
    (here / "saved" / "data" / by / ".codesmith" / "mine").write_text("")
    for place in ("demo:", "demo:data/.."):
        copies(demo, f"{here}/saved/", place)
    assert demo.on(f"ls /srv/codesmith/workspaces/demo/data/{by}/.codesmith").out == "mine\n"


def test_links_are_not_followed_out(demo: Web1, by: str, here: Path) -> None:
    """Neither those in what comes nor those where it goes: a workspace decides what it sends."""
    client = demo.client.workspace
    client.exec(name="demo", argv=["sh", "-c", f"mkdir -p {by}-1 && ln -sfn '{here}' {by}-1/d"])
    copies(demo, f"demo:{by}-1/", here / "copied")
    client.exec(name="demo", argv=["sh", "-c", f"rm {by}-1/d && mkdir {by}-1/d && echo bad > {by}-1/d/planted"])
    copies(demo, f"demo:{by}-1/", here / "copied")
    assert not (here / "planted").exists() and (here / "copied" / "d" / "planted").exists()


def test_what_is_no_file_is_left_out_and_said(demo: Web1, by: str, here: Path) -> None:
    (here / "t").mkdir()
    os.mkfifo(here / "t" / "pipe")
    assert "pipe is no file, directory or link: left out" in run(demo, here / "t", f"demo:data/fifo-{by}").stderr


# What the way there says.
ON_THE_WAY = {
    "nothing there": (
        ("demo:nothing", "/tmp/"),
        3,
        "error: demo:nothing: No such file or directory\nhint: a path in a workspace is "
        "relative to its directory: inv file.list demo",
    ),
    "no directory there": (("demo:nothing/", "/tmp/"), 3, "demo:nothing"),
    "no place for it": (
        ("/etc/hostname", "demo:nodir/x/"),
        3,
        "error: demo:nodir/x: No such file or directory\nhint: inv file.make-directory demo nodir/x --parents",
    ),
    "a file with a slash": (("demo:AGENTS.md/", "/tmp/"), 1, "error: demo:AGENTS.md/ is a file"),
    "not its own": (("/etc/hostname", "demo:/etc/cs-new"), 1, "/etc/.cs-new"),
    "closed": (("demo:closed", "/tmp/"), 1, "Permission denied"),
}
# What is known before one is chosen.
BEFORE = {
    "a place here": (("nope/", "demo:code/"), 3, "hint: a place without NAME: is a path of this machine"),
    "nothing here": (("/nothing", "demo:"), 3, "/nothing: No such file or directory"),
    "no workspace": (("/etc/hostname", "nodemo:x"), 3, "no workspace 'nodemo'"),
    "both there": (("demo:x", "other:y"), 1, "both places are in workspaces"),
    "both here": (("/etc/hostname", "/tmp/x"), 1, "neither place is in a workspace"),
}


@SFTP_FIRST
@pytest.mark.parametrize("error", some_names_of(ON_THE_WAY, "nothing there", "no place for it", "closed"))
def test_errors_say_what_and_end_with_their_code(demo: Web1, by: str, error: str) -> None:
    demo.client.workspace.exec(name="demo", argv=["sh", "-c", "touch closed && chmod 0 closed"])
    assert_refused(demo, *ON_THE_WAY[error])


@SFTP_FIRST
@pytest.mark.parametrize("error", some_names_of(BEFORE, "a place here", "no workspace"))
def test_errors_of_the_places_do_too(demo: Web1, by: str, error: str) -> None:
    assert_refused(demo, *BEFORE[error])


def assert_refused(demo: Web1, words: tuple[str, str], code: int, what: str) -> None:
    said = copies(demo, *words, code=code)["error"]
    assert what in str(said) and str(said).count("error: ") == 1, said


@SFTP_FIRST
def test_a_full_place_is_an_error_and_nothing_is_half_there(demo: Web1, by: str, here: Path) -> None:
    (here / "big").write_bytes(bytes(8 << 20))
    folder = "/srv/codesmith/workspaces/other/data"
    demo.on(f"mount -t tmpfs -o size=4m,mode=777 tmpfs {folder}")
    try:
        said = str(copies(demo, here / "big", "other:data/big", code=1)["error"])
        assert "no space" in said.lower(), said
        assert not demo.on(f"test -e {folder}/big", check=False).ok
    finally:
        demo.client.workspace.stop(name="other")
        demo.on(f"umount {folder}")


def goes_on(demo: Web1, source: Path, name: str) -> None:
    """A copy that was ended leaves neither a process nor a file of that name, and the same again completes it."""
    folder = "/srv/codesmith/workspaces/demo/data"
    quiet = "pgrep -u cs-demo -x rsync || pgrep -u cs-demo -f sftp || true"
    demo.person.wait_until(lambda: demo.on(quiet).out == "", within_s=20)
    assert not demo.on(f"test -e {folder}/{name}", check=False).ok
    copies(demo, source, f"demo:data/{name}")
    assert demo.on(f"stat -c %s {folder}/{name}").out.strip() == str(source.stat().st_size)
    assert "partial" not in demo.on(f"ls -A {folder}").out
    demo.on(f"rm {folder}/{name}")


@RSYNC_FIRST
def test_ctrl_c_ends_the_far_side_and_the_same_again_goes_on(demo: Web1, by: str, here: Path) -> None:
    (here / "big").write_bytes(os.urandom(1 << 20) * 250)
    argv = [str(Path(sys.executable).parent / "inv"), "workspace.copy", str(here / "big"), f"demo:data/cut-{by}"]
    folder = "/srv/codesmith/workspaces/demo/data"
    with subprocess.Popen(argv, cwd=TOP, env=demo.person.environment, stderr=subprocess.PIPE, text=True) as process:
        demo.person.wait_until(
            lambda: demo.on(f"find {folder} -name '.*cut-{by}*' -size +1M", check=False).out != "", within_s=30
        )
        process.send_signal(signal.SIGINT)
        said = process.stderr.read() if process.stderr else ""
        assert process.wait(30) == 2, said
    assert "cancelled: files that were copied by then are whole" in said and "the same again goes on" in said
    goes_on(demo, here / "big", f"cut-{by}")


@pytest.mark.long  # tests/workspace/test_copy.py has what it shows
@RSYNC_FIRST
def test_a_terminal_sees_how_far_it_is(demo: Web1, by: str, here: Path) -> None:
    with (here / "big").open("wb") as file:
        file.truncate(600 << 20)  # it takes seconds, and rsync tells its rate once in a second
    argv = [str(Path(sys.executable).parent / "inv"), "workspace.copy", str(here / "big"), f"demo:data/seen-{by}"]
    with Terminal(argv, {**demo.person.environment, "TERM": "xterm"}, rows=24, columns=90) as terminal:
        terminal.wait_for(r"\d+ %  [\d.]+ MB  [\d.]+ ?MB/s  \d:\d\d:\d\d left")
        assert terminal.wait_for_end() == 0
    demo.on(f"rm /srv/codesmith/workspaces/demo/data/seen-{by}")


@pytest.mark.long  # Ctrl-C is the end that people make
@RSYNC_FIRST
def test_a_copy_ends_with_inv_however_that_ends(demo: Web1, by: str, here: Path) -> None:
    (here / "big").write_bytes(os.urandom(1 << 20) * 250)
    argv = [str(Path(sys.executable).parent / "inv"), "workspace.copy", str(here / "big"), f"demo:data/dead-{by}"]
    folder = "/srv/codesmith/workspaces/demo/data"
    begun = f"find {folder} -path '*.*dead-{by}*' -size +1M"
    with subprocess.Popen(argv, cwd=TOP, env=demo.person.environment, stderr=subprocess.DEVNULL) as process:
        demo.person.wait_until(lambda: demo.on(begun, check=False).out != "", within_s=60)
        process.kill()
    goes_on(demo, here / "big", f"dead-{by}")


def test_what_carries_a_copy(demo: Web1, by: str, tree: Path) -> None:
    def dials() -> int:
        records = demo.client.audit.list(workspace="demo", limit=1000)
        return sum(record.method == "workspace.dial" for record in records)

    before = dials()
    copies(demo, tree, f"demo:data/one-{by}")
    assert dials() - before == (by == "sftp")
