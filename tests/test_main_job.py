"""The main job, end to end, as a person types it: on a real node of every release we support."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from tests.person import Person

pytestmark = pytest.mark.lab
RELEASES = ["bookworm", "trixie", "bullseye"]
# What is refused in the same way everywhere: on the other releases later.
ONE_RELEASE = pytest.mark.parametrize(
    "person", [RELEASES[0], *(pytest.param(other, marks=pytest.mark.long) for other in RELEASES[1:])], indirect=True
)


@pytest.fixture(scope="module", params=RELEASES)
def person(request: pytest.FixtureRequest, make_person: Callable[..., Person]) -> Person:
    """Somebody with one throw-away node, `web1`, that nothing was done to."""
    return make_person({"web1": request.param})


@pytest.fixture(scope="module")
def at_work(person: Person) -> Person:
    """The same one with a prepared node and two workspaces, also where the tests that make them do not run."""
    person.prepare()
    made = person.runs("inv workspace.list -o name").out.split()
    for name in {"demo", "other"} - set(made):
        person.runs(f"inv workspace.create {name}")
    return person


@ONE_RELEASE
def test_an_unprepared_node_is_one_clear_error(person: Person) -> None:
    said = person.fails("inv node.version", code=5)
    assert "inv node.prepare" in said.err


def test_prepare_brings_a_bare_node_up(person: Person) -> None:
    assert person.runs("inv node.prepare --plan", code=7).out
    assert not person.on("web1", "test -e /usr/lib/codesmith", check=False).ok
    prepared = person.runs("inv node.prepare --json").json
    assert [(one["node"], one["changed"]) for one in prepared] == [("web1", True)]


def test_prepare_again_has_nothing_to_do(person: Person) -> None:
    said = person.runs("inv node.prepare")
    assert "nothing to do" in said.out + said.err
    assert person.runs("inv node.prepare --plan").code == 0


def test_connect_makes_one_private_socket(person: Person) -> None:
    person.runs("inv node.connect")
    endpoint = person.endpoint()
    assert endpoint.stat().st_mode & 0o777 == 0o600
    assert endpoint.parent.stat().st_mode & 0o777 == 0o700


def test_no_tcp_port_is_open_on_the_node_but_that_of_sshd(person: Person) -> None:
    sockets = person.host("web1").socket.get_listening_sockets()
    assert {name for name in sockets if name.startswith("tcp")} == {"tcp://0.0.0.0:22", "tcp://:::22"}


def test_curl_reaches_the_agent(person: Person) -> None:
    request = '{"jsonrpc":"2.0","id":1,"method":"node.info"}'
    command = ["curl", "-sS", "--unix-socket", str(person.endpoint()), "http://node/", "-d", request]
    info = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["result"]
    assert info["hostname"] == person.on("web1", "hostname").out.strip()
    assert info["node_id"] == json.loads(person.on("web1", "cat /etc/codesmith/node.json").out)["node_id"]


def test_a_workspace_is_its_own_users(person: Person) -> None:
    made = person.runs("inv workspace.create demo --json").json
    assert (made["name"], made["login"], made["mode"]) == ("demo", "cs-demo", "0700")
    person.runs("inv workspace.exec demo -- touch code/mine")
    directory = person.host("web1").file("/srv/codesmith/workspaces/demo")
    assert (directory.user, directory.group, directory.mode) == ("cs-demo", "cs-demo", 0o700)
    file = person.host("web1").file("/srv/codesmith/workspaces/demo/code/mine")
    assert file.is_file
    assert file.user == "cs-demo"
    assert person.runs("inv workspace.exec demo -- id -un").out.strip() == "cs-demo"


def test_another_workspaces_user_is_refused(person: Person) -> None:
    person.runs("inv workspace.create other")
    path = "/srv/codesmith/workspaces/demo"
    person.runs(f"inv workspace.exec other -- ls {path}", code=2)
    person.runs(f"inv workspace.exec other -- touch {path}/code/theirs", code=1)
    # Also outside of the job's own view of the file system: plain Unix permissions hold.
    plain = person.on("web1", f"setpriv --reuid=cs-other --regid=cs-other --clear-groups ls {path}", check=False)
    assert not plain.ok
    assert "Permission denied" in plain.err


def test_a_workspaces_user_cannot_call_the_agent(person: Person) -> None:
    dial = "python3 -I -S /usr/lib/codesmith/current/program dial"
    plain = person.on("web1", f"setpriv --reuid=cs-demo --regid=cs-demo --clear-groups {dial} </dev/null", check=False)
    assert "Permission denied" in plain.err
    person.runs("inv workspace.exec demo -- python3 -I -S /usr/lib/codesmith/current/program dial", code=1)


def test_the_exit_code_of_a_command_is_the_exit_code(person: Person) -> None:
    said = person.runs("inv workspace.exec demo -- sh -c 'echo out; echo err >&2; exit 42'", code=42)
    assert (said.out, said.err) == ("out\n", "err\n")


def test_a_sandbox_holds_and_can_be_taken_away(person: Person) -> None:
    made = person.runs("inv sandbox.create demo --memory 512M --tasks 50 --cpus 1 --json").json
    assert made["limits"] == {"memory_bytes": 512 << 20, "tasks": 50, "cpus": 1.0}
    assert all(made["enforced"].values())
    person.runs("inv sandbox.delete demo")
    person.fails("inv sandbox.get demo", code=3)


def test_a_sandbox_without_network_has_none(person: Person) -> None:
    person.runs("inv sandbox.create demo --network none")
    assert person.runs("inv workspace.exec demo -- tail -n +3 /proc/net/dev").out.split(":")[0].strip() == "lo"
    person.runs("inv sandbox.delete demo")


def test_a_name_that_is_taken_is_one_clear_error(person: Person) -> None:
    assert "exists" in person.fails("inv workspace.create demo", code=6).err


@ONE_RELEASE
@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("inv workspace.create ../x", 1, "NAME must be 1 to 28"),
        ("inv workspace.get nobody", 3, "nobody"),
        ("inv user.delete demo --yes", 6, "owns workspaces"),
        ("inv node.version --node nowhere", 3, "nowhere"),
    ],
)
def test_a_refusal_is_one_clear_error(at_work: Person, command: str, code: int, words: str) -> None:
    said = at_work.fails(command, code=code)
    assert words in said.err


@ONE_RELEASE
def test_it_comes_back_after_a_reboot_without_a_command(at_work: Person) -> None:
    at_work.lab_node("web1").reboot()
    # The first call may find the connection still broken: it waits for it, or says so and is tried again.
    at_work.wait_until(lambda: at_work.runs("inv node.version --json", check=False).code == 0, within_s=60)
    assert [found["name"] for found in at_work.runs("inv workspace.list --json").json] == ["demo", "other"]


@ONE_RELEASE
def test_a_stopped_agent_is_one_clear_error(at_work: Person) -> None:
    at_work.runs("inv node.stop")
    try:
        said = at_work.fails("inv node.version", code=5)
        assert "inv node.start" in said.err
    finally:
        at_work.runs("inv node.start")
    at_work.wait_until(lambda: at_work.runs("inv node.version", check=False).code == 0, within_s=60)


@ONE_RELEASE
def test_a_wrong_host_key_is_one_clear_error(at_work: Person) -> None:
    at_work.runs("inv node.disconnect")
    with at_work.changed_host_key("web1"):
        said = at_work.fails("inv node.version", code=4)
    assert "SHA256:" in said.err
    at_work.runs("inv node.version")


def test_delete_leaves_nothing(person: Person) -> None:
    person.on("web1", "setpriv --reuid=cs-demo --regid=cs-demo --clear-groups sleep 1000 >/dev/null 2>&1 &")
    for name in ("demo", "other"):
        assert person.runs(f"inv workspace.delete {name} --yes --json").json["user_deleted"] is True
    host = person.host("web1")
    for login in ("cs-demo", "cs-other"):
        assert not host.user(login).exists
        assert not host.group(login).exists
        assert not host.file(f"/srv/codesmith/home/{login}").exists
    for folder in ("workspaces", "home", ".staging", ".trash"):
        assert person.on("web1", f"ls -A /srv/codesmith/{folder}").out == ""
    assert "sleep 1000" not in person.on("web1", "ps -eo args || cat /proc/[0-9]*/cmdline | tr '\\0' ' '").out
    assert person.on("web1", "pwck -r -q; grpck -r", check=False).err == ""
    person.fails("inv workspace.get demo", code=3)


def test_every_change_was_audited(person: Person) -> None:
    lines = person.on("web1", "cat /var/log/codesmith/audit.jsonl").out.splitlines()
    records = [json.loads(line) for line in lines]
    made = [one for one in records if one["method"] == "workspace.create" and one["target"] == {"name": "demo"}]
    assert [one["outcome"] for one in made] == ["ok", "already_exists"]
    # Nobody asks for the end of a command: it comes by itself.
    assert {one["peer_login"] for one in records if one["method"] != "job.end"} == {"root"}
