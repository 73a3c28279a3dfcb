"""Debian releases for tests that run on one of them in `make test`, and on the others in `make test-long`."""

from __future__ import annotations

import pytest


def _first(first: str, *others: str) -> pytest.MarkDecorator:
    later = [pytest.param(release, marks=pytest.mark.long) for release in others]
    return pytest.mark.parametrize("release", [first, *later], scope="module")


# What takes long and hardly depends on the release: a reboot, packages.
BOOKWORM_FIRST = _first("bookworm", "trixie", "bullseye")
# What leans on the agent's own code: half of those files begin with the one, half with the other.
BOOKWORM_BEFORE_TRIXIE = _first("bookworm", "trixie")
# What sshd and sudo say: first the newest, which is the strictest.
TRIXIE_FIRST = _first("trixie", "bookworm")
# What OpenSSH of the node does, and what none may let through: the newest first, then the oldest.
NEWEST_FIRST = _first("trixie", "bullseye", "bookworm")
