"""The agent restarts while it is called: no call fails, and nobody waits or tries again for it."""

from __future__ import annotations

import threading

import pytest

from codesmith.nodes.registry import Registry
from codesmith.sdk.client import Client
from tests.agent.on_node.web1 import Web1

pytestmark = pytest.mark.lab
RESTART = "systemctl restart codesmith-agent.service"
# A useradd that begins when somebody writes to this pipe.
SLOW_USERADD = """
mkfifo /etc/begun; mv /usr/sbin/useradd /usr/sbin/useradd.real
printf '#!/bin/sh\\nread go </etc/begun\\nexec /usr/sbin/useradd.real "$@"\\n' >/usr/sbin/useradd
chmod 755 /usr/sbin/useradd
"""
STOP_HELPER_MEANWHILE = """
exec 3>/etc/begun
systemctl stop --no-block codesmith-helper.service
until ! systemctl is-active --quiet codesmith-helper.service; do sleep 0.05; done
echo go >&3
systemctl stop codesmith-helper.service
"""


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


def test_an_account_tool_ends_before_the_helper_that_is_stopped(web1: Web1) -> None:
    web1.on(SLOW_USERADD)
    stopping = threading.Thread(target=web1.on, args=[STOP_HELPER_MEANWHILE])
    stopping.start()
    error = web1.error_of("user.create", {"name": "slow"})
    stopping.join()
    web1.on("mv /usr/sbin/useradd.real /usr/sbin/useradd; rm /etc/begun")
    assert error == ""
    assert web1.on("getent passwd cs-slow | wc -l; ls /etc/passwd.lock /etc/group.lock 2>&-", check=False).out == "1\n"
    web1.client.user.delete(name="slow")
