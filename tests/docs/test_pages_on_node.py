"""README.md and the pages of docs/ on a real node: each command as it stands there prints what stands there."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.docs.desk import Desk, answers, differing, rewrite
from tests.docs.pages import PAGES, TOP, in_first_columns, steps

pytestmark = pytest.mark.lab
README, OPERATIONS = TOP / "README.md", TOP / "docs" / "operations.md"
# operations.md ends with a bare node, README.md begins with one; demo.md and typescript.md have tests of their own.
CREATE = "workspace.create shop --ssh-key"
# What is said to people, which a terminal wraps by itself; a result has to fit.
PROSE = re.compile(r"  |follow it: |deleting |delete it\?|too narrow for: ")
ELSEWHERE = {README.name, OPERATIONS.name, "demo.md", "typescript.md"}
MIDDLE = [page for page in PAGES if page.name not in ELSEWHERE and any(not step.skipped for step in steps(page))]


def check(desk: Desk, page: Path) -> None:
    """Run a page; CODESMITH_DOCS=write writes what its commands print into it instead of failing."""
    shown = desk.run_page(page)
    differences = [line for step, text in shown for line in differing(f"{page.name}:{step.line}", step, text)]
    if os.environ.get("CODESMITH_DOCS") == "write":
        rewrite(page, {step.line: text for step, text in shown if differing("", step, text)})
        return
    assert not differences, "\n".join(differences)


@pytest.mark.long  # a node upgraded, saved, put back
@pytest.mark.timeout(600)
def test_operations_upgrade_restore_and_remove_a_node(desk: Desk) -> None:
    desk.add_node()
    desk.prepare_with("0.1.9")
    check(desk, OPERATIONS)
    assert not desk.person.on("web1", "ls /srv/codesmith /usr/lib/codesmith /etc/codesmith", check=False).out
    for known_hosts in (desk.folder / "known_hosts", desk.home / ".ssh" / "known_hosts"):
        known_hosts.unlink()  # the next page trusts the host key for the first time


@pytest.mark.timeout(600)
def test_the_readme_prepares_a_bare_node_and_does_what_it_says(desk: Desk) -> None:
    check(desk, README)
    # What it has left on this machine is in the table of files.
    table = {name.rpartition(".../")[2].strip("/") for name in in_first_columns()}
    there = {*(desk.home / ".local/state/codesmith").iterdir(), *(desk.runtime / "codesmith").iterdir()}
    names = {re.sub(r"^[0-9a-f]{16}(?=\.)", "KEY", path.name) for path in there}
    assert names <= table, names - table


@pytest.mark.parametrize("columns", [80, *(pytest.param(other, marks=pytest.mark.long) for other in (60, 0))])
def test_the_story_of_the_first_screen_fits(desk: Desk, columns: int) -> None:
    """From a key to the result and away again, on a narrow terminal and in a pipe."""
    desk.tidy()
    text = README.read_text().splitlines()
    first, last = text.index("## From a clone to the result") + 1, text.index("## Two agents on one server") + 1
    story = [step for step in steps(README) if CREATE in step.command or first < step.line < last]
    shown = {step.command.split()[1]: desk.run(step.command, columns, answers(step)) for step in story}
    text = "".join(shown.values())
    assert "\t" not in text if columns else "\t" in text
    too_long = [line for line in text.splitlines() if len(line) > columns and not PROSE.match(line)]
    assert not columns or not too_long
    assert "<h1>Hello</h1>" in shown["--silent"]
    assert (desk.folder / "index.html").read_text() == "<h1>Hello</h1>\n"
    if columns:
        assert "deleted       true" in shown["workspace.delete"]
    else:  # nobody can be asked
        assert desk.code == 2
        assert "--yes" in shown["workspace.delete"]
        assert "deleted\ttrue" in desk.does("codesmith workspace.delete shop --yes")


def test_an_editor_opens_a_workspace_by_its_own_ssh_calls(desk: Desk) -> None:
    desk.tidy()
    desk.does("codesmith workspace.create shop; codesmith ssh.config --install --yes")
    desk.does("echo hi | codesmith file.write shop data/hello")
    shutil.copy(Path(__file__).with_name("stub_code.py"), desk.home / "bin" / "code")
    assert desk.does("codesmith workspace.open shop --editor code").startswith("platform Linux cs-shop\nhi\n")
    desk.does("codesmith ssh.config --remove --yes")


@pytest.mark.long
@pytest.mark.parametrize("page", MIDDLE, ids=lambda page: page.name)
def test_a_page_prints_what_it_says(desk: Desk, page: Path) -> None:
    desk.tidy()
    check(desk, page)
