"""A clone with the operator's ssh agent: the key stays on this machine, and nobody else on the node can use it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codesmith.errors import AgentRefused
from codesmith.nodes.registry import Registry
from codesmith.sdk.client import Client
from tests.agent.on_node.forge import Forge, make
from tests.agent.on_node.web1 import Web1
from tests.ssh_agent import SshAgent, running_agent

pytestmark = pytest.mark.lab
# By way of the mount namespace of a process of the job: /tmp is the job's own.
FIND = "for pid in $(pgrep -u cs-{0} -x ssh); do ls /proc/$pid/root/tmp/codesmith-*/agent; done"
LEFT = """
main=$(systemctl show --property=MainPID --value codesmith-workspace@{0}.service)
pgrep -u cs-{0} | grep -vx "$main"; ls -d /tmp/codesmith-* /proc/$main/root/tmp/codesmith-*
"""


@pytest.fixture
def web1(two: tuple[Web1, Forge]) -> Web1:
    return two[0]


@pytest.fixture
def agent(forge: Forge) -> Iterator[SshAgent]:
    with running_agent() as started:
        started.add(forge.key)
        yield started


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


def test_a_person_clones_with_the_keys_of_their_agent(
    web1: Web1, forge: Forge, agent: SshAgent, tmp_path: Path
) -> None:
    make(web1, "lent")
    (tmp_path / "known").write_text(forge.known_host + "\n")
    url, known = f"git@{forge.host}:/srv/git/private.git", f"--known-hosts {tmp_path}/known --node web1"
    web1.person.runs(f"inv repo.clone lent {url} {known}", code=6)
    here = f"SSH_AUTH_SOCK={agent.path}"
    said = web1.person.runs(f"CODESMITH_DEBUG=rpc {here} inv repo.clone lent {url} {known} --forward-agent --json")
    assert said.json["branch"] == "main"
    assert '"credential": "..."' in said.err
    first = forge.commit("v1")
    said = web1.person.runs(f"{here} inv workspace.create lent2 --repo {url} --ref {first} {known} --forward-agent")
    assert web1.client.repo.get(workspace="lent2", name="private").commit == first
    records = [one for one in web1.client.audit.list(limit=10) if one.method in ("repo.clone", "workspace.create")]
    assert [one.target.get("credential") for one in records[:2]] == ["agent", "agent"]
    assert web1.on(LEFT.format("lent"), check=False).out == ""
    none = web1.person.fails(f"env -u SSH_AUTH_SOCK inv repo.clone lent {url} --name x {known} --forward-agent", code=1)
    assert "SSH_AUTH_SOCK" in none.err
    for wrong in (f"{forge.https}/private.git {known}", f"{url} --credential-file /dev/null {known}"):
        web1.person.runs(f"{here} inv repo.clone lent {wrong} --name x --forward-agent", code=1)


def test_another_process_of_the_login_gets_nothing(web1: Web1, forge: Forge, agent: SshAgent) -> None:
    make(web1, "mine")
    agent.halt()
    lending = Lending(web1, forge, agent, "mine")
    become = "setpriv --reuid=cs-mine --regid=cs-mine --clear-groups"
    assert web1.on(f"stat --format=%a {lending.socket} $(dirname {lending.socket})").out.split() == ["600", "700"]
    agent.go_on()
    assert lending.wait() == "main"
    agent.halt()
    web1.client.repo.delete(workspace="mine", name="private")
    lending = Lending(web1, forge, agent, "mine")
    # It does not even wait for the agent, which answers nobody now (124 would be the end of the wait); whether ssh-add
    # reads the end of the connection or trips over it while it writes (141) is a matter of who was faster.
    tried = web1.on(f"{become} env SSH_AUTH_SOCK={lending.socket} timeout 20 ssh-add -l", check=False)
    assert tried.code not in (0, 124), tried
    assert tried.out == "", tried
    # Nor does a command of the workspace itself, beside the clone.
    tried = "SSH_AUTH_SOCK=$(ls -d /tmp/codesmith-*/agent) timeout 20 ssh-add -l"
    ended = web1.client.workspace.exec(name="mine", argv=["sh", "-c", tried])
    assert (ended.exit_code not in (0, 124), ended.stdout) == (True, ""), ended
    agent.go_on()
    assert lending.wait() == "main"
    assert web1.on(LEFT.format("mine"), check=False).out == ""


def test_a_clone_ends_with_the_agent_it_borrowed(web1: Web1, forge: Forge, agent: SshAgent) -> None:
    code = make(web1, "left")
    agent.halt()
    lending = Lending(web1, forge, agent, "left")
    agent.end()
    assert lending.wait() == "command_failed"
    assert web1.on(f"ls -A {code}").out == ""
    assert web1.on(LEFT.format("left"), check=False).out == ""
