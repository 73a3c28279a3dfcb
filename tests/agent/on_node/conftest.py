"""The whole agent on a real node, reached as the SDK reaches it."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import agent
from codesmith.bootstrap import pack, zipapp
from codesmith.bootstrap.prepare import prepare
from codesmith.nodes.registry import Registry
from tests.agent.on_node.door_one import Door
from tests.agent.on_node.forge import Forge
from tests.agent.on_node.web1 import Web1, calling
from tests.person import Person

# The version of a release after this one.
# Each upgrade is to a release of its own.
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def release() -> str:
    """Which Debian the node of this module runs."""
    return "bookworm"


@pytest.fixture(scope="module")
def prepare_first() -> str:
    """What somebody has done to the node before it is prepared: a script."""
    return ""


@pytest.fixture(scope="module")
def web1(make_person: Callable[..., Person], release: str, prepare_first: str) -> Iterator[Web1]:
    """One prepared node for this module."""
    person = make_person({"web1": release})
    if prepare_first:
        person.on("web1", prepare_first)
    person.prepare()
    with calling(person) as node:
        yield node


@pytest.fixture(scope="module")
def two(
    make_person: Callable[..., Person], tmp_path_factory: pytest.TempPathFactory, release: str
) -> Iterator[tuple[Web1, Forge]]:
    """A prepared node, and a forge beside it."""
    person = make_person({"web1": release, "forge": "bookworm"}, bridge=True)
    forge = Forge(person, "forge", tmp_path_factory.mktemp("forge"))
    forge.trusted_by("web1")
    person.prepare("web1")
    with calling(person) as node:
        yield node, forge


@pytest.fixture(autouse=True)
def connection_of_one_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Close the client's connection after each test: what restarts the agent makes it connect again in any of them."""
    yield
    for value in request.node.funcargs.values():
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Web1):
                one.client.close()


@pytest.fixture
def forge(two: tuple[Web1, Forge]) -> Forge:
    """The forge beside the node."""
    return two[1]


@pytest.fixture
def upgrade(web1: Web1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Install another release, the same agent under another version, and return that."""
    version = f"9.9.{next(NUMBERS)}"
    copy = Path(shutil.copytree(Path(agent.__file__).parent, tmp_path / "agent"))
    text = (copy / "__init__.py").read_text()
    (copy / "__init__.py").write_text(text.replace(zipapp.version(copy), version))
    payload = pack.pack_into(copy, tmp_path / "agent.pyz")

    def install() -> str:
        monkeypatch.setattr(pack, "pack", lambda: payload)
        prepare(Registry.load(web1.person.registry).get("web1"))
        web1.client.close()
        return version

    return install


@pytest.fixture(scope="module")
def door(web1: Web1) -> Door:
    """The way into the workspaces `demo` and `other`, by the alias."""
    web1.client.workspace.create(name="demo")
    web1.client.workspace.create(name="other")
    return Door(web1)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose name leaves room for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="cs-") as folder:
        yield Path(folder)
