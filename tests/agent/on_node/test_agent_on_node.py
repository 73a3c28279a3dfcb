"""The whole agent on a real node: what its halves may do, how jobs end, and interruptions."""

from __future__ import annotations

import json
import os
import secrets
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from codesmith.errors import CallLost
from codesmith.nodes.registry import Registry
from codesmith.sdk.api import Execution
from codesmith.sdk.client import Client
from codesmith.tunnel import control
from tests.agent.on_node.spy import Spy
from tests.agent.on_node.web1 import HELPER, Web1, command
from tests.releases import BOOKWORM_BEFORE_TRIXIE

pytestmark = [pytest.mark.lab, BOOKWORM_BEFORE_TRIXIE]


def test_however_many_commands_run_changes_go_on(web1: Web1) -> None:
    web1.client.workspace.create(name="crowd")
    web1.client.workspace.start(name="crowd")
    ask = web1.runtime_command("crowd", "exec", **command("sleep", "1011"))
    web1.on(f"for i in $(seq 30); do {ask} >/dev/null 2>&1 & done")
    web1.person.wait_until(lambda: int(web1.on("pgrep -xc sleep", check=False).out) >= 30, within_s=60)
    assert web1.client.workspace.exec(name="crowd", argv=["echo", "well"]).stdout == "well\n"
    assert web1.client.user.create(name="squeezed").state == "active"
    web1.client.workspace.stop(name="crowd")
    assert not web1.on("pgrep -x sleep -u cs-crowd", check=False).ok


def test_a_forged_store_of_the_front_end_harms_nobody(web1: Web1) -> None:
    forged = {"name": "root", "login": "root", "uid": 0, "gid": 0, "home": "/root", "shell": "/bin/sh",
              "state": "active",
              "keys": [], "created_at": "2026-11-23T00:00:00Z", "dedicated": True}  # fmt: skip
    web1.on("useradd --create-home --user-group cs-mine; cd /srv/codesmith/workspaces; mkdir mine; chown cs-mine mine")
    uid = int(web1.on("id -u cs-mine").out)
    likely = {**forged, "name": "mine", "login": "cs-mine", "home": "/srv/codesmith/empty"}
    workspace = {"id": "x", "name": "etc", "path": "/etc", "home": "/root", "user": "root", "login": "root",
                 "uid": 0, "gid": 0, "labels": {}, "created_at": "2026-11-23T00:00:00Z",
                 "opened_at": None, "sandbox": {"limits": {}},
                 }  # fmt: skip
    directory = {**workspace, "name": "mine", "user": "mine", "login": "cs-mine", "uid": uid, "gid": uid}
    users = [forged, {**likely, "uid": uid, "gid": uid}, {**likely, "name": "mine2", "uid": 70000, "gid": 70000}]
    places = [workspace, {**directory, "path": "/srv/codesmith/workspaces/mine", "home": "/srv/codesmith/home/cs-mine"}]
    before = web1.client.user.list(), web1.client.workspace.list(), web1.client.sandbox.list()
    script = f"""
import json, sqlite3
database = sqlite3.connect("/var/lib/codesmith/state.db")
for user in {users!r}:
    database.execute("INSERT INTO users VALUES (?, ?)", (user["name"], json.dumps(user)))
for place in {places!r}:
    database.execute("INSERT INTO workspaces VALUES (?, ?, ?)", (place["name"], place["user"], json.dumps(place)))
database.commit()
"""
    web1.on(f"python3 - <<'E'\n{script}\nE")
    assert before == (web1.client.user.list(), web1.client.workspace.list(), web1.client.sandbox.list())
    for name in ("root", "mine", "mine2"):
        web1.refuses(web1.client.user.get, "not_found", name=name)
    for name in ("etc", "mine"):
        for call in (web1.client.workspace.get, web1.client.workspace.open, web1.client.workspace.update):
            web1.refuses(call, "not_found", name=name)
        web1.refuses(web1.client.workspace.exec, "not_found", name=name, argv=["id"])
    web1.client.workspace.delete(name="etc")
    # What is there is not called deleted.
    assert "workspaces/mine" in str(web1.refuses(web1.client.workspace.delete, "not_managed", name="mine"))
    for name in ("root", "mine2"):
        web1.client.user.delete(name=name)
    assert web1.on(
        "getent passwd root cs-mine && ls /etc/passwd && cd /srv/codesmith/workspaces && ls -d /root mine"
    ).ok
    web1.on("rmdir /srv/codesmith/workspaces/mine; userdel -r cs-mine", check=False)
    assert web1.client.workspace.delete(name="mine").user_deleted


