"""SIGKILL at any moment, and power cuts right after a reply or in the middle of a change."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from codesmith.errors import CodeSmithError
from tests.faults.conftest import Faulty

pytestmark = pytest.mark.lab
SEED = int(os.environ.get("CODESMITH_STORM_SEED", "20261124"))
KILLS = int(os.environ.get("CODESMITH_STORM_KILLS", "200"))
FEW_KILLS = int(os.environ.get("CODESMITH_STORM_KILLS", "16"))
# Of the changes of a test, those at which the power is cut: in `make test` two of them.
FEW_CUTS = int(os.environ.get("CODESMITH_STORM_KILLS", "100")) // 50
NUMBERS = itertools.count(1)
LEFT = """
cat /etc/passwd /etc/shadow /etc/group /etc/gshadow | cut -d: -f1 | sort -u | grep ^cs-
ls -A /srv/codesmith/home /srv/codesmith/workspaces /srv/codesmith/.staging /srv/codesmith/.trash
"""


@pytest.mark.parametrize("kills", [FEW_KILLS, pytest.param(KILLS, marks=pytest.mark.long)])
@pytest.mark.timeout(300 + 3 * KILLS)
def test_a_kill_at_any_moment_leaves_everything_complete_or_absent(faulty: Faulty, kills: int) -> None:
    """CODESMITH_STORM_SEED and CODESMITH_STORM_KILLS choose another storm."""
    told = faulty.storm(SEED, kills)
    assert told["failures"] == [], told
    assert sum(told["kills"].values()) >= kills


SLOW_USERADD = """
touch /tmp/hold
rm -f /tmp/runs
mv /usr/sbin/useradd /usr/sbin/useradd.real
cat > /usr/sbin/useradd <<'END'
#!/bin/sh
echo run >> /tmp/runs
echo $PPID > /tmp/parent.new; mv /tmp/parent.new /tmp/parent
while test -e /tmp/hold; do sleep 0.02; done
exec /usr/sbin/useradd.real "$@"
END
chmod 755 /usr/sbin/useradd
"""


def test_a_tool_that_outlives_its_helper_holds_up_the_next_change(faulty: Faulty) -> None:
    request = {"name": "slow", "request_id": "slow-1"}
    first, second = (threading.Thread(target=lambda: attempt(faulty.client.user.create, request)) for _ in range(2))
    faulty.on(SLOW_USERADD)
    try:
        first.start()
        faulty.person.wait_until(lambda: faulty.on("test -e /tmp/parent", check=False).ok, within_s=30)
        faulty.on("kill -9 $(cat /tmp/parent)")
        first.join()
        second.start()
        waits = "pgrep -P $(systemctl show --property=MainPID --value codesmith-helper.service) python3"
        faulty.person.wait_until(lambda: faulty.on(waits, check=False).ok, within_s=30)
        for _ in range(5):  # well within the time that a change waits for another one
            assert faulty.on("wc -l < /tmp/runs").out.strip() == "1"
        faulty.on("rm /tmp/hold")
    finally:
        faulty.on("rm -f /tmp/hold")
        for call in (first, second):
            if call.ident is not None:
                call.join()
        faulty.on("mv /usr/sbin/useradd.real /usr/sbin/useradd")
    assert faulty.client.user.create(**request).state == "active"
    outcomes = [one.outcome for one in faulty.client.audit.list(user="slow")][::-1]
    assert outcomes == ["in_use", "resumed", "ok", "ok"]
    assert faulty.client.user.delete(name="slow").deleted
    faulty.client.close()


def cut_power(faulty: Faulty) -> None:
    """Kill the whole node and switch it on again."""
    faulty.person.lab_node("web1").power_cut()
    faulty.client.close()
    faulty.person.lab_node("web1").start()
    faulty.wait_until_it_answers()


@pytest.mark.parametrize("replies", [(2, 4), pytest.param(range(5), marks=pytest.mark.long)], ids=len)
def test_a_reply_stays_true_after_a_power_cut(faulty: Faulty, replies: Sequence[int]) -> None:
    client = faulty.client
    steps: list[tuple[Callable[..., Any], dict[str, Any], Callable[[], Any]]] = [
        (client.workspace.create, {"name": "dur"}, lambda: client.workspace.get(name="dur").user == "dur"),
        (client.user.create, {"name": "able"}, lambda: client.user.get(name="able").state == "active"),
        (
            client.workspace.assign,
            {"name": "dur", "user": "able"},
            lambda: client.workspace.get(name="dur").user == "able",
        ),
        (client.user.disable, {"name": "able"}, lambda: client.user.get(name="able").state == "disabled"),
        (client.workspace.delete, {"name": "dur"}, lambda: client.workspace.list() == []),
    ]
    for number, (call, params, is_true) in enumerate(steps):
        request = {**params, "request_id": f"cut-{next(NUMBERS)}"}
        told = call(**request)
        if number in replies:
            cut_power(faulty)
        assert is_true()
        assert call(**request) == told
        assert [one.status for one in client.node.health().checks if one.name in ("pending", "store")] == ["ok", "ok"]
    for name in ("able", "dur"):
        assert client.user.delete(name=name).deleted
    assert "cs-" not in faulty.on(LEFT, check=False).out
    client.close()


@pytest.mark.parametrize("cuts", [FEW_CUTS, pytest.param(KILLS // 50, marks=pytest.mark.long)])
@pytest.mark.timeout(300 + 3 * KILLS)
def test_a_change_cut_off_by_a_power_cut_is_completed(faulty: Faulty, cuts: int) -> None:
    """CODESMITH_STORM_SEED chooses other ones and other moments; with 500 CODESMITH_STORM_KILLS it is each of them."""
    client, moments = faulty.client, random.Random(SEED)
    repo = {"url": "https://127.0.0.1:8443/public.git"}
    steps: list[tuple[Callable[..., Any], dict[str, Any], float]] = [
        (client.workspace.create, {"name": "mid"}, 0.15),
        (client.user.create, {"name": "heir"}, 0.1),
        (client.workspace.assign, {"name": "mid", "user": "heir"}, 0.15),
        (client.user.disable, {"name": "heir"}, 0.1),
        (client.user.enable, {"name": "heir"}, 0.1),
        (client.repo.clone, {"workspace": "mid", **repo}, 0.4),
        (client.workspace.delete, {"name": "mid"}, 0.1),
        (client.user.delete, {"name": "mid"}, 0.15),
        (client.workspace.create, {"name": "mid", "repo": repo}, 0.6),
        (client.workspace.delete, {"name": "mid"}, 0.2),
    ]
    cut_off = moments.sample(range(len(steps)), min(cuts, len(steps)))
    for number, (call, params, usual_s) in enumerate(steps):
        request = {**params, "request_id": f"mid-{next(NUMBERS)}"}
        if number in cut_off:
            running = threading.Thread(target=lambda call=call, request=request: attempt(call, request))
            running.start()
            time.sleep(moments.uniform(0, usual_s))  # the moment is the test's, nothing is waited for
            cut_power(faulty)
            running.join()
        told = call(**request)
        assert call(**request) == told
        assert [one.status for one in client.node.health().checks if one.name in ("pending", "store")] == ["ok", "ok"]
        assert faulty.on("pwck -rq; grpck -r", check=False).out == ""
        if number == 5:
            assert client.workspace.exec(name="mid", argv=["cat", "code/public/one"]).stdout == "one\n"
    assert client.user.delete(name="heir").deleted
    assert "cs-" not in faulty.on(LEFT, check=False).out
    client.close()


def attempt(call: Callable[..., Any], params: dict[str, Any]) -> None:
    """Make a call that may be cut off."""
    try:
        call(**params)
    except CodeSmithError:
        pass
