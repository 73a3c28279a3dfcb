"""Kept jobs: records, logs, those who follow, ends, and what a restart leaves of them."""

from __future__ import annotations

import base64
import functools
import itertools
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.shared import framing
from tests.agent.supervisor.client import (
    END,
    INPUT,
    POSITION,
    STDERR,
    Stream,
    command,
    ended,
    job,
    run,
)
from tests.agent.supervisor.conftest import UID, Supervisor

pytestmark = pytest.mark.slow

TTY = {"rows": 24, "cols": 80, "term": "xterm"}
KIB = 1 << 10
MIB = 1 << 20
# Lines of 64 bytes, each with its number.
COUNT = "import sys\nfor n in range({0}): sys.stdout.write(f'{{n:063}}\\n')"


def logs(supervisor: Supervisor, identifier: str, **fields: Any) -> dict[str, Any]:
    answer = supervisor.ask("job_logs", id=identifier, **fields)
    assert "result" in answer, answer
    piece: dict[str, Any] = answer["result"]
    return piece


def whole(supervisor: Supervisor, identifier: str, stream: str = "both", limit: int = 100_000) -> list[dict[str, Any]]:
    """Read a log to its end, piece by piece."""
    pieces: list[dict[str, Any]] = []
    while not pieces or not pieces[-1]["eof"]:
        offset = pieces[-1]["next_offset"] if pieces else 0
        pieces.append(logs(supervisor, identifier, stream=stream, offset=offset, limit=limit))
        assert pieces[-1]["next_offset"] > offset or pieces[-1]["eof"]
    return pieces


def folder_of(supervisor: Supervisor, identifier: str = "") -> Path:
    return supervisor.folder / "home/.local/state/codesmith/jobs" / identifier


def refusal(supervisor: Supervisor, request: str, **fields: Any) -> str:
    kind: str = supervisor.ask(request, **fields)["error"]["data"]["kind"]
    return kind


def test_a_job_goes_on_without_a_connection_and_its_log_is_kept(supervisor: Supervisor) -> None:
    started = job(supervisor, "sh", "-c", "echo one; echo two >&2; until test -e gate; do sleep 0.02; done; exit 3")
    expected = {
        "name": None, "state": "running", "exit_code": None, "signal": None, "killed_by": None, "tty": False,
        "ends_with_stream": False, "ended_at": None, "by": "ann", "duration_s": None,
    }  # fmt: skip
    assert {name: started[name] for name in expected} == expected
    supervisor.wait_until(lambda: logs(supervisor, started["id"])["next_offset"] == 8)
    assert logs(supervisor, started["id"], offset=4) == {
        "data": "two\n", "encoding": "text", "offset": 4, "next_offset": 8, "eof": False,
    }  # fmt: skip
    supervisor.run("touch", "gate")
    record = ended(supervisor, started["id"])
    assert (record["state"], record["exit_code"], record["stdout_bytes"], record["stderr_bytes"]) == ("exited", 3, 4, 4)
    assert record["started_at"] < record["ended_at"]
    assert supervisor.ask("job_get", id=started["id"])["result"]["job"] == record
    assert [one["data"] for one in whole(supervisor, started["id"])] == ["one\ntwo\n"]
    assert [one["data"] for one in whole(supervisor, started["id"], "stdout", 2)] == ["on", "e\n"]
    assert [one["data"] for one in whole(supervisor, started["id"], "stderr")] == ["two\n"]


def test_a_list_is_newest_first_and_of_one_state(supervisor: Supervisor) -> None:
    identifiers = [job(supervisor, "true", name=f"n{n}")["id"] for n in range(3)]
    for identifier in identifiers:
        ended(supervisor, identifier)
    last = job(supervisor, "sleep", "1000")["id"]
    names = lambda **fields: [one["id"] for one in supervisor.ask("job_list", **fields)["result"]["jobs"]]  # noqa: E731
    assert names() == [last, *identifiers[::-1]]
    assert names(state="exited") == identifiers[::-1]
    assert names(state="running") == [last]


