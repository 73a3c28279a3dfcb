"""Every command that a document shows is one that the command line takes: tasks, options, arguments."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from invoke.exceptions import Exit, ParseError

from codesmith.cli.program import CodeSmith
from codesmith.tasks import root
from tests.docs.desk import compared
from tests.docs.pages import PAGES, READMES, REDIRECTION, TOP, command_lines, inline_commands, sh_lines, steps

# Words that stand for any task, and what is left out of a command that is only named.
# Options alone are about Invoke, -c is about somebody's own tasks.
PLACEHOLDERS = re.compile(r"TASK|NAMESPACE|\S*\*|release|-r|--dry")
ALL = root()
CONTEXTS = ALL.to_contexts()
INCOMPLETE = re.compile(r" needs [A-Z]")


@pytest.fixture(autouse=True)
def _arguments_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the arguments of all tasks once, not for each command; the parser works with copies."""
    monkeypatch.setattr(ALL, "to_contexts", lambda *_, **__: CONTEXTS)


def refused(words: list[str]) -> str:
    """Return why the command line does not take these words; "" if it does."""
    if any(PLACEHOLDERS.fullmatch(word) for word in words[1:3]):
        return ""
    stop = next((at for at, word in enumerate(words) if REDIRECTION.fullmatch(word) or word.startswith("#")), None)
    program = CodeSmith(ALL)
    try:
        program.create_config()
        program.parse_core(words[:stop])
        program.parse_collection()
        program.parse_tasks()
    except Exit as end:
        return str(end.message) if end.code else ""
    except ParseError as error:
        return str(error)
    return "" if program.tasks or program.args.list.value or program.args.help.value else "no task"


def name_of(path: Path) -> str:
    return path.name


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_command_of_a_document_parses(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = [(step.line, words) for step in steps(page) for words in command_lines(step.command)]
    assert [f"{page.name}:{line}: {why}" for line, words in found if (why := refused(words))] == []


@pytest.mark.parametrize("page", READMES, ids=lambda page: str(page.parent.relative_to(TOP)))
def test_a_command_in_the_readme_of_a_room_parses(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in sh_lines(page):
        for words in command_lines(line):
            assert refused(words) == "", f"{page}: {line}"


@pytest.mark.slow
@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=lambda page: str(page.relative_to(TOP)))
def test_a_command_that_a_document_names_has_its_task_and_options(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for code in inline_commands(page):
        for words in command_lines(re.sub(r"\[(.*?)\]", r"\1", code).replace("'", "").replace("...", "x")):
            why = refused(words)
            assert not why or INCOMPLETE.search(why), f"{page.name}: {code}: {why}"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("codesmith workspace.exec demo -- ls", ""),
        ("codesmith workspace.exec demo --cdw x -- ls", "no option --cdw"),
        ("X=1 codesmith workspace.lst | head", "no task 'workspace.lst'"),
        ('node show.js "$(inv node.status --jso | jq .)"', "no option --jso"),
        ("echo x; inv job.logs", "needs WORKSPACE and ID"),
        ("inv node.prepare --jobs x", "--jobs takes"),
    ],
)
def test_what_the_command_line_would_refuse_is_found(line: str, words: str) -> None:
    (found,) = command_lines(line)
    assert words in refused(found)
    assert bool(words) == bool(refused(found))


def test_every_page_is_in_the_list_of_pages() -> None:
    listed = set(re.findall(r"^- \[([a-z-]+\.md)\]\(\1\)", (TOP / "docs" / "README.md").read_text(), flags=re.M))
    assert listed == {page.name for page in (TOP / "docs").glob("*.md")} - {"README.md"}


def test_links_between_documents_lead_somewhere() -> None:
    for page in [*PAGES, *TOP.glob("examples/*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_shell_lines_of_a_document_are_shell(page: Path) -> None:
    bash = shutil.which("bash") or "bash"
    for step in steps(page):
        done = subprocess.run([bash, "-n", "-c", step.command], capture_output=True, text=True)
        assert done.returncode == 0, f"{page.name}:{step.line}: {done.stderr}"


PAGE = """\
Text with `$ no command`.

<!-- first: make ready -->
<!-- terminal: 80 columns -->

    $ one --a \\
      --b
    out 1

    $ two

Text.

<!-- not run: it takes a day -->

```
$ three
```

<!-- pipe -->

    $ four
"""


def test_a_page_is_read_as_its_comments_say(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    one, two, three, four = steps(tmp_path / "page.md")
    assert (one.command, one.output, one.before, one.columns) == ("one --a \\\n  --b", ["out 1"], ["make ready"], 80)
    assert (two.command, two.output, two.before, two.columns) == ("two", [], [], 80)
    assert (three.skipped, four.skipped, four.columns) == ("it takes a day", "", 0)


@pytest.mark.parametrize(
    ("written", "shown", "is_same"),
    [
        (
            ["at 2026-11-30T02:16:32.238Z", "id\t2457729e3f44"],
            "at 2026-12-01T00:00:00.000Z\nid  aaaaaaaaaa12",
            True,
        ),
        (["a", "...", "z"], "a\nb\nc\nz", True),
        (["a", "...", "z"], "a\nb", False),
        (["state running"], "state lost", False),
        (["one"], "one\ntwo", False),
        ([], "something", False),
    ],
)
def test_what_differs_from_run_to_run_is_no_difference_and_all_else_is(
    written: list[str], shown: str, is_same: bool
) -> None:
    assert (compared("page.md:1", "$ x", written, shown) == []) == is_same
