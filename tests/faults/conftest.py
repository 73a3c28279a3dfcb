"""One node for all faults, with a repository to clone on it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codesmith.nodes.registry import Registry
from codesmith.sdk.client import Client
from tests.agent.on_node.forge import SERVER
from tests.agent.on_node.web1 import Web1
from tests.person import Person

FORGE = """
set -e
useradd --create-home git
mkdir -p /srv/git
cd /srv/git
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b HOME=/root
git init -q -b main seed
cd seed; echo one > one; git add one; git commit -qm one; cd ..
git clone -q --bare seed public.git
chown -R git: /srv/git
cat /srv/git/cert.pem >> /etc/ssl/certs/ca-certificates.crt
mkdir -p /etc/codesmith; echo 127.0.0.1:8443 > /etc/codesmith/git_hosts
printf '[Service]\nExecStart=python3 /root/serve.py 127.0.0.1 unused\n' > /etc/systemd/system/forge.service
printf '[Install]\nWantedBy=multi-user.target\n' >> /etc/systemd/system/forge.service
systemctl enable --quiet --now forge
"""


class Faulty(Web1):
    """A prepared node on which things go wrong."""

    def put(self, path: str, text: str) -> None:
        """Write a file."""
        self.person.lab_node("web1").run(["sh", "-c", 'mkdir -p "${1%/*}"; cat > "$1"', "sh", path], input=text)

    def storm(self, seed: int, kills: int) -> dict[str, object]:
        """Let the storm go over the node and return what it tells."""
        node = self.person.lab_node("web1")
        done = node.run(["python3", "/root/storm", str(seed), str(kills)], check=False, timeout_s=600 + 3 * kills)
        assert done.status == 0, f"seed {seed}: {done.stdout}{done.stderr}"
        found: dict[str, object] = json.loads(done.stdout)
        return found


def certify(folder: Path) -> None:
    """Make key and certificate of the node's own forge."""
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-subj", "/CN=forge", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2",
             "-keyout", "key.pem", "-out", "cert.pem"]  # fmt: skip
    subprocess.run(words, cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def faulty(make_person: Callable[..., Person], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    """A prepared node (Debian 12, unless CODESMITH_STORM_RELEASE says otherwise) with a forge of its own."""
    folder = tmp_path_factory.mktemp("forge")
    certify(folder)
    person = make_person({"web1": os.environ.get("CODESMITH_STORM_RELEASE", "bookworm")})
    person.prepare()
    with person.here():
        with Client(Registry.load(person.registry).get("web1")) as client:
            node = Faulty(person, client)
            certificate = (folder / "cert.pem").read_text()
            node.put("/srv/git/cert.pem", certificate)
            node.put("/srv/git/forge.pem", (folder / "key.pem").read_text() + certificate)
            node.put("/root/serve.py", SERVER)
            for file in Path(__file__).with_name("storm").glob("*.py"):
                node.put(f"/root/storm/{file.name}", file.read_text())
            node.on(FORGE)
            person.wait_until(
                lambda: node.on("git ls-remote https://127.0.0.1:8443/public.git", check=False).ok, within_s=20
            )
            client.node.version()
            yield node
