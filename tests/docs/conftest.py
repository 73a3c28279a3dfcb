"""The machine of an operator with a server and a git server, for all that documents show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agent.on_node.forge import Forge
from tests.docs.desk import Desk
from tests.person import Person

# What the documents clone: site.git of the git server.
SITE = """
set -e
folder=$(mktemp -d); cd $folder; git init -q -b main
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
git commit -q --allow-empty -m Begin
echo '<h1>Hello</h1>' > index.html; git add .; git commit -qm 'Say hello'
git clone -q --bare . /srv/git/site.git; chown -R git: /srv/git/site.git
"""


@pytest.fixture(scope="module")
def desk(make_person: Callable[..., Person], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """An operator who has a bare server, an ssh key for it, and nothing of CodeSmith's but the program."""
    person = make_person({"web1": "bookworm", "forge": "bookworm"}, bridge=True)
    forge = Forge(person, "forge", tmp_path_factory.mktemp("forge"))
    forge.trusted_by("web1")
    person.on("forge", SITE)
    # Not the folder of the test: its long name has no room for a socket's.
    top = Path(str(person.registry.parent), "desk")
    desk = Desk(person, top, git=forge.https)
    yield desk
    desk.leave()
