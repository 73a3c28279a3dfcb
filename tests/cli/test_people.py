"""Numbers as people read them."""

from __future__ import annotations

import pytest

from codesmith.cli import people


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1535, "1.5 KiB"), (10 << 10, "10 KiB"),
        (1023 << 10, "1023 KiB"), ((1 << 20) - 1, "1.0 MiB"), (512 << 20, "512 MiB"), (20 << 30, "20 GiB"),
        (1 << 60, "1024 PiB"),
    ],
)  # fmt: skip
def test_a_size_has_a_unit_and_two_digits_or_more(number, shown):
    assert people.size(number) == shown


def test_a_count_agrees_with_its_noun():
    assert people.count(1, "job") == "1 job"
    assert people.count(2, "repository", "repositories") == "2 repositories"
