"""The examples that want more than one node, or more than Python: as they stand, on real nodes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codesmith.nodes.registry import Registry
from codesmith.sdk.client import Client
from tests.agent.on_node.door_one import free_port
from tests.agent.on_node.forge import Forge
from tests.person import TOP, Person

pytestmark = pytest.mark.lab
EXAMPLES = TOP / "examples"
PAGE = "<h1>Hello</h1>"


@pytest.fixture(scope="module")
def two(make_person: Callable[..., Person], tmp_path_factory: pytest.TempPathFactory) -> tuple[Person, Forge]:
    """Somebody with two prepared nodes, web1 tagged canary; web2 is a git server, too."""
    person = make_person({"web1": "bookworm", "web2": "bookworm"}, bridge=True)
    forge = Forge(person, "web2", tmp_path_factory.mktemp("forge"))
    forge.trusted_by("web1")
    nodes = {name: person.lab_entry(name) for name in ("web1", "web2")}
    nodes["web1"]["tags"] = ["canary"]
    person.write_registry(nodes)
    person.prepare()
    return person, forge


@pytest.fixture
def person(two: tuple[Person, Forge]) -> Iterator[Person]:
    """The one with two nodes; the test must leave no workspace and no user."""
    yield two[0]
    with two[0].here():
        for node in Registry.load(two[0].registry).nodes.values():
            with Client(node) as client:
                assert client.workspace.list() == client.user.list() == []


def test_the_list_has_every_example() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        assert path.suffix in (".md", "") or path.stem in listed, path


def test_two_agents_work_side_by_side(person: Person) -> None:
    shown = person.runs("python examples/two_agents.py web1").out
    for name in ("docs-bot", "fix-bot"):
        # Each sees its own directory alone, and is refused the other.
        assert f"cs-{name}\n# by {name}\n{name}\nthe other one: " in shown
    assert len(re.findall(r"the other one: token \w+ reaches workspace '[a-z-]+' alone", shown)) == 2
    assert person.runs("codesmith token.list --node web1").out == ""


@pytest.mark.parametrize(("command", "code", "words"), [("sh -c 'cat one; exit 3'", 3, "one\n")])
def test_a_ci_job_has_the_exit_code_of_its_command_and_leaves_nothing(
    person: Person, two: tuple[Person, Forge], command: str, code: int, words: str
) -> None:
    said = person.runs(f"examples/ci_runner.sh web1 {two[1].https}/public.git other {command}", code=code)
    name, _, rest = said.out.partition("\n")
    assert re.fullmatch(r"ci-other-\d+", name)
    assert rest == words


def test_a_dev_server_is_looked_at_until_ctrl_c(person: Person) -> None:
    person.runs("codesmith workspace.create shop --node web1")
    person.runs("codesmith file.write shop code/index.html --node web1", typed=f"{PAGE}\n")
    port = free_port()
    words = ["examples/dev_server.sh", "web1", "shop", str(port), "python3", "-m", "http.server", str(port)]
    with subprocess.Popen(
        words,
        cwd=TOP,
        env=person.environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as server:
        person.wait_until(lambda: page_at(port) == f"{PAGE}\n", within_s=60)
        os.killpg(server.pid, signal.SIGINT)
        server.communicate(timeout=60)
    assert server.returncode == 130
    assert person.runs("codesmith job.get shop dev --node web1 --json").json["state"] != "running"
    person.runs("codesmith workspace.delete shop --node web1 --yes")


def page_at(port: int) -> str:
    """Return what a port of this machine serves; "" while it does not."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def test_a_fleet_is_upgraded_after_its_canary(person: Person) -> None:
    said = person.runs("examples/fleet_upgrade.sh")
    order = [line.split("\t")[0] for line in said.out.splitlines()]
    assert order[0] == "web1"
    assert set(order) == {"web1", "web2"}


@pytest.mark.long
def test_a_canary_that_is_not_healthy_stops_the_upgrade(person: Person) -> None:
    # A drop-in of somebody's is what prepare leaves alone and verify finds.
    folder = "/etc/systemd/system/codesmith-agent.service.d"
    person.on("web1", f"mkdir {folder}; printf '[Service]\\nNice=1\\n' > {folder}/nice.conf; systemctl daemon-reload")
    try:
        said = person.runs("examples/fleet_upgrade.sh", check=False)
    finally:
        person.on("web1", f"rm -r {folder}; systemctl daemon-reload")
    assert said.code == 1
    assert said.err.endswith("the nodes tagged canary are not healthy; the others stay as they were\n")
    assert "web2\t" not in said.out


def test_tasks_of_ones_own_stand_beside_all_others(person: Person, tmp_path: Path) -> None:
    person.runs("codesmith workspace.create shop --node web1")
    person.runs("codesmith workspace.exec shop --node web1 -- sh -c 'mkdir -p code/app; echo x > code/app/main'")
    own = f"cd {tmp_path}; inv -r {EXAMPLES} -c own_tasks"
    assert person.runs(f"{own} release shop --node web1").out.endswith("release.tar.gz\n")
    packed = subprocess.run(["tar", "tzf", tmp_path / "release.tar.gz"], capture_output=True, text=True, check=True)
    assert "release/app/main\n" in packed.stdout
    listed = person.runs(f"{own} --list").out
    assert "  release" in listed
    assert "workspace.create" in listed
    person.runs(f"{own} workspace.delete shop --node web1 --yes")


def test_another_language_needs_no_library(person: Person) -> None:
    shown = person.runs("node examples/json_rpc.mjs web1").out.splitlines()
    assert shown[0].startswith("CodeSmith")
    assert shown[1] == "cs-from-node"
    assert shown[2].startswith("not_found: no workspace 'nobody'")
