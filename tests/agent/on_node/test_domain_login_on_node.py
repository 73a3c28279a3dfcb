"""An operator whose login is one of a domain: such names are unusual, and all of CodeSmith works with them."""

from __future__ import annotations

import json

import pytest

from tests.agent.on_node.web1 import Web1

pytestmark = pytest.mark.lab


def test_a_login_of_a_domain_prepares_and_enters(web1: Web1) -> None:
    person, login = web1.person, "ops@corp.example"
    before, entry = person.registry.read_text(), person.lab_entry("web1")
    web1.client.workspace.create(name="demo")
    folder = f"'/home/{login}/.ssh'"
    person.on(
        "web1",
        f"useradd --badname --create-home --shell /bin/bash -- {login}; install -d -m 700 -o {login} {folder}; "
        f"install -m 600 -o {login} /root/.ssh/authorized_keys {folder}; "
        f"echo '\"{login}\" ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/domain",
    )
    person.registry.write_text(json.dumps({"nodes": {"web1": {**entry, "user": login}}}))
    try:
        person.runs("inv node.prepare")
        assert login in person.on("web1", "getent group codesmith-clients").out
        said = person.runs("inv workspace.open demo --shell", typed="id -un; exit 7\n", code=7)
        assert said.out.split()[-1] == "cs-demo"
        rows = person.runs("inv node.doctor --json").json
        assert {row["status"] for row in rows if row["node"] == "web1"} == {"ok"}
    finally:
        person.registry.write_text(before)
        person.runs("inv node.disconnect --all", check=False)
        web1.client.close()
