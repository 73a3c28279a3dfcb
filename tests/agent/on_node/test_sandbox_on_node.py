"""Sandboxes on a real node, seen from inside: limits hold, nothing else is reached; what cannot hold is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.helper.runtime import sandboxes, units
from agent.shared.errors import InvalidParams, Unsupported
from tests.agent.on_node.web1 import Web1
from tests.releases import BOOKWORM_BEFORE_TRIXIE

HOG = "x = bytearray(200 << 20); print(len(x))"
MANY = "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; echo all"
DROP_INS, RELOAD = "/run/systemd/system/codesmith-probe@.service.d", "systemctl daemon-reload"
SEEN = {
    "memory_bytes": 64 << 20, "tasks": 20, "cpus": 0.5, "interfaces": ["lo"], "no_new_privileges": True,
    "own_users": True, "capabilities": 0, "nesting": True, "neighbours": ["demo"],
}  # fmt: skip


@pytest.mark.lab
@BOOKWORM_BEFORE_TRIXIE
def test_limits_and_network_hold_for_every_command(web1: Web1) -> None:
    run = web1.client.workspace.exec
    web1.client.workspace.create(name="box")
    assert run(name="box", argv=["python3", "-c", HOG]).exit_code == 0
    made = web1.client.sandbox.create(
        workspace="box", limits={"memory_bytes": 64 << 20, "tasks": 20, "cpus": 0.5, "runtime_s": 2.0}, network="none"
    )
    assert all(made.enforced.values())
    assert set(made.enforced) == {
        "memory_bytes",
        "tasks",
        "cpus",
        "runtime_s",
        "network",
        "files",
        "privileges",
        "nesting",
    }
    assert run(name="box", argv=["python3", "-c", HOG]).killed_by == "memory"
    # Also when a child was killed, not the command itself, or the command killed itself.
    assert run(name="box", argv=["sh", "-c", "kill -9 $$"]).killed_by is None
    assert "all" not in run(name="box", argv=["sh", "-c", MANY]).stdout
    assert run(name="box", argv=["sh", "-c", "tail -n +3 /proc/net/dev | cut -d: -f1"]).stdout.split() == ["lo"]
    assert run(name="box", argv=["sleep", "60"]).killed_by == "timeout"
    assert run(name="box", argv=["git", "init", "--quiet", "code/x"]).exit_code == 0
    assert web1.client.sandbox.delete(workspace="box").deleted
    assert run(name="box", argv=["python3", "-c", HOG]).exit_code == 0


@pytest.mark.lab
@BOOKWORM_BEFORE_TRIXIE
def test_what_the_node_does_not_enforce_is_refused_and_nothing_is_changed(web1: Web1) -> None:
    client = web1.client
    client.workspace.create(name="leaky")
    # A drop-in of an administrator resets the limits of every runtime, and systemd does not report it.
    web1.on(f"mkdir -p {DROP_INS}; printf '[Service]\nPrivateNetwork=no\n' >{DROP_INS}/own.conf; {RELOAD}")
    try:
        refusal = web1.refuses(client.sandbox.create, "unsupported", workspace="leaky", network="none")
        assert "cannot enforce: network" in refusal.problem
        web1.refuses(client.sandbox.get, "not_found", workspace="leaky")
        assert client.workspace.get(name="leaky").sandbox is None
        assert client.workspace.exec(name="leaky", argv=["true"]).exit_code == 0
    finally:
        web1.on(f"rm -r {DROP_INS}; {RELOAD}")
    assert client.sandbox.create(workspace="leaky", network="none").enforced["network"]


@pytest.mark.lab
@BOOKWORM_BEFORE_TRIXIE
def test_a_sandbox_survives_a_restart_and_goes_with_its_workspace(web1: Web1) -> None:
    web1.client.workspace.create(name="stay")
    made = web1.client.sandbox.create(workspace="stay", limits={"tasks": 30})
    web1.on("systemctl restart codesmith-agent.service; systemctl stop codesmith-helper.service")
    assert web1.client.sandbox.get(workspace="stay") == made
    assert web1.client.workspace.get(name="stay").sandbox is not None
    web1.client.workspace.delete(name="stay")
    web1.client.workspace.create(name="stay")
    web1.refuses(web1.client.sandbox.get, "not_found", workspace="stay")
    assert "all" in web1.client.workspace.exec(name="stay", argv=["sh", "-c", MANY + "; kill 0"]).stdout
    web1.client.close()


@pytest.mark.lab
@BOOKWORM_BEFORE_TRIXIE
@pytest.mark.parametrize(
    "arguments",
    [
        {"limits": {"memory_bytes": 1}, "network": "full"},
        {"limits": {"tasks": 1.5}, "network": "full"},
        {"limits": {"tasks": True}, "network": "full"},
        {"limits": {"User": 0}, "network": "full"},
        {"limits": [], "network": "full"},
        {"limits": {}, "network": "host"},
    ],
)
def test_the_helper_checks_limits_again(web1: Web1, arguments: dict[str, Any]) -> None:
    message = {"verb": "sandbox.ensure", "arguments": {"workspace": "box", **arguments}}
    assert json.loads(web1.helper(message).out)["error"]["code"] == -32602


@pytest.mark.parametrize(
    ("seen", "missing"),
    [
        ({"memory_bytes": None}, "memory_bytes"),
        ({"memory_bytes": 1 << 40}, "memory_bytes"),
        ({"tasks": 4000}, "tasks"),
        ({"cpus": None}, "cpus"),
        ({"interfaces": ["eth0", "lo"]}, "network"),
        ({"neighbours": ["demo", "other"]}, "files"),
        ({"no_new_privileges": False}, "privileges"),
        ({"capabilities": 1}, "privileges"),
        ({"own_users": False}, "privileges"),
    ],
)
def test_what_does_not_hold_is_refused(seen: dict[str, Any], missing: str) -> None:
    sandbox = sandboxes.parse("demo", {"memory_bytes": 64 << 20, "tasks": 20, "cpus": 0.5}, "none")
    assert all(sandboxes.check_enforced(sandbox, SEEN).values())
    with pytest.raises(Unsupported, match=missing):
        sandboxes.check_enforced(sandbox, {**SEEN, **seen})


def test_a_kernel_that_gives_no_user_namespaces_does_not_keep_jobs_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "max_user_namespaces"
    monkeypatch.setattr(units, "MAX_USER_NAMESPACES", str(file))
    assert units.user_namespace.__wrapped__() == ()
    for text, wanted in (("0\n", ()), ("96365\n", ("PrivateUsers=yes",))):
        file.write_text(text)
        assert units.user_namespace.__wrapped__() == wanted


def test_no_number_is_infinite() -> None:
    with pytest.raises(InvalidParams):
        sandboxes.parse("demo", {"cpus": float("inf")}, "full")


@pytest.mark.lab
@BOOKWORM_BEFORE_TRIXIE
def test_a_job_has_no_privilege_and_sees_no_neighbour(web1: Web1) -> None:
    web1.client.workspace.create(name="jail")
    web1.client.workspace.create(name="next")
    look = "grep -E 'Cap(Eff|Prm|Bnd|Amb)|NoNewPrivs' /proc/self/status; cd /srv/codesmith; ls -A workspaces home"
    seen = web1.client.workspace.exec(name="jail", argv=["sh", "-c", look]).stdout
    assert seen.count("0000000000000000") == 4
    assert "NoNewPrivs:\t1" in seen
    assert "jail" in seen
    assert "next" not in seen
    for path in ("/etc/codesmith-x", "/usr/x", "/srv/codesmith/x", "/var/lib/x"):
        assert web1.client.workspace.exec(name="jail", argv=["touch", path]).exit_code != 0
    write = "touch $HOME/a /tmp/b code/c && echo done"
    assert web1.client.workspace.exec(name="jail", argv=["sh", "-c", write]).stdout == "done\n"
    assert not web1.on("ls /tmp/b", check=False).ok


@pytest.mark.lab
@BOOKWORM_BEFORE_TRIXIE
def test_a_job_shares_no_memory_with_others(web1: Web1) -> None:
    web1.client.workspace.create(name="cell")
    web1.on("echo mine > /dev/shm/others; chmod 644 /dev/shm/others")
    look = ["sh", "-c", "ls -A /dev/shm; echo x > /dev/shm/own"]
    assert web1.client.workspace.exec(name="cell", argv=look).stdout == ""
    assert not web1.on("ls /dev/shm/own", check=False).ok


OUTSIDE = """\
import ctypes, os, sys
pid, home = sys.argv[1:]
def reach(path):
    with open(f"/proc/{pid}/root{path}", "a"):
        pass
