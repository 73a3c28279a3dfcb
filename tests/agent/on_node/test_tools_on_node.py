"""Tools over the network, in workspaces of a node that has an internet beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from codesmith.nodes.registry import Registry
from codesmith.sdk.client import Client
from tests.agent.on_node import tools
from tests.agent.on_node.internet import NAMES, Internet
from tests.agent.on_node.web1 import BOTH_RELEASES, Web1
from tests.person import Person

pytestmark = [pytest.mark.lab, BOTH_RELEASES]
NETWORK_NAMES = ("git.test", "web.test", "pypi.test", "npm.test")


@pytest.fixture(scope="module")
def place(
    make_person: Callable[..., Person], tmp_path_factory: pytest.TempPathFactory, release: str
) -> Iterator[tuple[Web1, Internet]]:
    """A prepared node with tools, and an internet on the same bridge."""
    person = make_person({"web1": release, "net": release}, bridge=True, packages=tools.PACKAGES)
    internet = Internet(person, "net", tmp_path_factory.mktemp("internet"))
    internet.meets("web1")
    person.runs("inv node.prepare --node web1")
    with pytest.MonkeyPatch.context() as patch:
        for key in ("CODESMITH_HOME", "CODESMITH_NODES"):
            patch.setenv(key, person.environment[key])
        with Client(Registry.load(person.registry).get("web1")) as client:
            client.node.version()
            yield Web1(person, client), internet


def put_key(web1: Web1, internet: Internet, workspace: str) -> None:
    """Give a workspace the deploy key of the internet's git, and the host key of every name of it."""
    key = internet.known_host.partition(" ")[2]
    known = "".join(f"{name} {key}\n" for name in NAMES)
    script = 'umask 077; mkdir -p ~/.ssh; cd ~/.ssh; cat > id_ed25519; printf %s "$KNOWN" > known_hosts'
    done = web1.client.workspace.exec(
        name=workspace, argv=["sh", "-c", script], stdin=internet.key, env={"KNOWN": known}
    )
    assert done.exit_code == 0, done.stderr


@pytest.fixture(scope="module")
def open_place(place: tuple[Web1, Internet]) -> tuple[Web1, Internet]:
    """A workspace with the whole network, which shows that tools and servers work."""
    web1, internet = place
    web1.client.workspace.create(name="open")
    put_key(web1, internet, "open")
    return place


@pytest.mark.parametrize(
    "tool", [*tools.TOOLS.values(), tools.SSH, tools.NODE_FETCH], ids=[*tools.TOOLS, "git over ssh", "Node's fetch"]
)
def test_every_tool_works_where_the_network_is_open(open_place: tuple[Web1, Internet], tool: tuple[str, str]) -> None:
    web1, _ = open_place
    done = web1.client.workspace.exec(name="open", argv=["sh", "-c", tools.script(tool, "web.test")])
    assert done.stdout.strip() == tools.wanted(tool, "web.test"), done.stderr
