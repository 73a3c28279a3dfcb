"""What ends with a user: the processes in workspaces that are shared with it, and its sessions."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.helper import logins, lost_records, suspension, users, workspaces
from agent.helper.accounts import accounts, databases, door_sessions, login_keys, login_marks, processes, session_limits
from agent.helper.ledger.ledger import Ledger, WorkspaceRecord
from agent.helper.runtime import disk_quota
from agent.helper.trees import mounts, trash
from agent.shared.errors import InUse
from tests.agent.helper.records import add_user, add_workspace


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A ledger with the pair `bob`, who may enter `team` too; verbs find it, and nothing of it on the node."""
    with contextlib.closing(Ledger(str(tmp_path / "ledger.db"))) as there:
        for name in ("ada", "bob"):
            add_user(there, name)
        add_workspace(there, "team", "ada")
        there.add(WorkspaceRecord("bob", "bob", "id", "active", "now"))
        there.share("team", "bob")
        held = contextlib.contextmanager(lambda **_: (yield there))
        for verbs in (users, workspaces):
            monkeypatch.setattr(verbs, "exclusive_ledger", held)
        monkeypatch.setattr(lost_records, "restore", lambda ledger, name: ledger.login(name))
        yield there


@pytest.mark.parametrize(("remove_user", "ended"), [(True, ["bob", "team"]), (False, ["bob"])])
def test_with_a_pair_ends_what_runs_in_workspaces_that_are_shared_with_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, remove_user: bool, ended: list[str]
) -> None:
    calls: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(logins, "shut_out", lambda *_: None)
    monkeypatch.setattr(logins, "check_removable", lambda *_, **__: None)
    monkeypatch.setattr(logins, "check_ours", lambda ledger, names: calls.append(("check", sorted(names))))
    monkeypatch.setattr(suspension, "end_all", lambda ledger, names: calls.append(("end", sorted(names))))
    monkeypatch.setattr(logins, "remove", lambda *_, **__: [])
    monkeypatch.setattr(disk_quota, "forget", lambda *_: None)
    monkeypatch.setattr(trash, "empty", list)
    with socket.socket() as caller:
        assert workspaces.remove_workspace(caller, "bob", remove_user)["user_removed"] is remove_user
    assert calls[-1] == ("end", ended)
    assert not remove_user or ("check", ended) in calls, "before anything is done"


def refuse(*_: object) -> None:
    raise InUse("some processes do not end")


@pytest.fixture
def sessions_ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return whose sessions at the node's sshd were ended; what runs in workspaces survives."""
    ended: list[str] = []
    monkeypatch.setattr(suspension, "end_all", refuse)
    monkeypatch.setattr(login_keys, "remove", lambda *_: None)
    monkeypatch.setattr(login_marks, "write", lambda *_: None)
    monkeypatch.setattr(session_limits, "remove", lambda *_: [])
    monkeypatch.setattr(accounts, "close_access", lambda *_: None)
    monkeypatch.setattr(databases, "check_changeable", lambda *_: None)
    monkeypatch.setattr(logins, "check_ours", lambda *_: None)
    monkeypatch.setattr(logins, "check_removable", lambda *_, **__: None)
    monkeypatch.setattr(door_sessions, "end", lambda name, *_, **__: ended.append(name))
    return ended


def test_sessions_of_a_disabled_user_end_whatever_survives(
    ledger: Ledger, sessions_ended: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspension, "seal_workspace", lambda *_: None)
    monkeypatch.setattr(mounts, "refuse_immutable", lambda *_: None)
    user = ledger.user("bob")
    assert user is not None
    with pytest.raises(InUse) as refusal:
        suspension.disable(ledger, user)
    assert (sessions_ended, refusal.value.data["pending"]) == (["bob"], True)


@pytest.mark.parametrize("what_goes", ["user", "user of an assigned workspace", "pair"])
def test_sessions_of_who_is_deleted_end_whatever_survives(
    ledger: Ledger, sessions_ended: list[str], what_goes: str
) -> None:
    if what_goes != "pair":
        ledger.assign("bob", "ada")
    if what_goes == "user":
        ledger.remove("bob", workspace=True)
    with socket.socket() as caller, pytest.raises(InUse) as refusal:
        if what_goes == "pair":
            workspaces.remove_workspace(caller, "bob", True)
        else:
            users.remove_user(caller, "bob")
    assert (sessions_ended, refusal.value.data["pending"]) == (["bob"], True)
    assert ledger.user("bob"), "the second call completes the first"


def test_sessions_end_whatever_the_login_has_left_running(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"t{os.getpid()}"
    monkeypatch.setattr(processes, "end_all", refuse)
    with subprocess.Popen([f"sshd: cs-{name} [priv]", "1000"], executable="/bin/sleep") as server:
        try:
            with pytest.raises(InUse):
                door_sessions.end(name, 70000)
            assert server.wait(timeout=10) == -signal.SIGKILL
        finally:
            server.kill()
