"""Users and workspaces in a ledger, as if they had been made."""

from __future__ import annotations

from agent.helper.ledger.ledger import Ledger, UserRecord, WorkspaceRecord
from agent.shared.uids import EARLIEST


def add_user(ledger: Ledger, name: str, uid: int = 70000) -> int:
    """Add an active user with its login; return its uid, at least `uid`."""
    login = ledger.new_login(name, "now", uid, EARLIEST)
    ledger.add(login, UserRecord(name, "pending", "now"))
    ledger.activate(name)
    return login.uid


def add_workspace(ledger: Ledger, name: str, user: str, uid: int = 70000) -> int:
    """Add a workspace of a user with its login; return its uid, at least `uid`."""
    login = ledger.new_login(name, "now", uid, EARLIEST)
    ledger.add(login, WorkspaceRecord(name, user, "id", "pending", "now"))
    ledger.activate(name)
    return login.uid
