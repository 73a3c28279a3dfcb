"""The runtime of a workspace: one place for everything, started on demand, ended when idle."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agent.shared.names import RUNTIMES, unit_of
from codesmith.errors import CodeSmithError
from codesmith.nodes.registry import Registry
from codesmith.sdk.api import Execution
from codesmith.sdk.client import Client
from tests.agent.on_node.door_one import Door, alias, free_port
from tests.agent.on_node.web1 import Web1, command
from tests.releases import BOOKWORM_BEFORE_TRIXIE, BOOKWORM_FIRST

pytestmark = pytest.mark.lab
HOG = "import time; x = bytearray(24 << 20); time.sleep(6); print(len(x))"
# What a shell, PAM, sshd, a mail server and a user manager would run as the login.
PLANTED = """
mkdir -p ~/.ssh ~/.config/systemd/user/default.target.wants
for file in .bashrc .profile .bash_profile .ssh/rc; do echo 'touch /tmp/planted; setsid sleep 1009 &' >~/$file; done
echo 'LD_PRELOAD DEFAULT=/tmp/evil.so' >~/.pam_environment
echo '|"touch /tmp/planted"' >~/.forward
printf '[Service]\\nExecStart=/bin/sleep 1009\\n' >~/.config/systemd/user/own.service
ln -s ../own.service ~/.config/systemd/user/default.target.wants/
"""
# A try takes a while, as on a busy node.
SLOW_TO_FAIL = """
mkdir {place}
cat >{place}/slow.conf <<'END'
[Service]
ExecStartPre=/bin/sh -c "sleep 0.25; false"
END
systemctl daemon-reload
"""
WALK = """
import os, sys
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        uid, groups = os.stat(f"/proc/{pid}").st_uid, open(f"/proc/{pid}/cgroup").read().split()
        name = open(f"/proc/{pid}/cmdline").read().replace(chr(0), " ")
        if open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] in "ZX":
            continue  # it has ended, and is in no group any more
    except OSError:
        continue
    if int(sys.argv[1]) <= uid < int(sys.argv[1]) + 10000:
        print(uid, sorted({group.split(":")[2] for group in groups if "systemd" in group or "memory" in group}), name)
