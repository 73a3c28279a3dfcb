"""The pages of help of both programs, as real processes print them."""

from __future__ import annotations

import pytest

from tests.tasks.conftest import INV

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("program", ["inv", "codesmith"])
def test_help_has_examples_to_paste_and_is_the_same_page_either_way(place, program):
    run = getattr(place, program)
    page = run("workspace.exec", "--help").stdout
    assert f"  {program} workspace.exec demo -- make test\n" in page
    assert f"  tar c src | {program} workspace.exec demo --cwd code -- tar x\n" in page
    for words in (("-h", "workspace.exec"), ("help", "workspace.exec"), ("help", "workspace", "exec")):
        assert run(*words).stdout == page
    unknown = run("-h", "workspace.exek")
    said = f"error: no task 'workspace.exek'\nhint: did you mean: {program} workspace.exec\n"
    assert (unknown.returncode, unknown.stderr) == (1, said)


@pytest.mark.parametrize("program", ["inv", "codesmith"])
def test_a_namespace_is_listed(place, program):
    run = getattr(place, program)
    listed = run("workspace")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "\n  workspace.exec " in listed.stdout
    for words in (("--list", "workspace"), ("help", "workspace"), ("-h", "workspace"), ("workspace", "--help")):
        assert run(*words).stdout == listed.stdout


@pytest.mark.parametrize("program", ["inv", "codesmith"])
def test_the_program_alone_shows_what_there_is_and_invokes_options_last(place, program):
    run = getattr(place, program)
    page = run()
    assert (page.returncode, page.stderr) == (0, "")
    heads = [line for line in page.stdout.splitlines() if line and not line.startswith(" ")]
    assert heads == [
        f"Usage: {program} TASK [ARGUMENTS] [--options] [-- COMMAND ...]", "First steps:", "Namespaces:",
        "Tasks without one:", "More:", "Options of Invoke, before the task:",
    ]  # fmt: skip
    assert f"\n  {program} node.trust web1\n" in page.stdout
    assert run("help").stdout == page.stdout
    assert run("--help").stdout == page.stdout


@pytest.mark.parametrize("tasks", ["", "from invoke import task\n\n@task\ndef own(c):\n    'Do it.'\n"])
def test_bare_help_of_inv_is_invokes_where_the_tasks_are_not_ours(place, tmp_path, tasks):
    (tmp_path / "tasks.py").write_text(tasks) if tasks else None
    done = place.inv("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: inv[oke] [--core-opts]")


def test_bare_help_of_inv_may_be_read_in_part(place):
    done = place.run(["bash", "-c", f"{INV} --help | head -1"])
    assert (done.stdout[:10], done.stderr) == ("Usage: inv", "")
