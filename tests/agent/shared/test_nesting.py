"""The depth of JSON, and how much is in it, is known before it is parsed."""

from __future__ import annotations

import json
import time

import pytest

from agent.shared.nesting import DEPTH_MAX, check_count, check_depth

DEEP = ("[" * 100_000, '{"a":' * 100_000, '[{"a":' * (DEPTH_MAX // 2) + "[", '"\\""' + "[" * 99)
AS_DEEP_AS_MAY_BE = json.loads("[" * DEPTH_MAX + "]" * DEPTH_MAX)
FLAT = (["[" * 500], {"{" * 500: '"[['}, [[1]] * 5_000, AS_DEEP_AS_MAY_BE, "\\[" * 200)


@pytest.mark.parametrize("text", DEEP, ids=range(len(DEEP)))
def test_what_is_too_deep_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="nested deeper"):
        check_depth(text.encode())


@pytest.mark.parametrize("value", FLAT, ids=range(len(FLAT)))
def test_only_depth_counts(value: object) -> None:
    check_depth(json.dumps(value).encode())


def test_what_has_too_many_values_is_refused() -> None:
    check_count(json.dumps([1] * 100).encode(), 100)
    for values in ([1] * 101, [[[]] * 60], [{"a": {}}] * 40):
        with pytest.raises(ValueError, match="more than 100 values"):
            check_count(json.dumps(values).encode(), 100)


def test_only_what_is_no_text_counts() -> None:
    check_count(json.dumps(["a,b" * 999, '\\",' * 999, "\n,"]).encode(), 100)


def test_a_text_that_does_not_end_takes_no_long_time() -> None:
    text = b"[]," * 99 + b'"' + b'\\"' * 20_000
    begun = time.monotonic()
    check_depth(text)
    with pytest.raises(ValueError, match="values"):
        check_count(text, 50)
    assert time.monotonic() - begun < 30
