"""Work on two nodes at once: commands in all workspaces, what they use, who did what."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.person import Person


@pytest.fixture(scope="module")
def ops(make_person: Callable[..., Person]) -> Person:
    """Somebody with two prepared nodes, and three workspaces on them."""
    person = make_person({"web1": "bookworm", "web2": "trixie"})
    person.runs("inv node.prepare")
    for name, node in (("api", "web1"), ("shop", "web1"), ("shop", "web2")):
        person.runs(f"inv workspace.create {name} --node {node}")
    return person


def test_a_command_runs_in_all_workspaces_of_all_nodes(ops: Person) -> None:
    said = ops.runs("inv workspace.exec --all -- sh -c 'id -un; hostname >&2; cat' < /dev/null")
    names = ["web1/api", "web1/shop", "web2/shop"]
    assert sorted(said.out.splitlines()) == [f"{name}: cs-{name[5:]}" for name in names]
    assert said.err.splitlines()[-1] == "3 of 3 ended with 0"
    failed = ops.runs("inv workspace.exec --all -- sh -c 'test $CODESMITH_WORKSPACE = api || exit 7'", code=7)
    assert [line.partition(",")[0] for line in failed.err.splitlines()[1:]] == [
        "  web1/shop: exit code 7", "  web2/shop: exit code 7"
    ]  # fmt: skip
    rows = ops.runs("inv workspace.exec shop --all --json -- echo hi").json
    assert [(row["node"], row["workspace"], row["stdout"]) for row in rows] == [
        ("web1", "shop", "hi\n"), ("web2", "shop", "hi\n")
    ]  # fmt: skip
    some = ops.runs("inv workspace.exec api --all -- true")
    assert some.err == "note: no workspace 'api' on web2\n1 of 1 ended with 0\n"