def test_only_the_front_end_reaches_the_helper(web1: Web1) -> None:
    verb = {"verb": "user.remove", "arguments": {"name": "nobody"}}
    assert json.loads(web1.helper(verb).out) == {"result": {"leftovers": []}}
    web1.client.workspace.create(name="peer")
    for login in ("nobody", "cs-peer"):
        assert "Permission" in web1.helper(verb, login.replace("nobody", "65534")).err
    group = web1.on("getent group codesmith | cut -d: -f3").out.strip()
    script = (
        "import socket; s = socket.socket(socket.AF_UNIX); "
        "s.connect('/run/codesmith-helper/helper.sock'); s.sendall(bytes(4)); print(s.recv(10))"
    )
    said = web1.on(f'setpriv --reuid=65534 --regid={group} --clear-groups python3 -I -c "{script}"', check=False)
    # It hangs up: after our words, in them, or before them.
    assert said.out == "b''\n" or "reset" in said.err or "Broken pipe" in said.err


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("user.ensure", {"name": "../../etc/x"}),
        ("user.ensure", {"name": "a\n"}),
        ("user.ensure", {"name": "eve", "uid": 0}),
        ("user.ensure", {"name": "eve", "home": "/root"}),
        ("user.remove", {"name": "root/../.."}),
        ("workspace.ensure", {"name": "eve", "user": "..", "dedicated": False}),
        ("workspace.ensure", {"name": "..", "user": "eve", "dedicated": True}),
        ("workspace.ensure", {"name": "eve", "user": "root", "dedicated": True}),
        ("workspace.share", {"name": "eve", "user": "/root"}),
        ("workspace.remove", {"name": ".", "remove_user": True}),
        ("runtime.start", {"workspace": "../eve", "for_clone": False}),
        ("runtime.start", {"workspace": "eve", "for_clone": 1}),
        ("runtime.start", {"workspace": "eve", "for_clone": False, "user": "root"}),
        ("runtime.stop", {"workspace": "*"}),
        ("workspace.measure", {"workspace": "/etc"}),
        ("run", {"argv": ["id"]}),
        ("__class__", {}),
    ],
)  # fmt: skip
def test_the_helper_checks_everything_again(web1: Web1, verb: str, arguments: dict[str, object]) -> None:
    before = web1.on("sha256sum /etc/passwd /etc/group; ls -A /srv/codesmith/home").out
    message = json.dumps({"verb": verb, "arguments": arguments}).replace("'", "")
    answer = json.loads(web1.helper(json.loads(message)).out)
    assert answer["error"]["code"] == -32602, answer
    assert web1.on("sha256sum /etc/passwd /etc/group; ls -A /srv/codesmith/home").out == before


DEAD_LEADER = """\
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
ctypes.CDLL(None).syscall(60, 0)
"""


def test_a_process_whose_first_thread_ended_is_seen_and_ended(web1: Web1) -> None:
    web1.client.workspace.create(name="dead")
    become = "setpriv --reuid=cs-dead --regid=cs-dead --clear-groups"
    web1.on(f"{become} python3 -c '{DEAD_LEADER}' >/dev/null 2>&1 &")
    uid = web1.client.workspace.get(name="dead").uid
    is_there = f"grep -l 'Uid:.{uid}' /proc/[0-9]*/task/*/status"
    web1.person.wait_until(lambda: "python3" in web1.on(f"cat $({is_there})", check=False).out, within_s=10)
    web1.person.wait_until(lambda: "State:\tZ" in web1.on(f"cat $({is_there})", check=False).out, within_s=10)
    assert web1.client.workspace.delete(name="dead").leftovers == []
    assert not web1.on(is_there, check=False).out