for attempt in (lambda: os.listdir(f"/proc/{pid}/root/srv/codesmith/workspaces"), lambda: os.listdir(f"/proc/{pid}/fd"),
                lambda: reach(f"{home}/file"), lambda: open(f"/proc/{pid}/mem", "r+b").close()):
    try:
        attempt()
        print("reached")
    except OSError:
        print("denied")
print(ctypes.CDLL(None).ptrace(16, int(pid), 0, 0))
"""


@pytest.mark.lab
@BOOKWORM_BEFORE_TRIXIE
def test_a_job_does_not_reach_what_its_login_runs_elsewhere(web1: Web1) -> None:
    home = web1.client.workspace.create(name="twofold").home
    web1.on("setpriv --reuid=cs-twofold --regid=cs-twofold --clear-groups sleep 1003 </dev/null >/dev/null 2>&1 &")
    web1.person.wait_until(lambda: web1.on("pgrep --uid cs-twofold --exact sleep", check=False).ok, within_s=10)
    pid = web1.on("pgrep --uid cs-twofold --exact sleep").out.strip()
    done = web1.client.workspace.exec(name="twofold", argv=["python3", "-c", OUTSIDE, pid, home])
    assert done.stdout.split() == ["denied"] * 4 + ["-1"], done
    # Namespaces of its own, as a coding agent's own sandbox makes them, still work.
    nested = ["unshare", "--map-root-user", "--mount", "--pid", "--fork", "id", "-u"]
    assert web1.client.workspace.exec(name="twofold", argv=nested).stdout == "0\n"
    web1.client.workspace.delete(name="twofold")