"""


def state_on(web1: Web1, name: str, kind: str = "service") -> str:
    return web1.on(f"systemctl is-active {unit_of(name, kind)}", check=False).out.strip()


def execute(web1: Web1, name: str, *argv: str, **options: Any) -> Execution:
    """Run a command by a client of its own, as another thread."""
    with Client(Registry.load(web1.person.registry).get("web1")) as client:
        return client.workspace.exec(name=name, argv=list(argv), **options)


@BOOKWORM_FIRST
def test_a_runtime_starts_on_demand_and_ends_when_it_is_idle(web1: Web1) -> None:
    client = web1.client
    assert client.workspace.create(name="calm").runtime.state == "stopped"
    assert client.workspace.exec(name="calm", argv=["id", "-un"]).stdout == "cs-calm\n"
    runtime = client.workspace.get(name="calm").runtime
    assert runtime.state == "running"
    assert runtime.since is not None
    assert runtime.idle_stop_at is not None
    assert runtime.since < runtime.idle_stop_at
    # After a SIGKILL too.
    web1.on(f"systemctl kill --signal=KILL {unit_of('calm', 'service')}")
    web1.person.wait_until(lambda: state_on(web1, "calm") != "active", within_s=20)
    assert client.workspace.exec(name="calm", argv=["echo", "well"]).stdout == "well\n"
    # With a shorter time until it is idle.
    web1.on(f"systemctl stop {unit_of('calm', 'service')}; sed -i 's/300.0/1.0/' {RUNTIMES}/calm.json")
    assert client.workspace.exec(name="calm", argv=["echo", "well"]).stdout == "well\n"
    web1.person.wait_until(lambda: client.workspace.get(name="calm").runtime.state == "stopped", within_s=20)
    assert state_on(web1, "calm") == "inactive"
    assert state_on(web1, "calm", "socket") == "active"
    usage = client.workspace.usage(name="calm")
    assert (usage.memory_bytes, usage.tasks, usage.memory_limit_bytes) == (0, 0, None)
    assert (usage.disk_bytes or 0) > 0
    assert (usage.files or 0) >= 8
    client.workspace.list()
    client.sandbox.list()
    assert state_on(web1, "calm") == "inactive", "looking starts nothing"
    assert client.workspace.exec(name="calm", argv=["echo", "again"]).stdout == "again\n"
    assert client.workspace.stop(name="calm").runtime.state == "stopped"
    assert state_on(web1, "calm", "socket") == "inactive"
    started = client.workspace.start(name="calm").runtime
    assert (started.state, started.since is not None) == ("running", True)
    usage = client.workspace.usage(name="calm")
    assert (usage.memory_bytes > 0, usage.tasks, usage.cpu_s > 0) == (True, 1, True)
    assert usage.memory_bytes <= 9 << 20
    client.workspace.delete(name="calm")
    assert web1.on(f"ls {RUNTIMES}").out == ""


@BOOKWORM_BEFORE_TRIXIE
def test_limits_hold_for_all_commands_of_a_workspace_together(web1: Web1) -> None:
    client = web1.client
    client.workspace.create(name="all")
    client.sandbox.create(workspace="all", limits={"memory_bytes": 96 << 20, "tasks": 40})
    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(execute, web1, "all", "python3", "-c", HOG) for _ in range(12)]
    # Where the limit leaves not even the kernel memory for pipes, it is an answer too.
    ended = [call.result() for call in calls if call.exception() is None]
    assert {done.killed_by for done in ended} == {None, "memory"}
    refusals = [call.exception() for call in calls if call.exception() is not None]
    assert all("Cannot allocate memory" in str(one) for one in refusals), refusals
    usage = client.workspace.usage(name="all")
    assert usage.memory_limit_bytes == 96 << 20
    assert 0 < (usage.memory_peak_bytes or 96 << 20) <= 96 << 20
    assert client.workspace.get(name="all").runtime.state == "running", "the supervisor goes on"
    many = "for i in $(seq 25); do sleep 6 & done; wait; echo all"
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(execute, web1, "all", "sh", "-c", many) for _ in range(2)]
        assert sorted(call.result().stdout for call in calls) != ["all\n", "all\n"]
    client.workspace.delete(name="all")


@BOOKWORM_BEFORE_TRIXIE
def test_everything_of_a_login_is_in_its_runtime(web1: Web1) -> None:
    client = web1.client
    # Their own logins are closed: that of the user is the one that sshd lets in.
    client.user.create(name="owner")
    for name in ("a", "a-b"):
        client.workspace.create(name=name, user="owner")
        client.workspace.exec(name=name, argv=["bash", "-c", PLANTED])
    uid, door = client.workspace.get(name="a").uid, Door(web1)
    sftp = door.running("-b", "-", alias("a"), program="sftp")
    forward = door.running("-N", "-L", f"{free_port()}:127.0.0.1:22", alias("a-b"))
    with ThreadPoolExecutor(4) as pool, door.session("a"), door.session("a-b"), sftp, forward:
        calls = [
            pool.submit(execute, web1, name, *argv)
            for name in ("a", "a-b")
            for argv in (["sleep", "3"], ["bash", "-lic", "sleep 3"])
        ]
        web1.person.wait_until(lambda: len(web1.on("pgrep -x sleep", check=False).out.split()) >= 4, within_s=20)
        web1.on("su -s /bin/bash - cs-a -c 'sleep 1010'; runuser -l cs-a -c 'sleep 1010'", check=False)
        web1.on(f"systemctl start user@{uid}.service", check=False)
        walked = web1.on(f"python3 -I -c '{WALK}' {uid - 5000}").out.splitlines()
        for call in calls:
            call.result()
    units = [f"/codesmith.slice/{unit_of(name, 'service')}" for name in ("a", "a-b")]
    assert len(walked) >= 12
    for program in ("sshd", "sleep", "cat"):
        assert any(program in line for line in walked), (program, walked)
    outside = [line for line in walked if not any(f"['{unit}']" in line for unit in units)]
    assert outside == []
    assert web1.on("ls /tmp/planted", check=False).out == ""
    # One name begins with the other.
    client.workspace.start(name="a-b")
    client.workspace.stop(name="a")
    assert client.workspace.get(name="a-b").runtime.state == "running"
    for name in ("a", "a-b"):
        client.workspace.delete(name=name)
    client.user.delete(name="owner")


@BOOKWORM_BEFORE_TRIXIE
def test_who_stops_its_supervisor_harms_itself_alone(web1: Web1) -> None:
    client = web1.client
    for name in ("own", "beside"):
        client.workspace.create(name=name)
    client.workspace.start(name="beside")
    since = client.workspace.get(name="beside").runtime.since
    kill = "import os; os.kill(os.getppid(), 9)"
    refusal = web1.refuses(client.workspace.exec, "command_failed", name="own", argv=["python3", "-c", kill])
    assert "may have been carried out" in refusal.problem
    assert client.workspace.exec(name="own", argv=["echo", "well"]).stdout == "well\n"
    stop = "import os; os.kill(os.getppid(), 19)"
    said: list[str] = []

    def hang() -> None:
        try:
            execute(web1, "own", "python3", "-c", stop, timeout_s=5.0)
        except CodeSmithError as error:
            said.append(str(error))

    thread = threading.Thread(target=hang)
    thread.start()
    pid = web1.on(f"systemctl show --property=MainPID --value {unit_of('own', 'service')}").out.strip()
    web1.person.wait_until(lambda: "(stopped)" in web1.on(f"grep State /proc/{pid}/status").out, within_s=20)
    assert client.workspace.get(name="own").runtime.since is None
    client.workspace.stop(name="own")
    thread.join()
    assert said
    assert client.workspace.exec(name="own", argv=["echo", "well"]).stdout == "well\n"
    assert client.workspace.get(name="beside").runtime.since == since
    for name in ("own", "beside"):
        client.workspace.delete(name=name)


@BOOKWORM_FIRST
def test_a_runtime_that_cannot_start_is_given_up_and_then_made_anew(web1: Web1) -> None:
    web1.client.workspace.create(name="stuck")
    place = f"/run/systemd/system/{unit_of('stuck', 'service')}.d"
    web1.on(SLOW_TO_FAIL.format(place=place))
    web1.refuses(web1.client.workspace.exec, "command_failed", name="stuck", argv=["true"], timeout_s=1.0)
    assert state_on(web1, "stuck", "socket") != "active"
    web1.on(f"rm -r {place}; systemctl daemon-reload")
    assert web1.client.workspace.exec(name="stuck", argv=["echo", "well"]).stdout == "well\n"
    web1.client.workspace.delete(name="stuck")


@BOOKWORM_BEFORE_TRIXIE
def test_the_end_of_helper_and_front_end_ends_nothing_in_a_runtime(web1: Web1) -> None:
    web1.client.workspace.create(name="stays")
    web1.client.workspace.start(name="stays")
    said: list[Any] = []
    thread = threading.Thread(
        target=lambda: said.append(web1.runtime("stays", "exec", **command("sh", "-c", "sleep 4; echo over")))
    )
    thread.start()
    web1.person.wait_until(lambda: web1.runtime("stays", "status")["result"]["processes"] >= 2, within_s=20)
    web1.on("systemctl kill --signal=KILL codesmith-agent.service codesmith-helper.service")
    web1.on("systemctl restart codesmith-agent.service; systemctl stop codesmith-helper.service")
    thread.join()
    assert said[0]["result"]["stdout"] == "over\n"
    assert web1.client.workspace.exec(name="stays", argv=["echo", "well"]).stdout == "well\n"
    web1.client.workspace.delete(name="stays")
    web1.client.close()
