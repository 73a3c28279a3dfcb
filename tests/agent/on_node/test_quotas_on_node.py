"""A disk quota that is used up is reported as such; without it the same call succeeds.

Few kernels of test machines have quotas, so systemd makes the system calls of one service fail as a quota would.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.agent.on_node.web1 import Web1
from tests.releases import BOOKWORM_BEFORE_TRIXIE

pytestmark = [pytest.mark.lab, BOOKWORM_BEFORE_TRIXIE]


@contextmanager
def used_up(web1: Web1, unit: str, *calls: str) -> Iterator[None]:
    """Let system calls of a service end with EDQUOT."""
    folder = f"/run/systemd/system/{unit}.service.d"
    # A call that comes meanwhile starts the service again, which cancels the stop.
    restart = f"systemctl daemon-reload; until systemctl stop {unit}.service; do :; done"
    settings = "".join(f"SystemCallFilter=~{call}:EDQUOT\\n" for call in calls)
    web1.on(f"mkdir -p {folder}; printf '[Service]\\n{settings}' > {folder}/quota.conf; {restart}")
    try:
        yield
    finally:
        web1.on(f"rm -r {folder}; {restart}")


def is_told(web1: Web1, name: str) -> None:
    refusal = web1.refuses(web1.client.user.create, "limit", name=name)
    assert "quota" in str(refusal) and "full" not in str(refusal), refusal
    assert "repquota" in str(refusal.hint)
    assert not web1.on(f"grep -h ^cs-{name}: /etc/passwd /etc/shadow", check=False).out
    assert [one.detail for one in web1.client.node.health().checks if one.name == "pending"] == ["no change is pending"]


@pytest.fixture
def node(web1: Web1) -> Iterator[Web1]:
    yield web1
    web1.client.close()


def test_where_account_databases_and_trees_are(node: Web1) -> None:
    node.client.user.create(name="old")
    with used_up(node, "codesmith-helper", "fallocate"):
        is_told(node, "new")
        assert "/etc" in str(node.refuses(node.client.user.delete, "limit", name="old"))
    assert node.client.user.delete(name="old").deleted
    assert node.client.user.create(name="new").state == "active"
    node.client.user.delete(name="new")


@pytest.mark.parametrize("folder", ["codesmith-helper", pytest.param("codesmith-agent", marks=pytest.mark.long)])
def test_where_a_store_is(node: Web1, folder: str) -> None:
    """SQLite says no more than "disk I/O error" then."""
    node.on(f"rm -f /var/lib/{folder.replace('-agent', '')}/ballast")
    with used_up(node, folder, "fallocate"):
        is_told(node, "new")
    with used_up(node, folder, "fallocate", "fdatasync", "fsync"):
        refusal = node.refuses(node.client.user.create, "limit", name="new")
        assert "quota" in str(refusal), refusal
    assert node.client.user.create(name="new").state == "active"
    node.client.user.delete(name="new")
