"""Sandboxes in the helper: the ledger has changed, and the runtime could not be stopped."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from agent.helper import verbs
from agent.helper.ledger import lock
from agent.helper.ledger.ledger import Ledger
from agent.helper.runtime import units
from agent.helper.trees import trash, trees
from agent.shared.errors import CommandFailed


def test_a_sandbox_whose_runtime_does_not_end_is_half_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Ledger.__init__, "__defaults__", (str(tmp_path / "ledger.db"),))
    monkeypatch.setattr(lock, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(trees, "clean_staging", lambda: None)
    monkeypatch.setattr(trash, "empty", list)

    def killed(*_: str) -> None:
        raise CommandFailed("systemctl failed", command="systemctl stop", exit_code=-9, stderr="")

    monkeypatch.setattr(units, "stop", killed)
    caller, other = socket.socketpair()
    with caller, other, pytest.raises(CommandFailed) as failed:
        verbs.call("sandbox.remove", {"workspace": "demo"}, caller)
    assert failed.value.data["pending"]
