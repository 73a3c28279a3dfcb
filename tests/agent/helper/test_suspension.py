"""The rights of a disabled user's workspaces are kept, whatever interrupts `disable`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from agent.helper import suspension
from agent.helper.ledger.ledger import Ledger, WorkspaceRecord
from agent.helper.trees import directory_seal
from agent.shared.uids import EARLIEST

UID, GROUP = 98765, 98770


class Cut(BaseException):
    pass


@pytest.mark.parametrize("moment", ["fchmod", "fchown", "fsync"])
def test_what_a_cut_off_seal_has_changed_already_is_not_taken_for_what_was(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    made = base / "homes" / "demo"
    made.mkdir()
    os.chown(made, UID, GROUP)
    made.chmod(0o2711)
    place = (str(base / "homes"), "demo")
    with contextlib.closing(Ledger(str(tmp_path / "ledger.db"))) as ledger:
        ledger.add_user("ada", "now", UID, EARLIEST)
        ledger.add_workspace(WorkspaceRecord("demo", "ada", "id", "active", "now"))
        ledger.disable_user("ada", {"workspaces": {}})

        def cut(*_: object) -> None:
            raise Cut

        with monkeypatch.context() as patch:
            patch.setattr(os, moment, cut)
            with pytest.raises(Cut):
                suspension.seal_workspace(ledger, "ada", UID, place, "demo")
        if moment == "fchown":
            assert made.stat().st_mode & 0o7777 == 0
        suspension.seal_workspace(ledger, "ada", UID, place, "demo")
        before = ledger.before_disabled("ada")
        assert before is not None
        assert directory_seal.Rights(*before["workspaces"]["demo"]) == (0o2711, GROUP)
    found = made.stat()
    assert (found.st_uid, found.st_mode & 0o7777) == (0, 0)
