"""Tests with many cases of one kind: `make test` runs some, `make test-long` the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

# What both carriers do alike and takes long: the other one later.
FABRIC_FIRST = pytest.mark.parametrize(
    "carrier", ["fabric", pytest.param("openssh", marks=pytest.mark.long)], indirect=True
)


def some_of(cases: Mapping[str, Any], *now: str) -> list[Any]:
    """Return the cases as parameters with their names as ids; all but those of `now` are long."""
    assert set(now) <= set(cases)
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)), id=name, marks=[] if name in now else pytest.mark.long
        )
        for name, case in cases.items()
    ]


def some_names_of(cases: Mapping[str, Any], *now: str) -> list[Any]:
    """Return the names of cases as parameters; all but those of `now` are long."""
    return some_of({name: (name,) for name in cases}, *now)
