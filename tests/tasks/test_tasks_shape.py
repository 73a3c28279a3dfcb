"""Every task has help and checked arguments, and is the same in `inv`, `codesmith` and Python."""

from __future__ import annotations

import inspect
import json
import pydoc
from pathlib import Path

import pytest
from invoke.context import Context

from codesmith.cli.program import CodeSmith
from codesmith.cli.task import Task
from codesmith.errors import CodeSmithError
from codesmith.tasks import NAMESPACES, root

NS = root()
NAMES = sorted(NS.task_names)
# Tasks that change nothing. All others refuse --dry.
HARMLESS = {
    "audit.list",
    "file.list",
    "file.read",
    "file.search",
    "file.stat",
    "job.get",
    "job.list",
    "job.logs",
    "job.wait",
    "lab.status",
    "node.doctor",
    "node.health",
    "node.info",
    "node.list",
    "node.logs",
    "node.status",
    "node.verify",
    "node.version",
    "repo.get",
    "repo.list",
    "sandbox.get",
    "sandbox.list",
    "template.get",
    "template.list",
    "token.list",
    "top",
    "user.get",
    "user.list",
    "workspace.get",
    "workspace.list",
    "workspace.usage",
}


@pytest.mark.parametrize("name", NAMES)
def test_every_task_explains_itself(name):
    task = NS[name]
    line = (task.__doc__ or "").strip().splitlines()[0]
    assert line.endswith("."), f"{name}: the first line of its docstring stands in --list"
    for argument in task.get_arguments():
        assert argument.help, f"{name} --{argument.name} has no help text"
        if not argument.positional and argument.kind is not bool and argument.name not in ("file", "tag", "argv"):
            assert "(default:" in argument.help or "(needed" in argument.help, (
                f"{name} --{argument.name}: no default told"
            )


@pytest.mark.parametrize("name", NAMES)
def test_help_texts_can_be_asked_for_more_than_once(name):
    task = NS[name]
    assert [argument.help for argument in task.get_arguments()] == [argument.help for argument in task.get_arguments()]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_help_is_shown_wherever_it_is_written(name, capsys):
    for words in ([name, "--help"], [name, "-h"]):
        CodeSmith(root()).run(["codesmith", *words], exit=False)
        shown = capsys.readouterr()
        assert shown.out.startswith("Usage: ") and f" {name} " in shown.out
        assert shown.err == ""


@pytest.mark.parametrize("name", NAMES)
def test_every_task_is_ours_and_knows_its_name(name):
    task = NS[name]
    assert isinstance(task, Task)
    assert task.full_name == name


@pytest.mark.parametrize("name", NAMES)
def test_every_task_that_shows_something_has_json(name):
    result = NS[name].body.__annotations__["return"]
    if name != "demo":
        assert NS[name].kinds()["json"] is bool
        assert result != "None", f"{name} returns nothing to a Python caller"


def test_only_tasks_that_look_run_under_dry():
    assert {name for name in NAMES if NS[name].harmless} == HARMLESS
    assert [name for name in NAMES if NS[name].plans] == ["node.prepare", "node.uninstall"]


@pytest.mark.parametrize("name", sorted(set(NAMES) - HARMLESS - {"node.prepare", "node.uninstall"}))
def test_a_task_that_changes_things_refuses_dry(name):
    context = Context()
    context.config.run.dry = True
    task = NS[name]
    required = [p.name for p in task.argspec(task.body).parameters.values() if p.default is inspect.Parameter.empty]
    with pytest.raises(Exception, match="cannot be tried with --dry; nothing was done"):
        task(context, **dict.fromkeys(required, "x"))


def test_tasks_of_several_nodes_share_their_options():
    several = [name for name in NAMES if "tag" in NS[name].kinds() and name not in ("node.add", "workspace.create")]
    assert "node.prepare" in several
    for name in several:
        assert {"node", "tag", "all", "jobs", "file"} <= set(NS[name].kinds()), name


def test_python_help_shows_the_parameters_of_a_task():
    text = pydoc.plain(pydoc.render_doc(NS["workspace.get"]))
    assert "(c, name: 'str', *, node: 'str | None' = None, file: 'str | None' = None, json: 'bool' = False)" in text
    assert "Show one workspace." in text


def test_a_keyword_that_no_option_has_is_an_error_in_python_too():
    with pytest.raises(TypeError, match=r"node\.version takes no nodes"):
        NS["node.version"](Context(), nodes=["web1"])


@pytest.mark.parametrize("jobs", [0, 257])
def test_how_many_at_once_has_bounds(jobs):
    with pytest.raises(CodeSmithError, match="--jobs takes a whole number from 1 to 256"):
        NS["node.version"](Context(), jobs=jobs)


def test_namespaces_are_listed_in_order():
    assert list(NAMESPACES) == sorted(NAMESPACES)
    files = {path.stem for path in Path(inspect.getsourcefile(root)).parent.glob("[a-z]*.py")}
    assert files == {*NAMESPACES, "completion", "demo", "top"}


@pytest.mark.slow
def test_inv_and_codesmith_have_the_same_tasks(place):
    ours = json.loads(place.codesmith("--list", "--list-format=json").stdout)
    theirs = json.loads(place.inv("--list", "--list-format=json").stdout)
    for key in ("tasks", "collections"):
        assert ours[key] == theirs[key]
