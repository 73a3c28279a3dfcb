"""Real `inv` processes that read logs of jobs, whole, in part or as they grow, against a stand-in."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.sdk.stream_doubles import JOB, STDERR, STDOUT, stand_in
from tests.tasks.conftest import INV, TOP
from tests.tasks.job_doubles import ENDED, ID, in_turn, piece, plays

pytestmark = pytest.mark.slow


def test_what_the_log_has_left_out_is_said(place):
    with stand_in(place.endpoint(), plays(100, (STDOUT, b"end\n")), job_get=in_turn(JOB, ENDED)):
        done = place.inv("job.logs", "demo", ID, "--follow")
    assert done.stdout == "end\n"
    assert done.stderr == "note: 100 bytes are left out here: the log keeps its beginning and its end\n"


def test_a_log_is_read_in_pieces_byte_for_byte(place):
    """What is written meanwhile is for the next look."""
    pieces = in_turn(piece("Gr\u00fc", size=4), piece("w58=", 4, size=2, encoding="base64"))
    with stand_in(place.endpoint(), job_get={**JOB, "stderr_bytes": 6}, job_logs=pieces) as server:
        argv = [INV, "job.logs", "demo", ID, "--stream", "stderr"]
        done = subprocess.run(argv, cwd=TOP, env=place.environment, stdin=subprocess.DEVNULL, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Gr\u00fc\u00df".encode(), b"")
    asked = [
        (params["stream"], params["offset"], params["limit"]) for method, params in server.calls if method == "job.logs"
    ]
    assert asked == [("stderr", 0, 6), ("stderr", 4, 2)]


def test_the_last_lines_are_found(place):
    text = "".join(f"line {number}\n" for number in range(1000))

    def logs(params):
        end = params["offset"] + params["limit"]
        return piece(text[params["offset"] : end], params["offset"], eof=end >= len(text))

    job = {**ENDED, "stdout_bytes": len(text)}
    with stand_in(place.endpoint(), job_get=job, job_logs=logs):
        assert place.inv("job.logs", "demo", ID, "--tail", "2").stdout == "line 998\nline 999\n"
        assert place.inv("job.logs", "demo", ID, "--tail", "0").stdout == ""
        assert place.inv("job.logs", "demo", ID, "--tail", "5000").stdout == text


def test_one_stream_is_followed_from_the_last_lines(place):
    job = {**JOB, "stdout_bytes": 8, "stderr_bytes": 100}
    play = plays(108, (STDERR, b"no\n"), (STDOUT, b"new\n"))
    logs = {0: piece("one\ntwo\n"), 4: piece("two\n", 4)}
    with stand_in(
        place.endpoint(), play, job_get=in_turn(job, ENDED), job_logs=lambda params: logs[params["offset"]]
    ) as server:
        done = place.inv("job.logs", "demo", ID, "--stream", "stdout", "--tail", "1", "--follow")
    assert (done.returncode, done.stdout) == (3, "two\nnew\n")
    assert ("job.attach", {"workspace": "demo", "id": ID, "offset": 108}) in server.calls


def test_json_has_a_piece_with_its_offsets_or_a_line_for_each(place):
    job = {**ENDED, "stdout_bytes": 2}
    with stand_in(place.endpoint(), plays(0, (STDOUT, b"a\n"), (STDERR, b"\xff")), job_get=job,
                  job_logs=piece("ab", eof=True)):  # fmt: skip
        whole = place.inv("job.logs", "demo", ID, "--json")
        lines = place.inv("job.logs", "demo", ID, "--json", "--follow")
    assert json.loads(whole.stdout) == piece("ab", eof=True)
    assert [json.loads(line) for line in lines.stdout.splitlines()] == [
        {"stream": "stdout", "offset": 0, "data": "a\n", "encoding": "text"},
        {"stream": "stderr", "offset": 2, "data": "/w==", "encoding": "base64"},
    ]


@pytest.mark.parametrize(("options", "offsets"), [([], [100, 104]), (["--stream", "stdout"], [None])])
def test_lines_of_json_count_what_is_left_out(place, options, offsets):
    play = plays(100, (STDOUT, b"end\n"), (STDERR, b"e"))
    with stand_in(place.endpoint(), play, job_get=in_turn(JOB, ENDED)):
        done = place.inv("job.logs", "demo", ID, "--json", "--follow", *options)
    assert [json.loads(line)["offset"] for line in done.stdout.splitlines()] == offsets
