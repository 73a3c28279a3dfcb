"""Enter a workspace: its checks, its user and its sandbox are read once and held for what runs in it."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import ContextManager, Iterator, NamedTuple, Optional

from agent.helper.accounts import accounts
from agent.helper.ledger.lock import read_ledger
from agent.helper.runtime import slots
from agent.helper.runtime.sandboxes import Sandbox
from agent.helper.trees import trees
from agent.shared.errors import Disabled, InUse, NotFound, NotManaged
from agent.shared.names import WORKSPACES, login_of, path_of


class Entry(NamedTuple):
    """A workspace that is ready for jobs, the user that they run as, and the sandbox that limits them, if any."""

    workspace: str
    user: str
    uid: int
    sandbox: Optional[Sandbox]

    @property
    def login(self) -> str:
        """The Unix login of the workspace's user."""
        return login_of(self.user)

    def exclude_commands(self) -> ContextManager[None]:
        """Hold off commands without network during a clone here; InUse when one runs.

        Both run as one login, so a command could make processes of the clone use the network for it.
        """
        return self._network_lock(alone=True)

    def exclude_clones(self) -> ContextManager[None]:
        """Hold off clones during a command without network here; InUse when one runs."""
        return self._network_lock(alone=False)

    def _network_lock(self, *, alone: bool) -> ContextManager[None]:
        is_offline = self.sandbox is not None and self.sandbox.network == "none"
        return slots.hold_network(self.uid, alone=alone) if is_offline else nullcontext()


@contextmanager
def enter(workspace: str) -> Iterator[Entry]:
    """Hold a workspace for a job; changes that disable or delete its user wait until the job has ended.

    Raises NotFound, InUse (it is being assigned), Disabled, NotManaged (account or directory are not what CodeSmith
    made) and LimitReached (no free slot).
    """
    before = _read_entry(workspace)
    with slots.hold_slot(), slots.hold_user(before.uid):
        # Read again under the lock: the user may have been disabled, or the workspace assigned, before we held it.
        entry = _read_entry(workspace)
        if (entry.user, entry.uid) != (before.user, before.uid):
            raise InUse(f"workspace {workspace!r} is being assigned to another user", hint="try again")
        yield entry


def _read_entry(workspace: str) -> Entry:
    """Return the entry of an active workspace of an active user."""
    with read_ledger() as ledger:
        record = ledger.workspace(workspace)
        user = ledger.user(record.user) if record else None
        sandbox = ledger.sandbox(workspace)
    if record is None and trees.exists(WORKSPACES, workspace):
        problem = f"the helper's ledger does not know workspace {workspace!r}, but {path_of(workspace)} is there"
        raise NotFound(problem, hint="inv node.health")
    if record is not None and record.state == "moving":
        problem = f"the assignment of workspace {workspace!r} to another user is not finished"
        raise InUse(problem, hint=f"inv workspace.assign {workspace} USER")
    if record is None or user is None or record.state != "active":
        raise NotFound(f"no workspace {workspace!r} on this node")
    if user.state != "active":
        raise Disabled.user(user.name)
    if accounts.check_ours(user.name, user.uid) is None:
        raise NotManaged(f"the Unix account {login_of(user.name)!r} is gone", hint="inv node.health")
    if not trees.is_owned_directory(WORKSPACES, workspace, user.uid):
        problem = f"the directory {path_of(workspace)} is gone, or not the one that CodeSmith made"
        raise NotManaged(problem, hint=f"on the node: ls -ld {path_of(workspace)}")
    return Entry(workspace, user.name, user.uid, Sandbox(workspace, *sandbox) if sandbox else None)
