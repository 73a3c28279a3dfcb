"""Jobs on a real node, through the front end: they go on without it, their ends are known, one record for each."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import codesmith
from agent.shared.names import unit_of
from codesmith.sdk.api import Job
from tests.agent.on_node.framed import Framed, over_socket
from tests.agent.on_node.web1 import Web1

pytestmark = pytest.mark.lab
SECRET = "hunter2-of-the-test"
AGENT = "codesmith-agent.service"
# Opens two hundred streams past the forwarder, and says what the front end has before and meanwhile.
STREAMS = r"""
import json, os, socket, sys

def connect(head, body=b""):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect("/run/codesmith/agent.sock")
    connection.sendall((head + f"\r\nHost: node\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body)
    return connection

def call(method, **params):
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    with connect("POST / HTTP/1.1\r\nConnection: close", json.dumps(request).encode()) as connection:
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return json.loads(answer.partition(b"\r\n\r\n")[2])["result"]

def look():
    return [len(os.listdir(f"/proc/{sys.argv[1]}/{what}")) for what in ("task", "fd")]

before, streams, status = look(), [], set()
for _ in range(200):
    job = call("job.start", workspace="demo", argv=["sleep", "1000"], ends_with_stream=True)
    head = "POST /stream HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: codesmith-stream\r\nCodeSmith-Token: "
    streams.append(connect(head + job["stream"]["token"]))
    status.add(streams[-1].recv(12).decode().split()[1])
running = len(call("job.list", workspace="demo", state="running"))
now = look()
print(json.dumps({"status": sorted(status), "running": running,
                  "threads": [before[0], now[0]], "descriptors": [before[1], now[1]]}))
"""
PID = f"$(systemctl show --property=MainPID --value {AGENT})"


@pytest.fixture
def demo(web1: Web1) -> Iterator[str]:
    web1.client.workspace.create(name="demo")
    yield "demo"
    web1.client.workspace.delete(name="demo")
    web1.client.close()


def start(web1: Web1, *argv: str, **more: Any) -> str:
    return web1.client.job.start(workspace="demo", argv=list(argv), **more).id


def stream(web1: Web1, *argv: str, **more: Any) -> tuple[str, Framed]:
    """Start a job that ends with its stream; return its id and its stream."""
    job = web1.client.job.start(workspace="demo", argv=list(argv), ends_with_stream=True, **more)
    assert job.stream
    return job.id, Framed(over_socket(web1.person.endpoint()), job.stream.token)


def get(web1: Web1, job: str) -> Job:
    return web1.client.job.get(workspace="demo", id=job)


def ends(web1: Web1, name: str = "demo") -> dict[str, tuple[Any, ...]]:
    """Return how each job of a workspace ended, as the audit record has it."""
    begun = web1.client.workspace.get(name=name).created_at
    records = [one for one in web1.client.audit.list(workspace=name, limit=1000) if one.time >= begun]
    found = [one for one in records if one.method == "job.end"]
    assert len({one.target["id"] for one in found}) == len(found), "an end is recorded twice"
    return {one.target["id"]: (one.exit_code, one.signal, one.killed_by) for one in found}


def until(web1: Web1, check: Callable[[], bool], within_s: float = 20) -> None:
    web1.person.wait_until(check, within_s=within_s)


def test_a_killed_front_end_ends_no_job_and_learns_what_ended_meanwhile(web1: Web1, demo: str) -> None:
    go_on = ("sh", "-c", "while [ ! -e go ]; do sleep 0.05; done; exit 3")
    kept, lasting = start(web1, *go_on), start(web1, "sleep", "1000")
    id_, framed = stream(web1, "sh", "-c", "echo up; read line; echo $line; exit 7", stdin="stream")
    with framed:
        framed.until(b"up\n")
        folder = web1.client.workspace.get(name="demo").path
        web1.on(f"systemctl kill -s KILL {AGENT}; systemctl stop {AGENT} codesmith-agent.socket; touch {folder}/go")
        until(web1, lambda: not web1.on("pgrep -f 'sleep 0.0[5]'", check=False).ok)
        framed.send(0, b"still there\n")
        framed.until(b"still there\n")
        assert framed.end()["exit_code"] == 7
        web1.on("systemctl start codesmith-agent.socket")
        web1.client.close()
    # Nobody has asked for them: the front end looks by itself when it starts.
    web1.client.node.version()
    until(web1, lambda: {kept, id_} <= set(ends(web1)))
    assert (ends(web1)[kept][0], ends(web1)[id_][0]) == (3, 7)
    assert (get(web1, kept).state, get(web1, lasting).state) == ("exited", "running")
    assert web1.client.job.stop(workspace="demo", id=lasting).killed_by == "operator"
    assert ends(web1)[lasting] == (143, "SIGTERM", "operator")


def test_who_stops_a_workspace_ends_its_jobs_and_their_records_start_nothing(web1: Web1, demo: str) -> None:
    polite, stubborn = start(web1, "sleep", "1000"), start(web1, "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    web1.client.workspace.stop(name="demo")
    for job in (polite, stubborn):
        found = web1.client.job.wait(workspace="demo", id=job, timeout_s=1)
        assert (found.state, found.killed_by, found.ended_at is None) == ("killed", "operator", False)
    assert {job: how[2] for job, how in ends(web1).items()} == {polite: "operator", stubborn: "operator"}
    assert [job.id for job in web1.client.job.list(workspace="demo")] == [stubborn, polite]
    web1.refuses(web1.client.job.get, "not_found", workspace="demo", id="0123456789ab")
    assert web1.client.workspace.get(name="demo").runtime.state == "stopped"
    assert web1.client.job.logs(workspace="demo", id=polite).eof
    assert web1.client.job.list(workspace="demo")[0].killed_by == "operator"


def test_a_runtime_that_is_killed_loses_its_jobs(web1: Web1, demo: str) -> None:
    job = start(web1, "sleep", "1000")
    web1.on(f"systemctl kill -s KILL {unit_of('demo', 'service')}")
    found = web1.client.job.wait(workspace="demo", id=job, timeout_s=30)
    assert (found.state, found.exit_code, found.killed_by) == ("lost", None, None)
    assert ends(web1)[job] == (None, None, None)


def test_secrets_of_jobs_stay_in_their_runtime(web1: Web1, demo: str) -> None:
    secret = {"TOKEN": SECRET}
    start(web1, "true", env=secret, request_id="once")
    start(web1, "true", env=secret, request_id="once")
    id_, framed = stream(web1, "cat", env=secret, stdin="stream")
    with framed:
        framed.send(0, SECRET.encode())
        framed.send(0)
        assert framed.end()["exit_code"] == 0
    until(web1, lambda: id_ in ends(web1))
    places = "/var/lib/codesmith /var/log/codesmith /srv/codesmith/home/cs-demo/.local"
    assert not web1.on(f"grep -rl {SECRET[:-1]}[t] {places}", check=False).out
    assert not web1.on(f"journalctl | grep -c {SECRET[:-1]}[t]", check=False).ok


@pytest.mark.long  # tests/agent/frontend/test_jobs.py has it with a supervisor of its own
def test_two_hundred_streams_cost_the_front_end_nothing(web1: Web1, demo: str) -> None:
    start(web1, "true")
    web1.on(f"cat >/tmp/streams.py <<'E'\n{STREAMS}E")
    seen = json.loads(web1.on(f"python3 /tmp/streams.py {PID}").out)
    assert seen["status"] == ["101"]
    # A call of somebody else's may be under way.
    assert seen["threads"][1] <= seen["threads"][0] + 2
    assert seen["descriptors"][1] <= seen["descriptors"][0] + 4
    assert seen["running"] == 200
    until(web1, lambda: len(ends(web1)) == 201, within_s=60)
    assert {how[2] for how in ends(web1).values()} == {None, "disconnect"}


@pytest.mark.long  # test_streams_on_node.py has a stream over a port
def test_a_stream_of_a_job_goes_over_the_operators_port(web1: Web1, demo: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    person = web1.person
    person.write_registry({"web1": {**person.lab_entry("web1"), "endpoint": f"tcp:{port}"}})
    (ready,) = person.runs("inv node.connect --json").json
    assert (ready["endpoint"], ready["state"]) == (f"tcp:127.0.0.1:{port}", "ready")
    (listed,) = person.runs("inv node.list --json").json
    token = Path(listed["token_file"])
    bearer = f"Authorization: Bearer {token.read_text().strip()}"
    with codesmith.connect(url=f"http://127.0.0.1:{port}", token_file=token) as client:
        argv = ["sh", "-c", "echo up; cat; exit 5"]
        job = client.job.start(workspace="demo", argv=argv, stdin="stream", ends_with_stream=True)
    assert job.stream
    connection = socket.create_connection(("127.0.0.1", port))
    with Framed(connection, job.stream.token, bearer, host=f"127.0.0.1:{port}") as framed:
        assert framed.status == 101
        framed.until(b"up\n")
        framed.send(0, b"x" * 60_000)
        framed.until(b"x" * 1000)
        framed.send(0, b"")
        assert framed.end()["exit_code"] == 5
    person.runs("inv node.disconnect")
    person.write_registry({"web1": person.lab_entry("web1")})
