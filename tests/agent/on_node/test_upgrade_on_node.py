"""An upgrade of the agent ends nothing that runs in a workspace, and what runs finds all of its own release."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.shared.names import unit_of
from tests.agent.on_node.door_one import Door
from tests.agent.on_node.framed import Framed, over_socket
from tests.agent.on_node.web1 import Web1
from tests.releases import BOOKWORM_FIRST

pytestmark = [pytest.mark.lab, BOOKWORM_FIRST]


def test_an_upgrade_ends_no_job_and_the_new_front_end_hears_of_their_ends(
    web1: Web1, upgrade: Callable[[], str]
) -> None:
    client = web1.client
    client.workspace.create(name="works")
    argv = ["sh", "-c", "echo up; while [ ! -e go ]; do sleep 0.05; done; echo done; exit 4"]
    kept = client.job.start(workspace="works", argv=argv)
    streamed = client.job.start(workspace="works", argv=argv, ends_with_stream=True)
    assert streamed.stream
    with Framed(over_socket(web1.person.endpoint()), streamed.stream.token) as framed:
        framed.until(b"up\n")
        upgrade()
        states = {job.id: job.state for job in client.job.list(workspace="works")}
        assert states == {kept.id: "running", streamed.id: "running"}
        client.workspace.exec(name="works", argv=["touch", "go"])
        framed.until(b"done\n")
        assert framed.end()["exit_code"] == 4
    assert client.job.wait(workspace="works", id=kept.id).exit_code == 4
    assert client.job.logs(workspace="works", id=kept.id).data == "up\ndone\n"
    records = client.audit.list(workspace="works", user="works")
    ends = {record.target["id"]: record.exit_code for record in records if record.method == "job.end"}
    assert ends == {kept.id: 4, streamed.id: 4}
    client.workspace.delete(name="works")
    client.close()


def release_of(web1: Web1, workspace: str) -> str:
    """Return the release that a workspace's supervisor was started from."""
    pid = web1.on(f"systemctl show --property=MainPID --value {unit_of(workspace, 'service')}").out.strip()
    words = web1.on(f"tr '\\0' '\\n' </proc/{pid}/cmdline").out.split()
    return next(word for word in words if word.startswith("/usr/lib/codesmith/releases/"))


def test_an_upgrade_ends_nothing_in_a_workspace(web1: Web1, upgrade: Callable[[], str]) -> None:
    client = web1.client
    client.workspace.create(name="lives")
    door = Door(web1)
    client.workspace.exec(name="lives", argv=["sh", "-c", "echo first > /tmp/mark"])
    first, since = release_of(web1, "lives"), client.workspace.get(name="lives").runtime.since
    with door.session("lives") as session:
        assert session.stdin
        assert session.stdout
        version = upgrade()
        assert client.node.version().agent == version
        session.stdin.write(b"still there\n")
        session.stdin.flush()
        assert session.stdout.readline() == b"still there\n"
        assert client.workspace.exec(name="lives", argv=["cat", "/tmp/mark"]).stdout == "first\n"
        assert client.workspace.get(name="lives").runtime.since == since
        # What it imports late is still that of its own release.
        assert client.repo.init(workspace="lives", name="site").name == "site"
        assert door.ssh("lives", "ls code") == "site\n"
        assert release_of(web1, "lives") == first
    client.workspace.stop(name="lives")
    assert client.workspace.exec(name="lives", argv=["ls", "/tmp"]).stdout == ""
    assert release_of(web1, "lives") != first
    client.workspace.delete(name="lives")
    client.close()
