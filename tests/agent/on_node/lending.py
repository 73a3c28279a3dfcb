"""A clone that borrows the operator's ssh agent, under way in another thread."""

from __future__ import annotations

import threading
from typing import Any

from codesmith.errors import AgentRefused
from codesmith.nodes.registry import Registry
from codesmith.sdk.client import Client
from tests.agent.on_node.forge import Forge
from tests.agent.on_node.web1 import Web1
from tests.ssh_agent import SshAgent

# By way of the mount namespace of a process of the job: /tmp is the job's own.
FIND = "for pid in $(pgrep -u cs-{0} -x ssh); do ls /proc/$pid/root/tmp/codesmith-*/agent; done"
LEFT = """
main=$(systemctl show --property=MainPID --value codesmith-workspace@{0}.service)
pgrep -u cs-{0} | grep -vx "$main"; ls -d /tmp/codesmith-* /proc/$main/root/tmp/codesmith-*
"""


class Lending:
    """A clone with a lent agent, under way in another thread."""

    def __init__(self, web1: Web1, forge: Forge, agent: SshAgent, workspace: str) -> None:
        self._web1, self._agent, self.outcome = web1, agent, ""
        url = f"git@{forge.host}:/srv/git/private.git"
        self._wanted: dict[str, Any] = {"workspace": workspace, "url": url, "known_hosts": [forge.known_host]}
        self._thread = threading.Thread(target=self._clone)
        self._thread.start()
        found = FIND.format(workspace)
        web1.person.wait_until(lambda: bool(web1.on(found, check=False).out), within_s=60)
        self.socket = web1.on(found).out.split()[0]

    def wait(self) -> str:
        self._thread.join(120)
        return self.outcome

    def _clone(self) -> None:
        with Client(Registry.load(self._web1.person.registry).get("web1")) as client:
            try:
                with client.forward_agent(self._wanted["url"], str(self._agent.path)) as credential:
                    self.outcome = client.repo.clone(**self._wanted, credential=credential).branch or ""
            except AgentRefused as error:
                self.outcome = error.rpc_kind
