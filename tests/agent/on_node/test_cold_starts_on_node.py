"""Runtimes that many ask for at the moment when they are made, or made anew for another release."""

from __future__ import annotations

import pytest

from agent.helper.ledger.lock import LOCK
from agent.shared.names import RUNTIMES, unit_of
from tests.agent.on_node.test_keys_on_node import OPTIONS
from tests.agent.on_node.web1 import Web1
from tests.releases import TRIXIE_FIRST

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]
ROUNDS, AT_ONCE = 2, 6
# While somebody else has the lock: the first child of a new helper has answered, and waits or has done what it does.
SWEEP = """
systemctl stop codesmith-helper.service
{call} >/dev/null
main=$(systemctl show --property=MainPID --value codesmith-helper.service)
until ! child=$(pgrep -P $main) || ls -l /proc/$child/fd | grep -q {lock}; do :; done
systemctl is-active {socket}
"""


def test_all_who_come_at_once_into_a_stopped_workspace_get_in(web1: Web1) -> None:
    """The socket that PID 1 makes belongs to root for a moment."""
    web1.on("mkdir -p -m 700 /root/.ssh; ssh-keygen -q -N '' -t ed25519 -f /root/.ssh/first")
    web1.client.workspace.create(name="cold", ssh_keys=[web1.on("cat /root/.ssh/first.pub").out.strip()])
    ssh = f"ssh {OPTIONS} -i /root/.ssh/first cs-cold@127.0.0.1 echo up </dev/null 2>&1"
    for _ in range(ROUNDS):
        web1.client.workspace.stop(name="cold")
        said = web1.on(f"for one in $(seq {AT_ONCE}); do {ssh} & done; wait")
        assert said.out.splitlines() == ["up"] * AT_ONCE


def test_sockets_of_another_release_are_forgotten_only_under_the_lock(web1: Web1) -> None:
    """Otherwise a socket that somebody makes anew meanwhile is taken for the old one, and what runs is ended."""
    web1.client.workspace.create(name="old")
    web1.client.workspace.start(name="old")
    socket, service = (unit_of("old", kind) for kind in ("socket", "service"))
    web1.on(f"systemctl kill --signal=KILL {service}")
    web1.person.wait_until(lambda: not web1.on(f"systemctl is-active {service}", check=False).ok, within_s=20)
    web1.on(f"cd {RUNTIMES}; sed -i 's,/releases/,/releases/0,' old.json; rm -f .swept.json")
    call = web1.helper_command({"verb": "node.check", "arguments": {}})
    script = SWEEP.format(call=call, lock=LOCK, socket=socket)
    web1.on(f"cat >/root/sweep <<'END'\n{script}\nEND")
    assert web1.on(f"flock {LOCK} sh /root/sweep", check=False).out == "active\n"
    web1.person.wait_until(lambda: not web1.on(f"systemctl is-active {socket}", check=False).ok, within_s=20)
    assert web1.client.workspace.exec(name="old", argv=["echo", "up"]).stdout == "up\n"
