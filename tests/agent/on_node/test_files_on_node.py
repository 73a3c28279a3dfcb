"""file.* on real nodes: as the login, inside the runtime, in a workspace that does what it can against it."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agent.on_node.web1 import Web1
from tests.releases import BOOKWORM_BEFORE_TRIXIE

pytestmark = [pytest.mark.lab, BOOKWORM_BEFORE_TRIXIE]
PLACE = "/srv/codesmith/workspaces"
MIB = 1 << 20
# Swaps two names of one directory for ever, so that a name is a directory and a link in turn.
SWAP = """
import ctypes, os, sys
library = ctypes.CDLL(None)
one, other = (os.fsencode(word) for word in sys.argv[1:])
while True:
    library.renameat2(-100, one, -100, other, 2)
"""


@contextmanager
def swapped(web1: Web1, workspace: str, one: str, other: str) -> Iterator[None]:
    """Have a process of the login swap two names of its workspace all the time."""
    web1.on(f"cat >/tmp/swap.py <<'E'\n{SWAP}E")
    words = f"python3 /tmp/swap.py {PLACE}/{workspace}/{one} {PLACE}/{workspace}/{other}"
    web1.on(f"systemd-run --quiet --unit=swap --uid=cs-{workspace} {words}")
    try:
        yield
    finally:
        web1.on("systemctl stop swap")


def test_a_day_with_files(web1: Web1) -> None:
    web1.client.workspace.create(name="day")
    file = web1.client.file
    made = file.write(workspace="day", path="code/app.py", data="import os\nprint('grün')\n")
    assert (made.path, made.type, made.size_bytes, made.mode) == ("code/app.py", "file", 25, "0644")
    assert web1.on(f"stat -c '%U %G %a' {PLACE}/day/code/app.py").out == "cs-day cs-day 644\n"
    read = file.read(workspace="day", path="code/app.py")
    assert (read.data, read.encoding, read.eof, read.etag) == ("import os\nprint('grün')\n", "text", True, made.etag)
    edited = file.edit(workspace="day", path="code/app.py", old="grün", new="blau", if_etag=made.etag)
    done = web1.client.workspace.exec(name="day", argv=["python3", "code/app.py"])
    assert done.stdout == "blau\n"
    refusal = web1.refuses(
        file.write, "in_use", workspace="day", path="code/app.py", data="", if_etag=made.etag
    )  # fmt: skip
    assert f"its etag is {edited.etag}" in str(refusal)
    assert file.search(workspace="day", pattern=r"bla.\b")[0].to_dict() == {
        "path": "code/app.py", "line": 2, "text": "print('blau')",
    }  # fmt: skip
    file.make_directory(workspace="day", path="code/pkg/sub", parents=True)
    assert file.move(workspace="day", path="code/app.py", new_path="code/pkg/app.py").path == "code/pkg/app.py"
    assert [one.path for one in file.list(workspace="day", path="code/pkg")] == ["code/pkg/app.py", "code/pkg/sub"]
    web1.refuses(file.remove, "in_use", workspace="day", path="code/pkg")
    assert file.remove(workspace="day", path="code/pkg", recursive=True).removed
    web1.refuses(file.stat, "not_found", workspace="day", path="code/pkg")
    web1.client.user.disable(name="day")
    web1.refuses(file.list, "disabled", workspace="day")


def test_nothing_outside_is_reached(web1: Web1) -> None:
    web1.client.workspace.create(name="out")
    web1.client.workspace.create(name="other")
    web1.on(
        f"echo secret > {PLACE}/other/data/x; echo mine > /home/cs-out/x; chown cs-out: /home/cs-out/x", check=False
    )
    links = {
        "passwd": "/etc/passwd", "home": "$HOME/x", "other": f"{PLACE}/other/data/x", "up": "../../other/data/x",
        "proc": "/proc/self/environ", "tmp": "/tmp/x", "dev": "/dev/zero",
    }  # fmt: skip
    script = "; ".join(f'ln -s "{target}" data/{name}' for name, target in links.items())
    web1.client.workspace.exec(name="out", argv=["sh", "-c", f"echo tmp > /tmp/x; {script}"])
    file = web1.client.file
    for name in links:
        for call, more in ((file.read, {}), (file.write, {"data": "x"}), (file.edit, {"old": "e", "new": "x"})):
            refusal = web1.refuses(call, "invalid_params", workspace="out", path=f"data/{name}", **more)
            assert f"path: data/{name} leads out of the workspace" in str(refusal)
    for path in ("/etc/passwd", "/home/cs-out/x", f"{PLACE}/other/data/x", "../other/data/x", "/proc/1/environ", "~/x"):
        kind = "not_found" if path.startswith("~") else "invalid_params"
        web1.refuses(file.read, kind, workspace="out", path=path)
    assert file.search(workspace="out", pattern="root|secret|mine|tmp", path="data") == []
    assert file.list(workspace="out", path=f"{PLACE}/out/data")[0].target == "/dev/zero"


@pytest.mark.parametrize("rounds", [8, pytest.param(40, marks=pytest.mark.long)])
def test_a_hostile_workspace_leads_nowhere_and_stops_nobody(web1: Web1, rounds: int) -> None:
    web1.client.workspace.create(name="bad")
    web1.client.workspace.create(name="good")
    outside = f"{PLACE}/good/data"
    script = f"mkdir d; ln -s {outside} link; mkfifo fifo; truncate -s 1T huge; ln -s loop loop; ln -s /dev/zero zero"
    web1.client.workspace.exec(name="bad", argv=["sh", "-c", f"cd data; {script}"])
    web1.on(f"mknod {PLACE}/bad/data/null c 1 3; chmod 666 {PLACE}/bad/data/null; echo secret > {outside}/a")
    web1.on(f"chmod 755 {PLACE}/good; chmod 777 {outside}; chmod 666 {outside}/a")
    file = web1.client.file
    for name in ("fifo", "null", "loop", "zero"):
        for call, more in ((file.read, {}), (file.write, {"data": "x", "append": True})):
            web1.refuses(call, "invalid_params", workspace="bad", path=f"data/{name}", **more)
    piece = file.read(workspace="bad", path="data/huge", offset=(1 << 40) - 8)
    assert (piece.data, piece.eof, piece.size_bytes) == ("\0" * 8, True, 1 << 40)
    with swapped(web1, "bad", "data/d", "data/link"):
        refused = 0
        for number in range(rounds):
            for call, more in (
                (file.write, {"data": f"{number}"}), (file.read, {}), (file.edit, {"old": "secret", "new": "x"}),
                (file.remove, {}),
            ):  # fmt: skip
                try:
                    answer = call(workspace="bad", path="data/d/a", **more)
                    assert "secret" not in str(answer)
                except Exception as error:  # noqa: BLE001  each kind of refusal is as good
                    refused += "leads out of the workspace" in str(error)
            assert file.search(workspace="bad", pattern="secret", path="data") == []
    assert 0 < refused < 4 * rounds, "both were met"
    assert web1.on(f"cat {outside}/a; ls {outside}").out == "secret\na\n"
    for name in ("bad", "good"):
        web1.client.workspace.delete(name=name)


def test_names_that_are_no_text(web1: Web1, tmp_path: Path) -> None:
    web1.client.workspace.create(name="names")
    file = web1.client.file
    for raw in (b"\xe9t\xe9", b"two\nlines", b"-rf"):
        path = "data/" + os.fsdecode(raw)
        assert file.write(workspace="names", path=path, data="one").path == path
        found = web1.on(
            f"ls -1 --quoting-style=literal --zero {PLACE}/names/data 2>/dev/null | base64 -w0"
            f" || find {PLACE}/names/data -mindepth 1 -printf '%f\\0' | base64 -w0"
        ).out
        assert base64.b64decode(found) in (raw + b"\0", b"")
        assert [one.path for one in file.list(workspace="names", path="data")] == [path]
        assert file.search(workspace="names", pattern="one", path="data")[0].path == path
        assert file.remove(workspace="names", path=path).path == path


@pytest.mark.long
def test_ten_megabytes_in_pieces(web1: Web1) -> None:
    web1.client.workspace.create(name="big")
    file, data, size = web1.client.file, os.urandom(10 * MIB), 168 << 10
    upload = "data/.codesmith-upload-0123"

    def write(at: int, **more: object) -> str:
        text = base64.b64encode(data[at : at + size]).decode()
        return file.write(workspace="big", path=upload, data=text, encoding="base64", **more).etag

    etag = write(0, if_etag="absent")
    for at in range(size, len(data), size):
        etag = write(at, append=True, if_etag=etag)
    file.move(workspace="big", path=upload, new_path="data/blob", replace=True, if_etag="absent")
    found, offset, is_end = b"", 0, False
    while not is_end:
        piece = file.read(workspace="big", path="data/blob", offset=offset, encoding="base64")
        found, offset, is_end = found + base64.b64decode(piece.data), piece.next_offset, piece.eof
    assert found == data
    records = [one.method for one in web1.client.audit.list(workspace="big")]
    assert records == ["file.move", "file.write", "workspace.create"]


def test_a_person_moves_a_file_of_three_megabytes(web1: Web1, tmp_path: Path) -> None:
    web1.client.workspace.create(name="person")
    (tmp_path / "blob").write_bytes(os.urandom(3 * MIB))
    runs = web1.person.runs
    runs(f"inv file.write person data/blob --from {tmp_path}/blob")
    runs(f"inv file.read person data/blob | cmp - {tmp_path}/blob")
    runs(f"inv file.read person data/blob --offset 1000000 --limit 1000000 > {tmp_path}/part")
    assert (tmp_path / "part").read_bytes() == (tmp_path / "blob").read_bytes()[1_000_000:2_000_000]
    assert (
        web1.on(f"ls -A {PLACE}/person/data; stat -c '%U %a' {PLACE}/person/data/blob").out == "blob\ncs-person 644\n"
    )
    runs("inv file.edit person AGENTS.md --old nowhere --new x", code=6)
    runs("inv file.read person nowhere", code=3)


def test_a_full_disk_leaves_the_old_file(web1: Web1) -> None:
    web1.client.workspace.create(name="full")
    folder = f"{PLACE}/full/data"
    web1.on(f"mount -t tmpfs -o size=128k,mode=777 tmpfs {folder}")
    try:
        file = web1.client.file
        file.write(workspace="full", path="data/a", data="one")
        for append in (False, True):
            refusal = web1.refuses(
                file.write, "limit", workspace="full", path="data/a", data="x" * 200_000, append=append
            )  # fmt: skip
            assert "No space left on device" in str(refusal)
        assert (file.read(workspace="full", path="data/a").data, web1.on(f"ls -A {folder}").out) == ("one", "a\n")
    finally:
        web1.client.workspace.stop(name="full")
        web1.on(f"umount {folder}")


@pytest.mark.long  # tests/agent/files and tests/agent/supervisor have it with a shorter limit
def test_a_search_without_end_ends(web1: Web1) -> None:
    web1.client.workspace.create(name="hard")
    web1.client.file.write(workspace="hard", path="data/a", data="a" * 64 + "!")
    refusal = web1.refuses(web1.client.file.search, "limit", workspace="hard", pattern="(a+)+$")
    assert "did not end within 8 s" in str(refusal)


def test_what_is_in_files_is_written_down_nowhere(web1: Web1) -> None:
    web1.client.workspace.create(name="quiet")
    file, secret = web1.client.file, "geheim" + os.urandom(8).hex()
    file.write(workspace="quiet", path="data/a", data=secret)
    file.edit(workspace="quiet", path="data/a", old=secret, new=f"{secret}-2")
    web1.refuses(file.edit, "invalid_params", workspace="quiet", path="data/a", old=f"{secret}-3", new="")
    file.read(workspace="quiet", path="data/a")
    encoded = base64.b64encode(secret.encode()).decode()[:16]
    places = "/var/log/codesmith /var/lib/codesmith /etc/codesmith /run/codesmith"
    found = web1.on(
        f"grep -ral -e {secret} -e {encoded} {places}; journalctl --no-pager | grep -e {secret}", check=False
    )
    assert found.out == ""
    methods = [record.method for record in web1.client.audit.list(workspace="quiet", limit=10)]
    assert methods[:3] == ["file.edit", "file.edit", "file.write"]


def test_a_file_that_is_too_large_for_the_memory_of_its_workspace(web1: Web1) -> None:
    web1.client.workspace.create(name="small")
    web1.client.sandbox.create(workspace="small", limits={"memory_bytes": 64 << 20}, network="none")
    web1.client.workspace.exec(
        name="small", argv=["sh", "-c", "head -c 15M /dev/zero | tr '\\0' x > data/big; echo y >> data/big"]
    )
    edited = web1.client.file.edit(workspace="small", path="data/big", old="y\n", new="z\n")
    assert edited.size_bytes == (15 << 20) + 2
    assert web1.client.file.search(workspace="small", pattern="z$", path="data/big")[0].line == 1
