"""What every method gets: the store, the connection to the helper, the identity of the node and of this instance."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, Set

from agent.frontend.agent_forwarding import ForwardedAgents
from agent.frontend.audit import PATH as AUDIT_FILE
from agent.frontend.disk_usage import DiskUsage
from agent.frontend.helper_client import Helper
from agent.frontend.job_records import JobRecords
from agent.frontend.job_watch import JobWatch
from agent.frontend.runtime_client import Runtimes
from agent.frontend.store import Store
from agent.frontend.stream import Tokens
from agent.frontend.tokens import TokenBook
from agent.shared.clock import now
from agent.shared.errors import WaitedTooLong
from agent.shared.names import RUNTIMES

LOCK_WAIT_S = 60.0
NODE_FILE = "/etc/codesmith/node.json"
# A release has it beside the folder that it is unpacked in.
PACKED = "agent.pyz"


def read_node_id(path: str = NODE_FILE) -> str:
    """Return the node id that prepare wrote; empty when the file is missing or damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            return str(json.load(file)["node_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def read_build() -> str:
    """Return the SHA-256 of the packed file that this program is, or was unpacked from; empty when run from source."""
    program = sys.path[0]
    packed = program if os.path.isfile(program) else os.path.join(os.path.dirname(program), PACKED)
    try:
        with open(packed, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""


@dataclass(frozen=True)
class Context:
    """The context of all calls; one per process."""

    store: Store
    helper: Helper
    contract: Dict[str, Any]
    audit_file: str = AUDIT_FILE
    node_id: str = field(default_factory=read_node_id)
    build: str = field(default_factory=read_build)
    instance_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started_at: str = field(default_factory=now)
    # Workspaces whose first repository is being cloned by a call of this process.
    creating: Set[str] = field(default_factory=set)
    forwarded_agents: ForwardedAgents = field(default_factory=ForwardedAgents)
    stream_tokens: Tokens = field(default_factory=Tokens)
    tokens: TokenBook = field(init=False)
    runtimes_folder: str = RUNTIMES
    runtimes: Runtimes = field(init=False)
    disk_usage: DiskUsage = field(init=False)
    job_records: JobRecords = field(init=False)
    job_watch: JobWatch = field(init=False)
    _changing: Any = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        """Reach runtimes and files of workspaces through the helper of this context."""
        runtimes, records = Runtimes(self.helper, self.runtimes_folder), JobRecords(self.store)
        watch = JobWatch(runtimes, records, self.store)
        runtimes.when_used = watch.watch
        object.__setattr__(self, "tokens", TokenBook(self.store, self.contract))
        for name, value in (("runtimes", runtimes), ("job_records", records), ("job_watch", watch)):
            object.__setattr__(self, name, value)
        measure = DiskUsage(lambda name: self.helper.call("workspace.measure", workspace=name))
        object.__setattr__(self, "disk_usage", measure)

    @contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Hold the lock of changes; WaitedTooLong after LOCK_WAIT_S. A thread may take it twice."""
        if not self._changing.acquire(timeout=LOCK_WAIT_S):
            raise WaitedTooLong("other changes on this node take too long", hint="try again")
        try:
            yield
        finally:
            self._changing.release()
