"""The depth of JSON is known before it is parsed."""

from __future__ import annotations

import json

import pytest

from agent.shared.nesting import DEPTH_MAX, check_depth

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