def test_both_outputs_are_kept_in_their_order_as_they_are(supervisor: Supervisor) -> None:
    script = "import os\nfor n in range(2000): os.write(1 + n % 2, (b'%d\\xff' % n)); n % 100 or os.sched_yield()"
    identifier = job(supervisor, "python3", "-c", script)["id"]
    record = ended(supervisor, identifier)
    for name, numbers in (("stdout", range(0, 2000, 2)), ("stderr", range(1, 2000, 2))):
        pieces = whole(supervisor, identifier, name, 777)
        assert {one["encoding"] for one in pieces} == {"base64"}
        data = b"".join(base64.b64decode(one["data"]) for one in pieces)
        assert data == b"".join(b"%d\xff" % n for n in numbers)
        assert record[f"{name}_bytes"] == len(data)


def test_text_ends_at_a_whole_character(supervisor: Supervisor) -> None:
    identifier = job(supervisor, "printf", "a€€")["id"]
    ended(supervisor, identifier)
    assert [one["data"] for one in whole(supervisor, identifier, limit=3)] == ["a", "€", "€"]
    assert whole(supervisor, identifier, limit=1)[1]["encoding"] == "base64"
    identifier = job(supervisor, "printf", "a\\342\\202")["id"]
    ended(supervisor, identifier)
    assert [one["encoding"] for one in whole(supervisor, identifier)] == ["base64"]


