"""`inv demo` does the main job on a real node and leaves nothing behind."""

from __future__ import annotations

import json
import re

import pytest

from tests.docs.desk import compared
from tests.docs.pages import TOP
from tests.tasks.conftest import INV


@pytest.mark.lab
def test_the_demo_shows_the_whole_way_and_leaves_nothing(place, tmp_path):
    before = place.nodes.read_text()
    done = place.run(["bash", "-c", f"{INV} demo 2>&1"], timeout=300)
    assert done.returncode == 0, done.stdout
    # docs/demo.md has what it prints.
    (page,) = re.findall(r"^```\n(.*?)^```", (TOP / "docs" / "demo.md").read_text(), flags=re.M | re.S)
    assert compared("demo.md", "inv demo", page.splitlines(), done.stdout.strip()) == []
    commands = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("$ inv ")]
    assert commands == [
        "lab.up",
        "node.add",
        "node.prepare",
        "node.prepare",
        "node.connect",
        "workspace.create",
        "workspace.exec",
        "workspace.open",
        "workspace.list",
        "workspace.delete",
        "lab.down",
    ]
    assert "I am cs-demo in /srv/codesmith/workspaces/demo\n" in done.stdout
    assert "nothing to do" in done.stdout
    assert "\n$ ssh -F " in done.stdout and "\nhello\n" in done.stdout
    assert not [
        row for row in json.loads(place.inv("lab.status", "--json").stdout) if row["name"] in done.stdout.split()
    ]
    assert place.nodes.read_text() == before
    assert not list(tmp_path.glob("home/*")), "the operator's own state was touched"
