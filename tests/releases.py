"""Debian releases for tests that run on one of them in `make test`, and on the others in `make test-long`."""

from __future__ import annotations

import pytest


def _first(first: str, *others: str) -> pytest.MarkDecorator:
    later = [pytest.param(release, marks=pytest.mark.long) for release in others]
    return pytest.mark.parametrize("release", [first, *later], scope="module")


# What takes long and hardly depends on the release: a reboot, packages.
BOOKWORM_FIRST = _first("bookworm", "trixie", "bullseye")
# What sshd and sudo say: first the newest, which is the strictest.
TRIXIE_FIRST = _first("trixie", "bookworm")
