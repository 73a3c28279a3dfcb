"""The rights of a disabled user's workspaces are kept, whatever interrupts `disable`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from agent.helper import suspension
from agent.helper.ledger.ledger import Ledger
from agent.helper.trees import directory_seal
from tests.agent.helper.records import add_user, add_workspace

UID, GROUP = 98765, 98770


class Cut(BaseException):
    pass


@pytest.mark.parametrize("moment", ["fchmod", "fchown", "fsync"])
@pytest.mark.parametrize("cut_at", ["homes", "workspaces"])
def test_what_a_cut_off_seal_has_changed_already_is_not_taken_for_what_was(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, cut_at: str
) -> None:
    (base / "workspaces").mkdir()
    monkeypatch.setattr(suspension, "HOMES", str(base / "homes"))
    monkeypatch.setattr(suspension, "WORKSPACES", str(base / "workspaces"))
    places = {"homes": base / "homes" / "cs-demo", "workspaces": base / "workspaces" / "demo"}
    for made in places.values():
        made.mkdir()
        os.chown(made, UID, GROUP)
        made.chmod(0o2711)
    with contextlib.closing(Ledger(str(tmp_path / "ledger.db"))) as ledger:
        add_user(ledger, "ada")
        add_workspace(ledger, "demo", "ada", UID)
        real = directory_seal.seal

        def cut(*_: object) -> None:
            raise Cut

        def seal(parent: str, name: str, uid: int) -> None:
            with monkeypatch.context() as patch:
                if parent.endswith(cut_at):
                    patch.setattr(os, moment, cut)
                real(parent, name, uid)

        with monkeypatch.context() as patch:
            patch.setattr(directory_seal, "seal", seal)
            with pytest.raises(Cut):
                suspension.seal_workspace(ledger, "demo")
        if moment == "fchown":
            assert places[cut_at].stat().st_mode & 0o7777 == 0
        assert suspension.is_sealed(ledger, "demo")
        suspension.seal_workspace(ledger, "demo")
        assert not suspension.is_open(ledger, "demo")
        assert [found(made)[:2] for made in places.values()] == [(0, UID)] * 2
        suspension.unseal_workspace(ledger, "demo")
        assert [found(made) for made in places.values()] == [(UID, GROUP, 0o2711)] * 2
        assert not suspension.is_sealed(ledger, "demo")


def found(path: Path) -> tuple[int, int, int]:
    """Return owner, group and mode."""
    status = path.stat()
    return status.st_uid, status.st_gid, status.st_mode & 0o7777


def test_what_the_ledger_forgot_is_opened_as_new_and_what_is_another_owners_left_alone(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (base / "workspaces").mkdir()
    monkeypatch.setattr(suspension, "HOMES", str(base / "homes"))
    monkeypatch.setattr(suspension, "WORKSPACES", str(base / "workspaces"))
    home, theirs = base / "homes" / "cs-demo", base / "workspaces" / "demo"
    for made, owner in ((home, UID), (theirs, UID + 1)):
        made.mkdir()
        os.chown(made, owner, owner)
        made.chmod(0o711)
    with contextlib.closing(Ledger(str(tmp_path / "ledger.db"))) as ledger:
        add_user(ledger, "ada")
        add_workspace(ledger, "demo", "ada", UID)
        suspension.seal_workspace(ledger, "demo")
        assert (found(home), found(theirs)) == ((0, UID, 0), (UID + 1, UID + 1, 0o711))
        ledger.remove_seal("demo")
        assert suspension.is_sealed(ledger, "demo")
        suspension.unseal_workspace(ledger, "demo")
        assert (found(home), found(theirs)) == ((UID, UID, 0o700), (UID + 1, UID + 1, 0o711))