def test_of_a_long_log_both_ends_are_kept(supervisor: Supervisor) -> None:
    lines = 600_000
    identifier = job(supervisor, "python3", "-c", COUNT.format(lines))["id"]
    record = ended(supervisor, identifier)
    assert record["stdout_bytes"] == 64 * lines
    pieces = whole(supervisor, identifier, limit=512 * KIB)
    gaps = [
        (one["next_offset"], two["offset"])
        for one, two in itertools.pairwise(pieces)
        if one["next_offset"] != two["offset"]
    ]
    [(end, begin)] = gaps
    assert (end, 8 * MIB <= 64 * lines - begin < 9 * MIB) == (MIB, True)
    for one in pieces:
        numbers = [int(line) for line in one["data"].split()]
        assert numbers == list(range(one["offset"] // 64, one["next_offset"] // 64))
    size = sum(path.stat().st_size for path in folder_of(supervisor, identifier).iterdir())
    assert size < 10 * MIB
    assert logs(supervisor, identifier, offset=2 * MIB)["offset"] == begin


def test_an_attached_client_gets_the_log_from_its_offset_and_the_end(supervisor: Supervisor) -> None:
    script = "echo one; echo two >&2; until test -e gate; do sleep 0.02; done; echo three; exit 5"
    identifier = job(supervisor, "sh", "-c", script)["id"]
    supervisor.wait_until(lambda: logs(supervisor, identifier)["next_offset"] == 8)
    with Stream(supervisor, "job_attach", id=identifier, offset=4) as stream, \
            Stream(supervisor, "job_attach", id=identifier, offset=None) as now:  # fmt: skip
        assert [stream.receive() for _ in range(2)] == [(POSITION, b'{"offset":4}'), (STDERR, b"two\n")]
        assert now.receive() == (POSITION, b'{"offset":8}')
        supervisor.run("touch", "gate")
        stdout, stderr, end = stream.rest()
        assert (stdout, stderr, end["state"], end["exit_code"]) == (b"three\n", b"", "exited", 5)
        assert now.rest() == (b"three\n", b"", end)
    with Stream(supervisor, "job_attach", id=identifier, offset=0) as stream:
        assert stream.rest() == (b"one\nthree\n", b"two\n", end)


def test_a_client_that_follows_slowly_is_told_what_it_missed_and_holds_up_nothing(supervisor: Supervisor) -> None:
    identifier = job(
        supervisor, "sh", "-c", f'until test -e gate; do sleep 0.02; done; python3 -c "{COUNT.format(400_000)}"'
    )["id"]
    with Stream(supervisor, "job_attach", id=identifier, offset=0) as stream:
        supervisor.run("touch", "gate")
        assert ended(supervisor, identifier)["stdout_bytes"] == 64 * 400_000
        offset, positions, lines = 0, [], bytearray()
        while True:
            kind, payload = stream.receive()
            if kind == END:
                break
            if kind == POSITION:
                offset = json.loads(payload)["offset"]
                positions.append(offset)
                assert lines == b"" or offset % 64 == 0
            else:
                numbers = payload.split(b"\n")[1:-1]
                assert all(int(line) for line in numbers)
                lines += payload
                offset += len(payload)
    assert offset == 64 * 400_000
    assert positions[0] == 0
    assert len(positions) == 2
    assert len(lines) == 64 * 400_000 - (positions[1] - MIB)


def test_a_dropped_client_ends_nothing_and_others_may_write(supervisor: Supervisor) -> None:
    identifier = job(supervisor, "cat", stdin="stream")["id"]
    for n in range(3):
        with Stream(supervisor, "job_attach", id=identifier) as stream:
            stream.send(INPUT, b"%d\n" % n)
            stream.until(b"%d\n" % n)
    with Stream(supervisor, "job_attach", id=identifier) as stream:
        stream.send(INPUT, b"last\n")
    supervisor.wait_until(lambda: logs(supervisor, identifier)["data"] == "0\n1\n2\nlast\n")
    with Stream(supervisor, "job_attach", id=identifier) as stream:
        stream.send(INPUT)
        assert stream.rest()[2]["exit_code"] == 0


@pytest.mark.parametrize("tty", [None, TTY])
def test_who_follows_a_job_and_goes_ends_none_of_its_input(supervisor: Supervisor, tty: dict[str, Any] | None) -> None:
    identifier = job(supervisor, "sh", "-c", "while read line; do echo got $line; done", stdin="stream", tty=tty)["id"]
    with Stream(supervisor, "job_attach", id=identifier) as gone:
        gone.receive()
    with Stream(supervisor, "job_attach", id=identifier) as half:
        half.connection.shutdown(socket.SHUT_WR)
        while half.connection.recv(1 << 16):
            pass
    with Stream(supervisor, "job_attach", id=identifier) as stream:
        stream.send(INPUT, b"this\n")
        stream.until(b"got this")
    assert supervisor.ask("job_stop", id=identifier, signal="SIGKILL")["result"]["job"]["state"] == "killed"


def test_a_terminal_of_a_job_can_be_used_by_who_attaches(supervisor: Supervisor) -> None:
    identifier = job(supervisor, "bash", "--norc", tty=TTY)["id"]
    with Stream(supervisor, "job_attach", id=identifier, offset=0) as stream:
        stream.send(INPUT, b'stty size; echo a""b\n')
        assert b"24 80" in stream.until(b"ab\r\n")
    assert supervisor.ask("job_stop", id=identifier, grace_s=0.2)["result"]["job"]["state"] == "killed"


def test_a_stop_ends_a_job_with_all_it_started_after_its_grace(supervisor: Supervisor) -> None:
    identifier = job(supervisor, "bash", "-c", "trap '' TERM; setsid sleep 1000 & sleep 1000 & echo begun; wait; wait")[
        "id"
    ]
    supervisor.wait_until(lambda: logs(supervisor, identifier)["data"])
    begun = time.monotonic()
    record = supervisor.ask("job_stop", id=identifier, signal="SIGTERM", grace_s=0.5)["result"]["job"]
    assert time.monotonic() - begun > 0.4
    assert (record["state"], record["signal"], record["killed_by"]) == ("killed", "SIGKILL", "operator")
    assert supervisor.pids() == []
    assert supervisor.ask("job_stop", id=identifier)["result"]["job"] == record


def test_what_a_job_started_has_the_same_grace(supervisor: Supervisor) -> None:
    child = "trap 'sleep 0.3; echo saved >done; exit' TERM; echo begun; while :; do sleep 0.02; done"
    identifier = job(supervisor, "sh", "-c", f'sh -c "{child}" & wait')["id"]
    supervisor.wait_until(lambda: logs(supervisor, identifier)["data"])
    record = supervisor.ask("job_stop", id=identifier, grace_s=10)["result"]["job"]
    assert (record["state"], record["exit_code"], record["signal"]) == ("killed", 143, "SIGTERM")
    assert (supervisor.folder / "place/done").read_text() == "saved\n"


def test_a_stop_may_send_another_signal(supervisor: Supervisor) -> None:
    identifier = job(supervisor, "sh", "-c", "trap 'exit 9' INT; echo begun; while :; do sleep 0.02; done")["id"]
    supervisor.wait_until(lambda: logs(supervisor, identifier)["data"])
    record = supervisor.ask("job_stop", id=identifier, signal="SIGINT", grace_s=10)["result"]["job"]
    assert (record["state"], record["exit_code"], record["killed_by"]) == ("killed", 9, "operator")
    for name in ("SIGNONE", "mro", "__members__"):
        assert refusal(supervisor, "job_stop", id=identifier, signal=name) == "invalid_params"


def test_a_time_limit_ends_a_job(start: Callable[..., Supervisor]) -> None:
    supervisor = start(runtime_s=0.5)
    for timeout_s in (0.3, None, 1000):
        record = ended(supervisor, job(supervisor, "sleep", "1000", timeout_s=timeout_s)["id"])
        assert (record["state"], record["killed_by"]) == ("killed", "timeout")


def test_a_program_that_cannot_be_started_is_a_job_that_ended(supervisor: Supervisor) -> None:
    record = job(supervisor, "no-such-program")
    assert (record["state"], record["exit_code"]) == ("exited", 127)
    assert logs(supervisor, record["id"])["data"] == "no-such-program: not found\n"


def test_a_job_that_ended_can_be_deleted(supervisor: Supervisor) -> None:
    identifier = job(supervisor, "sleep", "1000")["id"]
    assert refusal(supervisor, "job_delete", id=identifier) == "in_use"
    supervisor.ask("job_stop", id=identifier, grace_s=0)
    assert supervisor.ask("job_delete", id=identifier) == {"result": {}}
    assert list(folder_of(supervisor).iterdir()) == []
    for request in ("job_get", "job_logs", "job_wait", "job_stop", "job_delete"):
        assert refusal(supervisor, request, id=identifier) == "not_found"
    with Stream(supervisor, "job_attach", id=identifier) as stream:
        assert stream.answer["error"]["data"]["kind"] == "not_found"


def test_a_wait_ends_with_its_time_or_the_job(supervisor: Supervisor) -> None:
    identifier = job(supervisor, "sh", "-c", "until test -e gate; do sleep 0.02; done")["id"]
    assert supervisor.ask("job_wait", id=identifier, timeout_s=0.1)["result"]["job"]["state"] == "running"
    with supervisor.send("job_wait", id=identifier, timeout_s=20) as connection:
        supervisor.run("touch", "gate")
        assert framing.receive(connection, MIB)["result"]["job"]["state"] == "exited"


def test_who_watches_is_told_of_each_start_and_end(supervisor: Supervisor) -> None:
    first = job(supervisor, "sleep", "1000")
    with supervisor.send("watch") as connection:
        receive = lambda: framing.receive(connection, MIB)  # noqa: E731
        assert receive() == {"jobs": [first]}
        second = job(supervisor, "true")
        assert receive() == {"job": second}
        assert receive() == {"job": ended(supervisor, second["id"])}
        with run(supervisor, "true") as stream:
            stream.rest()
        assert [receive()["job"]["state"] for _ in range(2)] == ["running", "exited"]
        os.kill(supervisor.process.pid, signal.SIGTERM)
        told = receive()["job"]
        assert (told["id"], told["state"], told["killed_by"]) == (first["id"], "killed", "operator")


def test_two_hundred_jobs_run_at_once_and_no_more(supervisor: Supervisor) -> None:
    script = "until test -e gate; do sleep 0.5; done; echo $0; for n in $(seq 5000); do echo $n; done"
    identifiers = [job(supervisor, "sh", "-c", script, str(n))["id"] for n in range(200)]
    assert refusal(supervisor, "job_start", **command("true")) == "limit"
    assert supervisor.run("touch", "gate")["exit_code"] == 0
    for n, identifier in enumerate(identifiers):
        assert ended(supervisor, identifier)["exit_code"] == 0
        assert logs(supervisor, identifier, limit=5)["data"].split("\n")[0] == str(n)
    assert len(os.listdir(f"/proc/{supervisor.process.pid}/fd")) < 12


def test_what_ran_when_a_supervisor_was_killed_is_lost(start: Callable[..., Supervisor]) -> None:
    supervisor = start()
    over = job(supervisor, "sh", "-c", "echo over; exit 4")["id"]
    before = ended(supervisor, over)
    lost = job(supervisor, "sh", "-c", "echo there; echo more >&2; sleep 1000")["id"]
    supervisor.wait_until(lambda: logs(supervisor, lost)["next_offset"] == 11)
    supervisor.process.kill()
    supervisor = start()
    supervisor.ask("start")  # one that is only looked at ends at once
    assert [one["id"] for one in supervisor.ask("job_list")["result"]["jobs"]] == [lost, over]
    assert supervisor.ask("job_get", id=over)["result"]["job"] == before
    record = supervisor.ask("job_get", id=lost)["result"]["job"]
    assert (record["state"], record["exit_code"], record["stdout_bytes"], record["stderr_bytes"]) == (
        "lost",
        None,
        6,
        5,
    )
    assert record["ended_at"] >= record["started_at"]
    for identifier, data in ((over, "over\n"), (lost, "there\nmore\n")):
        piece = logs(supervisor, identifier)
        assert (piece["data"], piece["eof"]) == (data, True)
    with Stream(supervisor, "job_attach", id=lost, offset=0) as stream:
        stdout, stderr, end = stream.rest()
    assert (stdout, stderr, end["state"], end["exit_code"]) == (b"there\n", b"more\n", "lost", None)


def test_a_sigterm_ends_jobs_and_is_written_down(start: Callable[..., Supervisor]) -> None:
    supervisor = start()
    identifier = job(
        supervisor, "sh", "-c", "trap 'echo saved; exit 0' TERM; echo begun; while :; do sleep 0.02; done"
    )["id"]
    supervisor.wait_until(lambda: logs(supervisor, identifier)["data"])
    os.kill(supervisor.process.pid, signal.SIGTERM)
    assert supervisor.process.wait(10) == 0
    supervisor = start()
    supervisor.ask("start")
    record = supervisor.ask("job_get", id=identifier)["result"]["job"]
    assert (record["state"], record["killed_by"]) == ("killed", "operator")
    assert logs(supervisor, identifier, stream="stdout")["data"] == "begun\nsaved\n"


@pytest.mark.parametrize(
    "harm",
    [
        "rm -rf ~/.local/state/codesmith/jobs/$0",
        "rm -f ~/.local/state/codesmith/jobs/$0/log-*; mkfifo ~/.local/state/codesmith/jobs/$0/log-{0..9}",
        "cd ~/.local/state/codesmith/jobs/$0; f=$(ls log-*); rm $f; mkfifo $f",
        "cd ~/.local/state/codesmith/jobs/$0; head -c 600000 /dev/zero >$(ls log-*)",
        "cd ~/.local/state/codesmith/jobs/$0; head -c 600000 /dev/urandom >$(ls log-*)",
        "cd ~/.local/state/codesmith/jobs/$0; ln -sf /dev/zero $(ls log-*); ln -sf /dev/zero record.json",
        "cd ~/.local/state/codesmith/jobs/$0; head -c 100000 /dev/zero | tr '\\0' [ >record.json",
        "cd ~/.local/state/codesmith/jobs/$0; echo '{\"id\": 7}' >record.json",
        "cd ~/.local/state/codesmith/jobs; mv $0 deadbeefdead; ln -s /dev $0",
        "cd ~/.local/state/codesmith/jobs; mkdir aaaaaaaaaaaa; mkfifo aaaaaaaaaaaa/record.json",
    ],
)  # fmt: skip
def test_a_login_that_forges_its_logs_harms_only_them(start: Callable[..., Supervisor], harm: str) -> None:
    supervisor = start()
    identifier = job(supervisor, "sh", "-c", "echo begun; until test -e gate; do sleep 0.02; done; seq 100000")["id"]
    supervisor.wait_until(lambda: logs(supervisor, identifier)["data"])
    assert supervisor.run("bash", "-c", harm.replace("$0", identifier))["stderr"] == ""
    with Stream(supervisor, "job_attach", id=identifier, offset=0) as stream:
        supervisor.run("touch", "gate")
        assert stream.rest()[2]["exit_code"] == 0
    assert ended(supervisor, identifier)["stdout_bytes"] > 500_000
    whole(supervisor, identifier)
    supervisor.process.kill()
    supervisor = start()
    supervisor.ask("start")  # one that is only looked at ends at once
    for one in supervisor.ask("job_list")["result"]["jobs"]:
        whole(supervisor, one["id"])
    assert supervisor.run("echo", "well")["stdout"] == "well\n"


def test_a_full_disk_stops_no_job_and_its_log_says_what_it_lost(start: Callable[..., Supervisor]) -> None:
    supervisor = start()
    home = supervisor.folder / "home"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=400k,uid={UID},gid={UID},mode=700", "none", home], check=True)
    try:
        fill = "head -c 300000 /dev/zero | tr '\\0' {}; until test -e {}; do sleep 0.02; done"
        script = f"{fill.format('a', 'gate')}; {fill.format('b', 'more')}; echo end"
        identifier = job(supervisor, "sh", "-c", script)["id"]
        supervisor.wait_until(lambda: logs(supervisor, identifier)["next_offset"] == 300_000)
        supervisor.run("touch", "gate")
        supervisor.wait_until(
            lambda: supervisor.ask("job_get", id=identifier)["result"]["job"]["stdout_bytes"] == 600_000
        )
        supervisor.run("sh", "-c", "cat /dev/zero >~/rest", timeout_s=5.0)
        assert refusal(supervisor, "job_start", **command("true")) == "limit"
        supervisor.run("sh", "-c", "rm ~/rest")
        subprocess.run(["mount", "-o", "remount,size=2m", home], check=True)
        time.sleep(1.2)  # it tries again once a second
        supervisor.run("touch", "more")
        record = ended(supervisor, identifier)
        assert (record["exit_code"], record["stdout_bytes"]) == (0, 600_004)
        pieces = whole(supervisor, identifier)
        text = "".join(one["data"] for one in pieces)
        assert (text[:300_000], text[-4:]) == ("a" * 300_000, "end\n")
        assert any(one["next_offset"] != two["offset"] for one, two in itertools.pairwise(pieces))
    finally:
        supervisor.close()
        subprocess.run(["umount", "--lazy", home], check=True)


def test_an_ended_job_that_nobody_was_told_of_keeps_the_supervisor(start: Callable[..., Supervisor]) -> None:
    supervisor = start(idle_stop_s=0.3, unseen_s=3600)
    identifier = job(supervisor, "true")["id"]
    with pytest.raises(subprocess.TimeoutExpired):
        supervisor.process.wait(1.5)
    with supervisor.send("watch") as connection:
        assert framing.receive(connection, MIB)["jobs"][0]["id"] == identifier
        assert supervisor.process.wait(5) == 0


def test_one_that_is_only_watched_ends_when_it_is_idle(start: Callable[..., Supervisor]) -> None:
    supervisor = start(idle_stop_s=0.5)
    with supervisor.send("watch") as connection:
        assert framing.receive(connection, MIB) == {"jobs": []}
        assert supervisor.process.wait(5) == 0
        assert connection.recv(1) == b""


def test_a_running_job_keeps_the_supervisor(start: Callable[..., Supervisor]) -> None:
    supervisor = start(idle_stop_s=0.3, unseen_s=0)
    job(supervisor, "sleep", "1.5")
    begun = time.monotonic()
    assert supervisor.process.wait(10) == 0
    assert time.monotonic() - begun > 1.4


def test_the_number_of_ended_jobs_is_bounded(supervisor: Supervisor) -> None:
    identifiers = [job(supervisor, "no-such-program")["id"] for _ in range(260)]
    there = [one["id"] for one in supervisor.ask("job_list")["result"]["jobs"]]
    assert there == identifiers[:3:-1]
    assert len(list(folder_of(supervisor).iterdir())) == 256


def test_a_watcher_that_reads_nothing_is_let_go(supervisor: Supervisor) -> None:
    connection = supervisor.send("watch")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    with connection:
        for _ in range(20):
            job(supervisor, "true", *["x" * 4000])
        assert supervisor.run("echo", "well")["stdout"] == "well\n"


def has_written(supervisor: Supervisor, identifier: str, size: int) -> bool:
    return bool(supervisor.ask("job_get", id=identifier)["result"]["job"]["stdout_bytes"] == size)


def test_the_logs_of_a_workspace_are_bounded(supervisor: Supervisor) -> None:
    script = "head -c 9800000 /dev/zero; until test -e gate; do sleep 0.1; done"
    identifiers = [job(supervisor, "head", "-c", "9800000", "/dev/zero")["id"] for _ in range(25)]
    for identifier in identifiers:
        ended(supervisor, identifier)
    assert logs(supervisor, identifiers[0], limit=10)["offset"] == 0
    more = [job(supervisor, "sh", "-c", script)["id"] for _ in range(10)]
    for identifier in more:
        supervisor.wait_until(functools.partial(has_written, supervisor, identifier, 9_800_000))
    size = sum(path.stat().st_size for path in folder_of(supervisor).glob("*/log-*"))
    assert 240 * MIB < size < 257 * MIB
    first = logs(supervisor, identifiers[0], limit=10)
    assert (first["data"], first["offset"], first["eof"]) == ("", 9_800_000, True)
    assert logs(supervisor, identifiers[-1], limit=10)["offset"] == 0
    assert logs(supervisor, more[-1], limit=10)["offset"] == 0
