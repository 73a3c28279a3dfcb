"""The pages of help: what each has, and how it fits a terminal."""

from __future__ import annotations

import inspect
import io

import pytest
from invoke.collection import Collection

from codesmith.cli import help_pages
from codesmith.cli.task import task
from codesmith.tasks import root


@task(
    help={
        "name": "Its name.", "editor": "Which one (default: none).", "env": "A variable.",
        "argv": "What to run.", "delay": "How long.", "quick": "Soon.",
    },
    choices={"editor": ("code", "zed")}, remainder="argv",
)  # fmt: skip
def every(
    c, name: str, editor: str | None = None, env: list[str] | None = None, argv: list[str] | None = None,
    delay: float = 1.0, quick: bool = False, node: str | None = None, json: bool = False,
) -> None:  # fmt: skip
    """Do it. One line that is quite long, so that a narrow terminal has to break it somewhere between its words.

    More of it.

    Example: test_help_pages.every --quick
    Example: cat x | inv node.list
    """


@task(several="ports", help={"name": "Its name.", "ports": "Ports."})
def several(c, name: str | None = None, ports: list[str] | None = None) -> None:
    """Take several."""


PAGE = """\
Usage: inv test_help_pages.every NAME [--options] -- COMMAND ...

  Do it. One line that is quite long, so that a narrow terminal has to break it somewhere between its words.

  More of it.

Arguments:
  NAME            Its name.
  -- COMMAND ...  What to run.

Options:
  --editor code|zed    Which one (default: none).
  --env KEY=VALUE ...  A variable.
  --delay NUMBER       How long.
  --quick              Soon.

Options of many tasks:
  --node NODE                   Node name from nodes.yaml (default: CODESMITH_NODE, then `default:` there, then the
                                only node).
  --json                        Print JSON instead of a table or tab-separated lines; errors too, as the last line
                                of stderr.
  -o, --output table|json|yaml|name
                                The form of the result: name is a name for each line (default: a table on a
                                terminal, else tabs).
  -h, --help                    Show this page.

Examples:
  inv test_help_pages.every --quick
  cat x | inv node.list

Options of Invoke go before the task: inv help
"""


def test_a_page_has_usage_arguments_options_choices_and_examples(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["inv"])
    every.print_help()
    assert capsys.readouterr().out == PAGE


def test_what_may_be_left_out_stands_in_brackets(capsys):
    several.print_help()
    assert " [NAME] [PORTS ...] [--options]\n" in capsys.readouterr().out


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_a_page_fits_the_terminal(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    every.print_help()
    pages = [screen.getvalue(), help_pages.of_program(root()), help_pages.of_namespace(root(), "workspace")]
    for page in pages:
        lines = [line for line in page.splitlines() if not line.startswith(("Usage: ", "  inv ", "  codesmith "))]
        assert max(map(len, lines)) <= columns + 2


def test_a_task_of_somebody_else_has_a_line(monkeypatch):
    from invoke.tasks import task as invokes

    @invokes
    def own(c):
        """Do something of one's own."""

    assert "\n  own  Do something of one's own.\n" in help_pages.of_program(Collection(own))


EXAMPLES = [
    (name, example)
    for name in sorted(root().task_names)
    for example in help_pages.EXAMPLE.findall(inspect.cleandoc(root()[name].__doc__ or ""))
]


def test_every_task_has_an_example():
    assert {name for name in root().task_names if not name.endswith("-keys")} <= {name for name, _ in EXAMPLES}


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_an_example_is_one_of_its_task(name, example):
    options = {f"--{one.names[0]}" for one in root()[name].get_arguments()}
    words = example.partition(" -- ")[0].split()
    assert name in words
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options
