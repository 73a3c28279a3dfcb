"""Stores that are damaged, truncated or foreign are refused and not changed; a new one is whole or absent."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.frontend.store import Store
from agent.frontend.store_file import LAYOUT
from agent.helper.ledger.ledger import Ledger
from agent.shared.database import Database, as_error
from agent.shared.disk_reserve import DiskReserve
from agent.shared.errors import AgentError, InUse, LimitReached, ReadOnly
from tests.agent.helper.records import add_user


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbage(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 1000)


def foreign(path: Path) -> None:
    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE a (b)")
    database.close()


def foreign_of_this_version(path: Path) -> None:
    foreign(path)
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 1")
    database.close()


def newer(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 9")
    database.close()


def torn_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:8192] = b"\xa5" * 4096
    path.write_bytes(data)


DAMAGES = [nothing, half, garbage, foreign, foreign_of_this_version, newer, torn_page]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_store_that_is_not_ours_or_not_whole_says_nothing_and_stays(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "state.db"
    first = Store(str(path))
    first.put_user({"name": "ada"})
    first.close()
    damage(path)
    before = path.read_bytes()
    store = Store(str(path))
    assert store.damage
    for call in (
        lambda: list(store.list_users()),
        lambda: list(store.list_workspaces()),
        store.counts,
        store.ensure_room,
    ):
        with pytest.raises(ReadOnly):
            call()
    assert store.intents() == []
    store.close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_ledger_that_is_not_ours_or_not_whole_is_refused_and_stays(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "ledger.db"
    first = Ledger(str(path))
    add_user(first, "ada")
    first.close()
    damage(path)
    before = path.read_bytes()
    with pytest.raises(ReadOnly):
        Ledger(str(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", [Store, Ledger])
def test_a_missing_file_is_not_created_beside_its_remains(tmp_path: Path, kind: type[Store] | type[Ledger]) -> None:
    path = tmp_path / "a.db"
    first = kind(str(path))
    first.ensure_room()
    if isinstance(first, Store):
        first.put_user({"name": "ada"})
    first.close()
    path.unlink()
    for left in ("ballast", "a.db-wal"):
        if isinstance(first, Store):
            assert "is gone" in Store(str(path)).damage
        else:
            with pytest.raises(ReadOnly, match="is gone"):
                Ledger(str(path))
        assert not path.exists()
        (tmp_path / "ballast").unlink(missing_ok=True)
        if left == "ballast":
            (tmp_path / "a.db-wal").write_bytes(b"x")


def test_store_and_ledger_are_not_taken_for_each_other(tmp_path: Path) -> None:
    Ledger(str(tmp_path / "a.db")).close()
    before = (tmp_path / "a.db").read_bytes()
    assert "does not have the tables" in Store(str(tmp_path / "a.db")).damage
    assert (tmp_path / "a.db").read_bytes() == before


@pytest.mark.parametrize(
    ("said", "kind"),
    [("database or disk is full", LimitReached), ("database is locked", InUse),
     ("attempt to write a readonly database", ReadOnly), ("unable to open database file", ReadOnly)],
)  # fmt: skip
def test_errors_of_sqlite_become_errors_of_the_contract(tmp_path: Path, said: str, kind: type[AgentError]) -> None:
    assert type(as_error(sqlite3.OperationalError(said), str(tmp_path / "b.db"))) is kind


def test_a_new_file_is_never_there_without_its_tables(tmp_path: Path) -> None:
    seen = []

    class Watched(Database):
        def create(self, layout: object) -> None:
            seen.append(list(tmp_path.iterdir()))
            super().create(LAYOUT)
            seen.append(sorted(path.name for path in tmp_path.iterdir()))

    Watched(str(tmp_path / "state.db"), LAYOUT).close()
    assert seen == [[], ["state.db"]]


def test_statements_are_written_all_or_none(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "state.db"), LAYOUT)
    with pytest.raises(sqlite3.IntegrityError):
        database.write(("INSERT INTO users VALUES ('a', '')",), ("INSERT INTO users VALUES ('a', '')",))
    assert database.all("SELECT * FROM users") == []
    database.close()


def test_the_disk_reserve_holds_space_and_releases_it(tmp_path: Path) -> None:
    reserve = DiskReserve(str(tmp_path))
    reserve.ensure()
    reserve.ensure()
    (file,) = tmp_path.iterdir()
    assert file.stat().st_blocks * 512 >= 1 << 20
    assert reserve.release()
    assert not reserve.release()
    file.write_bytes(b"cut off while it was made")
    reserve.ensure()
    assert file.stat().st_blocks * 512 >= 1 << 20


def test_no_room_for_the_disk_reserve_is_a_limit(tmp_path: Path) -> None:
    with pytest.raises(LimitReached) as refusal:
        DiskReserve(str(tmp_path / "nowhere")).ensure()
    assert isinstance(refusal.value, AgentError)
    assert refusal.value.data["hint"].startswith("df ")
