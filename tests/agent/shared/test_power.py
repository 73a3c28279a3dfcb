"""What a power cut leaves on a disk: only what was synced. SIGKILL of a whole node would keep the page cache."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.frontend.audit import Audit
from agent.frontend.journal import Ending
from agent.frontend.store import Store
from agent.git import job
from agent.helper.accounts import accounts, databases, schedules
from agent.helper.ledger.ledger import Ledger
from agent.helper.trees import directory_seal, trees
from tests.agent.helper.records import add_user

UID = 70000
ENTRIES = [trees.Entry("code", 0o700), trees.Entry("code/file", 0o600, b"old\n")]


class Disk:
    """A file system that writes nothing to its disk by itself for minutes."""

    def __init__(self, top: Path) -> None:
        self.image, self._copy, self.path, self._after = (top / name for name in ("image", "copy", "now", "after"))
        for folder in (self.path, self._after):
            folder.mkdir()
        with self.image.open("wb") as file:
            file.truncate(32 << 20)
        run("mkfs.ext4", "-q", self.image)
        run("mount", "-o", "loop,commit=900", self.image, self.path)

    @contextmanager
    def after_a_power_cut(self) -> Iterator[Path]:
        """Yield the disk as it would be after a power cut now."""
        run("cp", self.image, self._copy)
        run("mount", "-o", "loop", self._copy, self._after)
        try:
            yield self._after
        finally:
            run("umount", self._after)


@pytest.fixture
def disk(base: Path) -> Iterator[Disk]:
    """A disk with homes, staging and trash; root owns every directory of its path."""
    made = Disk(base)
    try:
        yield made
    finally:
        run("umount", made.path)


@pytest.fixture
def homes_on(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Homes, staging and trash on the disk, one home in them, all of it on disk."""
    for name in ("staging", "trash", "home"):
        (disk.path / name).mkdir()
    monkeypatch.setattr(trees, "STAGING", str(disk.path / "staging"))
    monkeypatch.setattr(trees, "TRASH", str(disk.path / "trash"))
    trees.make(str(disk.path / "home"), "cs-ada", UID, 0o700, ENTRIES)
    run("sync", "--file-system", disk.path)
    return disk.path / "home"


def run(*words: str | Path) -> None:
    subprocess.run(words, check=True, capture_output=True)


def test_what_is_not_synced_is_lost_here(disk: Disk) -> None:
    """Sometimes another process of this machine syncs all disks (a node that shuts down), but not each time."""
    for number in range(20):
        name = f"a{number}"
        (disk.path / name).write_text("a")
        with disk.after_a_power_cut() as after:
            if not (after / name).exists():
                return
    pytest.fail("everything is on the disk at once: these tests would see no missing sync")


def test_a_tree_that_was_made_is_there_whole(disk: Disk, homes_on: Path) -> None:
    trees.make(str(homes_on), "cs-bob", UID, 0o700, ENTRIES)
    with disk.after_a_power_cut() as after:
        assert (after / "home/cs-bob/code/file").read_text() == "old\n"
        assert (after / "home/cs-bob").stat().st_uid == UID


def test_a_tree_that_was_removed_is_gone(disk: Disk, homes_on: Path) -> None:
    trees.remove(str(homes_on), "cs-ada")
    with disk.after_a_power_cut() as after:
        assert os.listdir(after / "home") == []
        assert len(os.listdir(after / "trash")) == 1


def test_the_seal_of_a_home_stays(disk: Disk, homes_on: Path) -> None:
    directory_seal.seal(str(homes_on), "cs-ada", UID)
    with disk.after_a_power_cut() as after:
        assert (after / "home/cs-ada").stat().st_uid == 0
    directory_seal.unseal(str(homes_on), "cs-ada", UID, directory_seal.Rights(0o700, UID))
    with disk.after_a_power_cut() as after:
        assert (after / "home/cs-ada").stat().st_uid == UID


def test_what_starts_by_itself_is_removed(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    (disk.path / "crontabs").mkdir()
    monkeypatch.setattr(schedules, "CRON", (str(disk.path), "crontabs"))
    for place in ("AT", "AT_OUTPUT", "LINGER"):
        monkeypatch.setattr(schedules, place, (str(disk.path), "none"))
    (disk.path / "crontabs/cs-ada").write_text("@daily true\n")
    run("sync", "--file-system", disk.path)
    assert schedules.remove("ada", UID) == []
    with disk.after_a_power_cut() as after:
        assert os.listdir(after / "crontabs") == []


def test_what_a_tool_wrote_into_etc_stays(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write as shadow's tools do: the new file is synced, its name is not."""

    def tool(*_: object, **__: object) -> SimpleNamespace:
        with (disk.path / "passwd+").open("w") as file:
            file.write("cs-ada\n")
            file.flush()
            os.fsync(file.fileno())
        (disk.path / "passwd+").rename(disk.path / "passwd")
        return SimpleNamespace(returncode=0)

    (disk.path / "passwd").write_text("\n")
    run("sync", "--file-system", disk.path)
    monkeypatch.setattr(databases, "FOLDER", str(disk.path))
    monkeypatch.setattr(accounts, "run", tool)
    accounts.close_access("ada")
    with disk.after_a_power_cut() as after:
        assert (after / "passwd").read_text() == "cs-ada\n"


def test_a_repository_that_was_made_is_there_whole(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"action": "init", "name": "x", "branch": "main", "token": "0" * 32, "programs": ["git"]}
    with monkeypatch.context() as patch:
        patch.chdir(disk.path)
        assert job.answer(wanted)["repo"]["branch"] == "main"
    with disk.after_a_power_cut() as after:
        assert os.listdir(after / "code") == ["x"]
        assert (after / "code/x/.git/HEAD").read_text() == "ref: refs/heads/main\n"
        assert (after / "code/x/.git/codesmith").exists()


def test_ledger_store_and_audit_record_stay(disk: Disk) -> None:
    with closing(Ledger(str(disk.path / "ledger.db"))) as ledger:
        add_user(ledger, "ada", UID)
        with disk.after_a_power_cut() as after, closing(Ledger(str(after / "ledger.db"))) as found:
            assert found.user("ada") == ledger.user("ada") is not None
    with closing(Store(str(disk.path / "state.db"))) as store:
        intent = store.begin("user.create", {"name": "ada"})
        with disk.after_a_power_cut() as after, closing(Store(str(after / "state.db"))) as left:
            assert left.intents() == [intent]
        with store.change():
            store.put_user({"name": "ada"})
            store.end(Ending([intent.id], "r1", "d", {"result": 1}, "line"))
        with disk.after_a_power_cut() as after, closing(Store(str(after / "state.db"))) as left:
            assert (left.intents(), left.result_of("r1")) == ([], ("d", {"result": 1}))
            assert [user["name"] for user in left.list_users()] == ["ada"]


def test_an_audit_record_stays(disk: Disk) -> None:
    audit = Audit(str(disk.path / "audit"))
    try:
        audit.write("{}")
        with disk.after_a_power_cut() as after:
            assert (after / "audit").read_text() == "{}\n"
    finally:
        os.close(audit.descriptor)
