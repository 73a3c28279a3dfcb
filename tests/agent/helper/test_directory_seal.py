"""Seal and unseal a directory, despite its owner, interruptions, and what root put there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from agent.helper.trees import directory_seal
from agent.shared.errors import NotManaged

UID, GROUP = 98765, 98770
WAS = directory_seal.Rights(0o2711, GROUP)


@pytest.fixture
def closed(base: Path) -> Path:
    """A directory of a user."""
    made = base / "homes" / "demo"
    made.mkdir()
    made.chmod(0o2711)
    os.chown(made, UID, GROUP)
    made.chmod(0o2711)
    return made


def look(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def test_it_is_exact_to_undo_and_may_be_done_twice(base: Path, closed: Path) -> None:
    rights = directory_seal.rights_of(str(base / "homes"), "demo", UID)
    assert rights == WAS
    for _ in range(2):
        directory_seal.seal(str(base / "homes"), "demo", UID)
        assert look(closed) == (0, UID, 0)
        directory_seal.check_ours(str(base / "homes"), "demo", UID)
    for _ in range(2):
        directory_seal.unseal(str(base / "homes"), "demo", UID, rights)
        assert look(closed) == (UID, GROUP, 0o2711)


def test_an_owner_who_opens_it_in_between_is_closed_out(
    base: Path, closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fchown

    def fchown(directory: int, uid: int, gid: int) -> None:
        os.chmod(closed, 0o777)
        real(directory, uid, gid)

    monkeypatch.setattr(os, "fchown", fchown)
    directory_seal.seal(str(base / "homes"), "demo", UID)
    assert look(closed) == (0, UID, 0)


def test_cut_off_at_any_moment_it_is_completed(base: Path, closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cut(BaseException):
        pass

    def cut(*_: object) -> None:
        raise Cut

    for action in (directory_seal.seal, lambda *place: directory_seal.unseal(*place, WAS)):
        for name in ("fchown", "fchmod", "fsync"):
            with monkeypatch.context() as patch:
                patch.setattr(os, name, cut)
                with pytest.raises(Cut):
                    action(str(base / "homes"), "demo", UID)
            directory_seal.check_ours(str(base / "homes"), "demo", UID)
        action(str(base / "homes"), "demo", UID)
    assert look(closed) == (UID, GROUP, 0o2711)


@pytest.mark.parametrize("found", ["of root", "of another", "a link", "a file", "nothing"])
def test_what_is_not_ours_is_left_alone(base: Path, closed: Path, found: str) -> None:
    place = base / "homes" / "there"
    if found == "a link":
        place.symlink_to(closed)
    elif found == "a file":
        place.touch()
    elif found != "nothing":
        place.mkdir()
        os.chown(place, *((0, 0) if found == "of root" else (UID + 1, UID + 1)))
    before = look(closed), look(place) if found != "nothing" else None
    for action in (
        directory_seal.seal,
        directory_seal.check_ours,
        directory_seal.rights_of,
        lambda *one: directory_seal.unseal(*one, WAS),
    ):
        with pytest.raises(NotManaged):
            action(str(base / "homes"), "there", UID)
    assert before == (look(closed), look(place) if found != "nothing" else None)
