"""P15: files into a workspace and out of it, beside scp and rsync over plain ssh to the same node."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from bench.clock import Command, in_turns
from bench.row import Row, at_least
from bench.site import Site
from bench.ssh_master import ssh
from codesmith.lab import LabNode

NAME = "copy15"
BIG_BYTES, ROUNDS = 1 << 30, 2
FILES, FILE_BYTES, FILES_ROUNDS = 10_000, 2 << 10, 2
LEAST = 0.8
FOLDER = f"/srv/codesmith/workspaces/{NAME}/data"
PLAIN = "/root/bench15"
# Makes both empty, as turn $1. Small files are moved away, not removed: the next program that makes some would pay for
# it, since ext4 looks at each inode that was freed a few seconds ago. Large ones are few, and need the room.
EMPTY = f"""
for each in {PLAIN} {FOLDER}/in; do
  mkdir -p $each.used
  find $each -size +1M -delete 2>/dev/null
  test ! -e $each || mv $each $each.used/$1
done
mkdir {PLAIN}
"""


def rows(site: Site, node: LabNode) -> list[Row]:
    """Copy one large file and many small ones, in turns."""
    node.run(["sh", "-c", "command -v rsync >/dev/null || apt-get install -qqy rsync >/dev/null"], timeout_s=300)
    site.inv("workspace.create", NAME, "--node", "web1", proof=NAME).run()
    folder = site.folder / "p15"
    folder.mkdir()
    with open(folder / "big", "wb") as file:
        for _ in range(BIG_BYTES >> 20):
            file.write(os.urandom(1 << 20))
    (folder / "many").mkdir()
    for number in range(FILES):
        (folder / "many" / f"f{number:05d}").write_bytes(os.urandom(FILE_BYTES))
    work = _Work(site, node, folder)
    try:
        return [*_large(work), *_many(work)]
    finally:
        shutil.rmtree(folder)


class _Work:
    """The command lines; each copies to a place that is empty before, which is not timed."""

    def __init__(self, site: Site, node: LabNode, folder: Path) -> None:
        self._site, self._node, self.folder = site, node, folder
        shown = site.inv("ssh.config", "--print", "--json")
        done = subprocess.run(shown.argv, cwd=shown.folder, env=shown.environment, capture_output=True, check=True)
        self._alias = ("-F", str(json.loads(done.stdout)["config"]))
        self._words = ssh(site, "web1").argv[1:-1]
        self._turns = itertools.count()

    def ours(self, source: object, destination: object) -> Callable[[], float]:
        """Return `inv workspace.copy`."""
        return self._fresh(self._site.inv("workspace.copy", str(source), str(destination), "--node", "web1"))

    def scp_by_alias(self, source: object, destination: object) -> Callable[[], float]:
        """Return scp by the alias of the workspace."""
        return self._fresh(self._site.command("scp", "-q", "-r", *self._alias, source, destination))

    def scp(self, source: object, destination: object) -> Callable[[], float]:
        """Return scp over plain ssh to the node."""
        words = ["-P" if word == "-p" else word for word in self._words]
        return self._fresh(self._site.command("scp", "-q", "-r", *words, source, destination))

    def rsync(self, source: object, destination: object) -> Callable[[], float]:
        """Return rsync over plain ssh to the node."""
        return self._fresh(
            self._site.command("rsync", "-rlpt", "-e", shlex.join(("ssh", *self._words)), source, destination)
        )

    def there(self, path: str) -> str:
        """Return a path of the node as scp takes it."""
        return f"root@{self._site.address('web1')['host']}:{path}"

    @property
    def alias(self) -> str:
        """The alias of the workspace."""
        return f"{NAME}.web1.codesmith"

    def _fresh(self, command: Command) -> Callable[[], float]:
        def run() -> float:
            turn, out = str(next(self._turns)), self.folder / "out"
            self._node.run(["sh", "-c", EMPTY, "sh", turn])
            for file in out.glob("big"):
                file.unlink()
            if out.exists():
                out.rename(self.folder / f"used{turn}")
            out.mkdir()
            return command.run()

        return run


def _large(work: _Work) -> list[Row]:
    big, out = work.folder / "big", work.folder / "out"
    work.ours(big, f"{NAME}:data/big")()
    keep = f"{FOLDER}/big"
    found = []
    for way, ours, alias, plain in (
        ("in", (big, f"{NAME}:data/in"), (big, f"{work.alias}:data/in"), (big, work.there(f"{PLAIN}/in"))),
        ("out", (f"{NAME}:data/big", f"{out}/"), (f"{work.alias}:data/big", out), (work.there(keep), out)),
    ):
        series = in_turns(ROUNDS, work.ours(*ours), work.scp_by_alias(*alias), work.scp(*plain))
        copied, by_alias, beside = ([BIG_BYTES / 1e6 / took for took in one] for one in series)
        compared = f"1 GiB of random bytes; scp over plain ssh to the node; whole processes, {ROUNDS} turns"
        found.append(at_least("P15", f"workspace.copy, 1 GiB {way}", copied, beside, LEAST, "MB/s", compared))
        found.append(at_least("P15", f"scp by the alias, 1 GiB {way}", by_alias, beside, LEAST, "MB/s", compared))
    return found


def _many(work: _Work) -> list[Row]:
    many, out = work.folder / "many", work.folder / "out"
    work.ours(f"{many}/", f"{NAME}:data/many/")()
    keep, sink = f"{FOLDER}/many", work.there(PLAIN)
    found = []
    for way, ours, plain in (
        ("in", (f"{many}/", f"{NAME}:data/in/"), (many, sink)),
        ("out", (f"{NAME}:data/many", f"{out}/"), (work.there(keep), out)),
    ):
        series = in_turns(FILES_ROUNDS, work.ours(*ours), work.rsync(*plain), work.scp(*plain))
        copied, rsync, scp = ([FILES / took for took in one] for one in series)
        compared = f"{FILES:,} files of {FILE_BYTES >> 10} KiB; over plain ssh; whole processes, {FILES_ROUNDS} turns"
        for peer, beside in (("rsync", rsync), ("scp", scp)):
            what = f"workspace.copy, {FILES:,} files {way}, beside {peer}"
            found.append(at_least("P15", what, copied, beside, LEAST, "files/s", compared))
    return found
