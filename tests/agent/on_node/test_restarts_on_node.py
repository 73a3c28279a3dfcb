"""The agent restarts while it is called: no call fails, and nobody waits or tries again for it."""

from __future__ import annotations

import threading

import pytest

from codesmith.nodes.registry import Registry
from codesmith.sdk.client import Client
from tests.agent.on_node.web1 import Web1

pytestmark = pytest.mark.lab
RESTART = "systemctl restart codesmith-agent.service"


@pytest.mark.parametrize("restarts", [8, pytest.param(60, marks=pytest.mark.long)])
def test_no_call_fails_while_the_agent_restarts(web1: Web1, restarts: int) -> None:
    """By a kept connection, and by new ones: the first of them get streams that were opened to the agent before."""
    node = Registry.load(web1.person.registry).get("web1")
    web1.client.user.create(name="ada")
    instances = set()
    for number in range(restarts):
        restarting = threading.Thread(target=web1.on, args=[RESTART])
        restarting.start()
        while restarting.is_alive():
            instances.add(web1.client.node.info().instance_id)
            with Client(node) as client:
                instances.add(client.node.info().instance_id)
        restarting.join()
        with Client(node) as client:
            change = client.user.disable if number % 2 == 0 else client.user.enable
            assert change(name="ada").name == "ada"
    assert len(instances) >= restarts
    web1.client.user.delete(name="ada")


@pytest.mark.parametrize("restarts", [4, pytest.param(40, marks=pytest.mark.long)])
def test_the_first_call_after_a_restart_does_not_fail(web1: Web1, restarts: int) -> None:
    node = Registry.load(web1.person.registry).get("web1")
    web1.client.workspace.create(name="demo")
    for number in range(restarts):
        web1.on(RESTART)
        with Client(node) as client:
            assert client.workspace.exec(name="demo", argv=["echo", f"{number}"]).stdout == f"{number}\n"
        web1.on(RESTART)
        with Client(node) as client, client.run("demo", ["echo", f"{number}"]) as run:
            assert b"".join(piece.data for piece in run) == f"{number}\n".encode()
    web1.client.workspace.delete(name="demo")
