"""What a channel keeps in pieces is the same, byte for byte, as what paramiko's array would hold."""

from __future__ import annotations

import array
import random

import paramiko
import pytest

from codesmith.ssh.pieces import Pieces, keep_pieces


@pytest.mark.parametrize("seed", range(5))
def test_pieces_are_read_as_an_array_is(seed: int) -> None:
    chance = random.Random(seed)
    pieces, expected = Pieces(), array.array("B")
    for _ in range(2000):
        if chance.random() < 0.5:
            data = chance.randbytes(chance.choice((0, 1, 5, 40)))
            pieces.frombytes(data)
            expected.frombytes(data)
        else:
            end = chance.choice((0, 1, 7, 100, None))
            assert pieces[:end].tobytes() == expected[:end].tobytes()
            del pieces[:end]
            del expected[:end]
        assert len(pieces) == len(expected)


def test_a_channel_keeps_what_it_has_received_already() -> None:
    channel = paramiko.Channel(1)
    channel.in_buffer.feed(b"before ")
    keep_pieces(channel)
    channel.in_buffer.feed(b"and after")
    channel.in_buffer.close()
    assert channel.in_buffer.read(3) + channel.in_buffer.read(100) == b"before and after"
    assert channel.in_buffer.read(100) == b""
