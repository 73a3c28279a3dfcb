"""Frames of a stream: what a job reads is passed on as it comes, whatever its frames are cut into."""

from __future__ import annotations

import random
import struct

import pytest

from agent.supervisor.frames import INPUT, RESIZE, SIGNAL, BadFrame, Parser
from tests.agent.supervisor.client import run
from tests.agent.supervisor.conftest import Supervisor


def frame(kind: int, payload: bytes = b"") -> bytes:
    """Return a frame as a client sends it."""
    return struct.pack(">BI", kind, len(payload)) + payload


def parsed(parser: Parser) -> list[tuple[int, bytes]]:
    """Return copies of what the parser has to give."""
    found = []
    while (one := parser.next()) is not None:
        found.append((one[0], bytes(one[1])))
    return found


def test_input_reaches_the_job_before_its_frame_is_whole(supervisor: Supervisor) -> None:
    with run(supervisor, "cat", stdin="stream") as stream:
        stream.connection.sendall(struct.pack(">BI", INPUT, 8) + b"half")
        assert stream.until(b"half") == b"half"
        stream.connection.sendall(b"rest")
        stream.send(INPUT)
        assert stream.rest()[0] == b"rest"


@pytest.mark.parametrize("seed", range(5))
def test_frames_may_come_in_any_pieces(seed: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(3000)
    sent = frame(RESIZE, b"{}") + frame(INPUT, data) + frame(SIGNAL, b"SIGINT") + frame(INPUT, data) + frame(INPUT)
    parser, found, at = Parser(), [], 0
    while at < len(sent):
        size = chance.choice((1, 3, 5, 700))
        parser.add(sent[at : at + size])
        at += size
        found += parsed(parser)
    assert [one for one in found if one[0] != INPUT] == [(RESIZE, b"{}"), (SIGNAL, b"SIGINT")]
    assert b"".join(payload for kind, payload in found if kind == INPUT) == data * 2
    assert found[-1] == (INPUT, b"")
    assert (INPUT, b"") not in found[:-1]  # it would be the end of the input


def test_what_is_kept_outlives_the_memory_that_it_came_in() -> None:
    space = bytearray(frame(INPUT, b"one") + frame(INPUT, b"two"))
    parser = Parser()
    parser.add(memoryview(space))
    first = parser.next()
    assert (first and bytes(first[1])) == b"one"
    parser.keep()
    space[:] = bytes(len(space))
    assert parsed(parser) == [(INPUT, b"two")]


@pytest.mark.parametrize("bad", [struct.pack(">BI", 1, 1), struct.pack(">BI", INPUT, (1 << 16) + 1)])
def test_an_unknown_frame_and_a_longer_one_are_refused(bad: bytes) -> None:
    parser = Parser()
    parser.add(bad)
    with pytest.raises(BadFrame):
        parser.next()
