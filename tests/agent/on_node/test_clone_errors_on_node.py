"""A clone that fails says which line decided and what helps; one that leaves something out tells a person."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.agent.on_node.forge import Forge, make
from tests.agent.on_node.web1 import Web1
from tests.releases import BOOKWORM_BEFORE_TRIXIE

# tests/agent/git/test_git_errors.py has the lines, and test_clones_on_node.py some of them on a node.
pytestmark = [pytest.mark.lab, pytest.mark.long, BOOKWORM_BEFORE_TRIXIE]
NO_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAA\n-----END OPENSSH PRIVATE KEY-----\n"


@pytest.fixture
def web1(two: tuple[Web1, Forge]) -> Web1:
    return two[0]


class Refusals:
    """Clones into one workspace that must fail."""

    def __init__(self, web1: Web1, workspace: str) -> None:
        self.web1, self.wanted = web1, {"workspace": workspace, "name": "x"}

    def __call__(self, line: str, help_: str, **wanted: Any) -> None:
        refusal = self.web1.refuses(self.web1.client.repo.clone, "command_failed", **self.wanted, **wanted)
        assert line in refusal.problem, refusal
        assert "Could not read from remote" not in refusal.problem
        assert help_ in refusal.hint, refusal


def test_of_a_clone_over_ssh_the_deciding_line_is_shown(web1: Web1, forge: Forge, tmp_path: Path) -> None:
    code, refused = make(web1, "why"), Refusals(web1, "why")
    url, host = f"git@{forge.host}:/srv/git/private.git", forge.host
    known = {"known_hosts": [forge.known_host]}
    other = forge.known_host[:-6] + "AAAAAA"
    for name, passphrase in (("locked", "word"), ("stranger", "")):
        words = ["ssh-keygen", "-q", "-N", passphrase, "-t", "ed25519", "-f", tmp_path / name]
        subprocess.run(words, check=True)
    web1.on("ip route add unreachable 198.18.77.1/32")
    refused("No route to host", "ssh -v -p 22 198.18.77.1", url="git@198.18.77.1:a.git")
    refused("Connection refused", f"ssh -v -p 9 {host}", url=f"ssh://git@{host}:9/a.git", **known)
    refused("Could not resolve hostname nowhere.invalid", "getent hosts nowhere.invalid", url="git@nowhere.invalid:a")
    refused("host key is known for", f"ssh-keyscan -p 22 {host} > known_hosts", url=url)
    refused("has changed", "--known-hosts", url=url, known_hosts=[other])
    ssh = "/srv/codesmith/home/cs-why/.ssh"
    web1.on(f"mkdir -m 700 {ssh}; echo '{other}' >{ssh}/known_hosts; chown -R cs-why: {ssh}")
    refused("has changed", "--known-hosts", url=url)
    web1.on(f"rm {ssh}/known_hosts")
    refused("Load key the given file", "without passphrase", url=url, credential={"ssh_key": NO_KEY}, **known)
    locked = {"ssh_key": (tmp_path / "locked").read_text()}
    refused("Load key the given file", "ssh-keygen -p", url=url, credential=locked, **known)
    stranger = {"ssh_key": (tmp_path / "stranger").read_text()}
    refused(f"git@{host}: Permission denied (publickey", "--credential-file", url=url, credential=stranger, **known)
    refused("Permission denied (publickey", "--forward-agent", url=url, **known)
    key = {"credential": {"ssh_key": forge.key}, **known}
    refused("does not appear to be a git repository", "check the URL", url=f"git@{host}:/srv/git/none.git", **key)
    refused("Remote branch nope not found", "--ref", url=url, ref="nope", **key)
    assert web1.on(f"ls -A {code}").out == ""
    said = web1.person.fails(f"inv repo.clone why {url} --node web1", code=6).err
    assert "error: git clone failed: No" in said and "hint: ssh-keyscan" in said
    said = web1.person.fails(f"inv workspace.create why2 --repo {url} --node web1", code=6).err
    assert "host key is known" in said and "--known-hosts known_hosts" in said


def test_of_a_clone_over_https_the_deciding_line_is_shown(web1: Web1, forge: Forge) -> None:
    make(web1, "whys")
    refused, url = Refusals(web1, "whys"), f"{forge.https}/private.git"
    refused("Could not resolve host", "https_proxy=", url="https://nowhere.invalid/a.git")
    refused(f"onnect to {forge.host} port 9", f"curl -v https://{forge.host}:9", url=f"https://{forge.host}:9/a.git")
    refused("could not read Username", "--credential-file", url=url)
    refused("could not read Password", "--credential-file", url=url.replace("://", "://ada@"))
    refused("Authentication failed", "--username", url=url, credential={"token": "wrong"})
    refused("not found", "check the URL", url=f"{forge.https}/none.git")
    refused("Remote branch nope not found", "--ref", url=f"{forge.https}/public.git", ref="nope")
    web1.on(f"echo '{forge.host} other.example' >> /etc/hosts")
    refused("SSL: ", "another name than other.example", url="https://other.example:8443/public.git")
    with untrusted(web1):
        refused("verification failed", "update-ca-certificates", url=f"{forge.https}/public.git")


@contextmanager
def untrusted(web1: Web1) -> Iterator[None]:
    """Take the certificates away that the node trusts."""
    file = "/etc/ssl/certs/ca-certificates.crt"
    web1.on(f"mv {file} /root; touch {file}")
    try:
        yield
    finally:
        web1.on(f"mv /root/ca-certificates.crt {file}")


def test_what_a_clone_leaves_out_is_said_to_a_person(web1: Web1, forge: Forge) -> None:
    url = forge.keep_parts()
    make(web1, "parts")
    said = web1.person.runs(f"inv repo.clone parts {url} --name typed --ref lfs --node web1 --json")
    assert said.json["left_out"] == ["lfs"]
    assert said.err.startswith("note: Git LFS files are left out") and "git lfs pull" in said.err
    said = web1.person.runs(f"inv workspace.create parts2 --repo {url} --repo-name site --node web1")
    assert said.err.startswith("note: submodules are left out") and "git submodule update" in said.err


def test_a_branch_keeps_its_name_beside_a_tag_of_that_name(web1: Web1) -> None:
    make(web1, "same")
    web1.client.repo.init(workspace="same", name="r", default_branch="same")
    script = "git -c user.name=a -c user.email=a@b commit --allow-empty -qm x && git tag same"
    assert web1.client.workspace.exec(name="same", argv=["sh", "-c", script], cwd="code/r").exit_code == 0
    assert web1.client.repo.get(workspace="same", name="r").branch == "same"
    assert (
        web1.client.workspace.exec(name="same", argv=["git", "checkout", "-q", "tags/same"], cwd="code/r").exit_code
        == 0
    )
    assert web1.client.repo.get(workspace="same", name="r").branch is None