def test_how_a_job_ends_is_told(web1: Web1) -> None:
    web1.client.workspace.create(name="ends")
    run = web1.client.workspace.exec
    assert run(name="ends", argv=["sh", "-c", "exit 7"]).exit_code == 7
    killed = run(name="ends", argv=["sh", "-c", "kill -9 $$"])
    assert (killed.exit_code, killed.signal, killed.killed_by) == (137, "SIGKILL", None)
    for name in ("TERM", "INT", "HUP"):  # a clean end to systemd, not to us
        ended = run(name="ends", argv=["sh", "-c", f"kill -{name} $$; sleep 5"])
        assert (ended.signal, ended.exit_code > 128, ended.killed_by) == (f"SIG{name}", True, None)
    late = run(name="ends", argv=["sleep", "100"], timeout_s=0.3)
    assert late.killed_by == "timeout"
    assert run(name="ends", argv=["no-such-program"]).exit_code == 127
    much = run(name="ends", argv=["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo tail >&2"])
    assert (len(much.stdout), much.stderr, much.truncated) == (1 << 20, "tail\n", True)


def test_words_reach_a_job_unchanged(web1: Web1) -> None:
    web1.client.workspace.create(name="words")
    words = ["$HOME", "%n", "a b", "'", '"', "\\", "`id`", "new\nline", "", "é", "*", "${nl}", "$nl", "--", "-x"]
    show = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['ODD'], sys.stdin.read(), os.getcwd()]))"
    odd = "\n".join(words)
    done = web1.client.workspace.exec(
        name="words",
        argv=["python3", "-c", show, *words],
        env={"ODD": odd, "nl": "no", "IFS": "o"},
        stdin=odd,
        cwd="code",
    )
    assert json.loads(done.stdout) == [words, odd, odd, "/srv/codesmith/workspaces/words/code"]
    own = dict.fromkeys(("OPTIND", "LINENO", "UID", "PPID", "SHELLOPTS", "RANDOM", "IFS", "PS4", "ENV"), odd)
    show = "import json, os; print(json.dumps(dict(os.environ)))"
    told = json.loads(web1.client.workspace.exec(name="words", argv=["python3", "-c", show], env=own).stdout)
    assert {name: told.get(name) for name in own} == own


def test_secrets_of_a_job_are_not_for_others(web1: Web1) -> None:
    web1.client.workspace.create(name="vault")
    spy, token = Spy(web1), secrets.token_hex(8)
    job = {"name": "vault", "argv": ["sh", "-c", 'test -n "$TOKEN" && sleep 1003'], "env": {"TOKEN": token}}
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(lambda: web1.client.workspace.exec(**job, stdin=token, timeout_s=250))
        spy.wait_for("codesmith-workspace@vault")
        spy.wait_for("sleep 1003")
        web1.on("pkill -u cs-vault sleep")
    assert ended.result().exit_code == 128 + signal.SIGTERM
    assert token not in spy.end()


def test_what_a_job_leaves_running_ends_with_it(web1: Web1) -> None:
    web1.client.workspace.create(name="bg")
    web1.client.workspace.exec(name="bg", argv=["sh", "-c", "setsid sleep 1002 >/dev/null 2>&1 & echo"])
    assert not web1.on("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep '[s]leep 1002'", check=False).out


