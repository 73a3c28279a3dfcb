"""Names are checked before any program starts."""

from __future__ import annotations

import pytest

from agent.shared.errors import InvalidParams
from agent.shared.names import parse_name


@pytest.mark.parametrize("name", ["a", "0", "demo", "a-b", "a" * 28, "x9-0"])
def test_a_good_name_stays_as_it_is(name: str) -> None:
    assert parse_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "/etc", "A", "a_b", "-a", "a-", "-", "a" * 29, "a\n", "a b", "ä", "a\0", "--help",
     None, 1, True, ["a"], "٣"],
)  # fmt: skip
def test_a_bad_name_is_refused(name: object) -> None:
    with pytest.raises(InvalidParams, match="name"):
        parse_name(name)
