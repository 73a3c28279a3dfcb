"""No byte of a job's output is lost or replaced, except the middle of a long one, which is counted."""

from __future__ import annotations

import base64
import random

import pytest

from agent.shared.errors import InvalidParams
from agent.supervisor.output import HALF_BYTES, Output, parse_encoding, parse_input


def taken(data: bytes, chunk: int = 65536) -> Output:
    output = Output()
    for at in range(0, len(data), chunk):
        output.add(data[at : at + chunk])
    return output


@pytest.mark.parametrize("chunk", [1, 7, 65536])
@pytest.mark.parametrize("text", ["", "plain\n", "Grüße 你好 🙂\r\n", "a\0b\x1b[0m"])
def test_what_is_utf8_is_text(text: str, chunk: int) -> None:
    assert taken(text.encode(), chunk).encode("text") == (text, "text", 0)


@pytest.mark.parametrize("data", [b"\xff", b"abc\xe4", b"\xed\xa0\x80", b"\xc0\x80", bytes(range(256))])
def test_what_is_none_is_base64(data: bytes) -> None:
    shown, encoding, omitted = taken(data).encode("text")
    assert (base64.b64decode(shown), encoding, omitted) == (data, "base64", 0)


def test_base64_is_base64_also_of_text() -> None:
    assert taken(b"plain").encode("base64") == (base64.b64encode(b"plain").decode(), "base64", 0)


@pytest.mark.parametrize("more", [-1, 0, 1, 2, 1000, 3 * HALF_BYTES])
@pytest.mark.parametrize("chunk", [1000, 65536, 8 * HALF_BYTES])
def test_of_what_is_too_long_both_ends_are_kept(more: int, chunk: int) -> None:
    data = random.Random(more).randbytes(2 * HALF_BYTES + more)
    shown, encoding, omitted = taken(data, chunk).encode("text")
    kept = data if more <= 0 else data[:HALF_BYTES] + data[-HALF_BYTES:]
    assert (base64.b64decode(shown) == kept, encoding, omitted) == (True, "base64", max(more, 0))


@pytest.mark.parametrize("letter", ["x", "ü", "你", "🙂"])
@pytest.mark.parametrize("shift", range(4))
def test_a_cut_splits_no_character(letter: str, shift: int) -> None:
    text = "a" * shift + letter * (2 * HALF_BYTES // len(letter.encode()) + 5) + "b" * (3 - shift)
    shown, encoding, omitted = taken(text.encode()).encode("text")
    assert encoding == "text"
    assert len(shown.encode()) + omitted == len(text.encode())
    assert 2 * HALF_BYTES - 6 <= len(shown.encode()) <= 2 * HALF_BYTES
    assert (shown.strip("ab").strip(letter), shown[:shift], shown[-1]) == ("", "a" * shift, text[-1])


def test_no_more_is_held_than_two_halves() -> None:
    output = Output()
    for _ in range(200):
        output.add(bytes(65536))
    held, _, omitted_bytes = output.encode("base64")
    assert (len(base64.b64decode(held)), omitted_bytes) == (2 * HALF_BYTES, 200 * 65536 - 2 * HALF_BYTES)


def test_an_input_is_read_as_its_encoding_says() -> None:
    assert parse_input("ü", "text") == "ü".encode()
    assert parse_input("/wA=", "base64") == b"\xff\0"
    for bad in ("/w", "a b=", "ü", "AA==\n", 7):
        with pytest.raises(InvalidParams, match="stdin"):
            parse_input(bad, "base64")
    for bad in ("\ud800", None):
        with pytest.raises(InvalidParams, match="stdin"):
            parse_input(bad, "text")
    for bad in ("hex", "", None, []):
        with pytest.raises(InvalidParams, match="encoding"):
            parse_encoding(bad)