def test_the_front_end_has_no_capability_and_looks_start_no_helper(web1: Web1) -> None:
    pid = web1.on("systemctl show --property=MainPID --value codesmith-agent.service").out.strip()
    status = web1.on(f"cat /proc/{pid}/status").out
    assert "CapEff:\t0000000000000000" in status
    assert "CapBnd:\t0000000000000000" in status
    web1.client.user.create(name="idle")
    helper_is_there = "systemctl is-active --quiet codesmith-helper.service"
    assert web1.on(helper_is_there, check=False).ok
    web1.on("systemctl stop codesmith-helper.service")
    assert web1.client.node.info().counts.users
    # A list is no reason to start it; node.health asks it, because only root sees how an account ages.
    assert "idle" in [user.name for user in web1.client.user.list()]
    assert not web1.on(helper_is_there, check=False).ok
    assert web1.client.node.health().status == "ok"
    assert web1.on(helper_is_there, check=False).ok


CONNECT = """
import os, signal, socket, sys
os.kill(int(sys.argv[1]), signal.SIGSTOP)
try:
    clients = [socket.socket(socket.AF_UNIX) for _ in range(400)]
    for client in clients:
        client.setblocking(False)
        client.connect("/run/codesmith/agent.sock")
finally:
    os.kill(int(sys.argv[1]), signal.SIGCONT)
"""


def test_clients_that_come_all_at_once_are_let_in(web1: Web1) -> None:
    pid = web1.on("systemctl show --property=MainPID --value codesmith-agent.service").out.strip()
    said = web1.on(f"ulimit -n 1024; python3 -c '{CONNECT}' {pid}", check=False)
    assert (said.code, said.err) == (0, "")
    assert web1.client.node.version()


def test_many_verbs_without_a_pause_leave_no_dead_children(web1: Web1) -> None:
    several = HELPER.replace("with socket", "for _ in range(100):\n  with socket").replace("\n    ", "\n      ")
    said = web1.on(f"python3 -I -c '{several}' '{json.dumps({'verb': 'no', 'arguments': {}})}'")
    assert said.out.count("-32602") == 100
    states = "cat /proc/[0-9]*/stat | grep -c ') Z '"
    assert int(web1.on(states, check=False).out) < 10


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(False, id="new connection"),
        pytest.param(True, id="kept connection", marks=pytest.mark.long),  # tests/sdk has it
    ],
)
def test_a_call_lost_with_its_forwarder_is_done_once_when_repeated(web1: Web1, kept: bool) -> None:
    name, runs = f"once-{kept}".lower(), f"/srv/codesmith/workspaces/once-{kept}/data/runs".lower()
    job = {"name": name, "argv": ["sh", "-c", "echo run >> data/runs; sleep 2"]}
    web1.client.workspace.create(name=name)
    with Client(Registry.load(web1.person.registry).get("web1")) as client:
        if kept:
            client.node.version()
        ended: list[Execution | CallLost] = []
        caller = threading.Thread(target=lambda: ended.append(result_or_loss(client, job)))
        caller.start()
        web1.person.wait_until(lambda: web1.on(f"cat {runs}", check=False).ok, within_s=30)
        os.kill(control.ping() or 0, signal.SIGKILL)
        caller.join()
        done = ended[0]
        for _ in range(5):  # the client repeats it once; the socket of a process that is just ending may take it
            if isinstance(done, CallLost):
                assert "may have been carried out" in done.problem
                done = result_or_loss(client, {**job, "request_id": done.request_id})
    assert isinstance(done, Execution)
    assert done.exit_code == 0
    assert web1.on(f"cat {runs}").out == "run\n"
    web1.client.close()  # the next test's call opens another


def result_or_loss(client: Client, job: dict[str, Any]) -> Execution | CallLost:
    try:
        return client.workspace.exec(**job)
    except CallLost as lost:
        return lost


def test_a_lost_command_is_repeated_as_its_hint_says(web1: Web1) -> None:
    command = "inv workspace.create lost"
    repeated = f"CODESMITH_REQUEST_ID=a-word-of-mine {command}"
    assert web1.person.runs(f"{repeated} --json").json == web1.person.runs(f"{repeated} --json").json
    assert "exists" in web1.person.fails(command, code=6).err
