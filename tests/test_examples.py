"""The examples run as they stand, against a real node, and leave nothing there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.person import Person

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def person(make_person: Callable[..., Person]) -> Person:
    """Somebody with one bare node."""
    return make_person({"web1": "bookworm"})


def test_the_python_face_does_the_main_job(person: Person) -> None:
    said = person.runs("python examples/first_workspace.py web1")
    assert "/srv/codesmith/workspaces/example belongs to cs-example" in said.out
    assert ".git" in said.out
    assert person.on(
        "web1", "ls -A /srv/codesmith/workspaces /srv/codesmith/home; getent passwd cs-example", check=False
    ).out == ("/srv/codesmith/home:\n\n/srv/codesmith/workspaces:\n")


def test_curl_is_enough(person: Person) -> None:
    assert '"agent"' in person.runs("examples/raw_rpc.sh web1").out
