"""Logs of kept jobs: what they keep, those who follow them, and what limits and harms them."""

from __future__ import annotations

import base64
import functools
import itertools
import json
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.agent.supervisor.client import (
    END,
    POSITION,
    STDERR,
    Stream,
    command,
    ended,
    job,
    refusal,
)
from tests.agent.supervisor.conftest import UID, Supervisor
from tests.agent.supervisor.kept_logs import COUNT, KIB, MIB, folder_of, logs, whole

pytestmark = pytest.mark.slow


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
