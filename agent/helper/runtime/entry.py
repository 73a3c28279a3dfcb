"""A workspace that something may run in: what the ledger, the account databases and the directories say of it."""

from __future__ import annotations

from typing import NamedTuple, Optional

from agent.helper.accounts import accounts
from agent.helper.ledger.ledger import Ledger
from agent.helper.runtime.sandboxes import Sandbox
from agent.helper.trees import trees
from agent.shared.errors import Disabled, NotFound, NotManaged
from agent.shared.names import HOMES, WORKSPACES, home_of, login_of, path_of


class Entry(NamedTuple):
    """A workspace, the uid that its runtime has, and the sandbox that limits it, if any."""

    workspace: str
    uid: int
    sandbox: Optional[Sandbox]

    @property
    def login(self) -> str:
        """The Unix login of the workspace."""
        return login_of(self.workspace)


def read_entry(ledger: Ledger, workspace: str) -> Entry:
    """Return the entry of an active workspace of an active user.

    Raises NotFound, Disabled, and NotManaged (account or directories are not what CodeSmith made).
    """
    record = ledger.workspace(workspace)
    user, login = ledger.user(record.user) if record else None, ledger.login(workspace)
    sandbox = ledger.sandbox(workspace)
    if record is None and trees.exists(WORKSPACES, workspace):
        problem = f"the helper's ledger does not know workspace {workspace!r}, but {path_of(workspace)} is there"
        raise NotFound(problem, hint="inv node.health")
    if record is None or user is None or login is None or record.state != "active":
        raise NotFound(f"no workspace {workspace!r} on this node")
    if user.state != "active":
        raise Disabled.user(user.name)
    if accounts.check_ours(workspace, login.uid) is None:
        raise NotManaged(f"the Unix account {login_of(workspace)!r} is gone", hint="inv node.health")
    places = ((WORKSPACES, workspace, path_of(workspace)), (HOMES, login_of(workspace), home_of(workspace)))
    for parent, entry, path in places:
        if not trees.is_owned_directory(parent, entry, login.uid):
            problem = f"the directory {path} is gone, or not the one that CodeSmith made"
            raise NotManaged(problem, hint=f"on the node: ls -ld {path}")
    return Entry(workspace, login.uid, Sandbox(workspace, *sandbox) if sandbox else None)
