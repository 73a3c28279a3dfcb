"""Enter a workspace: its checks, its login and its sandbox are read once and held for what runs in it."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import ContextManager, Iterator, NamedTuple, Optional

from agent.helper.accounts import accounts
from agent.helper.ledger.lock import read_ledger
from agent.helper.runtime import slots
from agent.helper.runtime.sandboxes import Sandbox
from agent.helper.trees import trees
from agent.shared.errors import Disabled, InUse, NotFound, NotManaged
from agent.shared.names import HOMES, WORKSPACES, home_of, login_of, path_of


class Entry(NamedTuple):
    """A workspace that is ready for jobs, the uid of its login, and the sandbox that limits them, if any."""

    workspace: str
    uid: int
    sandbox: Optional[Sandbox]

    @property
    def login(self) -> str:
        """The Unix login of the workspace."""
        return login_of(self.workspace)

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
    """Hold a workspace for a job; changes that close or delete it wait until the job has ended.

    Raises NotFound, Disabled, NotManaged (account or directory are not what CodeSmith
    made) and LimitReached (no free slot).
    """
    before = _read_entry(workspace)
    with slots.hold_slot(), slots.hold_user(before.uid):
        # Read again under the lock: the user may have been disabled before we held it.
        entry = _read_entry(workspace)
        if entry.uid != before.uid:
            raise InUse(f"workspace {workspace!r} was made anew", hint="try again")
        yield entry


def _read_entry(workspace: str) -> Entry:
    """Return the entry of an active workspace of an active user."""
    with read_ledger() as ledger:
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
