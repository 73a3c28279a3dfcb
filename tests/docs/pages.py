"""Documents as tests read them: the commands that they show, with what each prints.

A block of commands is indented by four spaces, or fenced. A command begins with `$ `, and goes on while lines end with
a backslash.
HTML comments, which no reader sees, say how a page is run:

    <!-- first: COMMAND -->           run before the next command, without a word
    <!-- terminal: 100 columns -->    from here on at a terminal of that width; `<!-- pipe -->`: no terminal
    <!-- not run: REASON -->          the next block only has to parse
    <!-- outputs left out -->         in the next block: a command without an output prints what it likes
    <!-- as: olga -->                 from here on at the machine of somebody else; `<!-- as: ops -->`: the operator's

A line `...` of an output stands for any lines that are left out.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PAGES = (TOP / "README.md", *sorted((TOP / "docs").glob("*.md")))
# The READMEs of rooms: they are not run, since each is about a part alone.
READMES = sorted(
    path for top in ("agent", "bench", "codesmith", "examples", "tests") for path in (TOP / top).glob("**/README.md")
)
PROGRAMS = ("codesmith", "inv")
COMMENT = re.compile(r"<!--\s*(first|terminal|pipe|not run|outputs left out|as)(?::\s*(.*?))?\s*-->")
REDIRECTION = re.compile(r"[<>]+&?")
# What stands before a command of a shell line.
BEFORE = re.compile(r"[A-Z_]+=.*|time|sudo|watch|export|!")


@dataclass
class Step:
    """A command of a document: where it stands, what it prints, how it is run."""

    line: int
    command: str
    output: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    columns: int = 0  # 0: in a pipe
    skipped: str = ""
    indent: str = ""
    who: str = ""
    is_silent: bool = False


def steps(path: Path) -> list[Step]:
    """Return the commands of a document in their order."""
    return list(_steps(path.read_text().splitlines()))


def _steps(lines: list[str]) -> Iterator[Step]:
    columns, reason, who, before, indent, is_fenced = 0, "", "", [], "", False
    step: Step | None = None
    is_block = is_silent = False
    for number, line in enumerate(lines, start=1):
        if line.lstrip().startswith("```"):
            if is_fenced:  # the block ends
                is_silent, reason = False, ""
            is_fenced, is_block = not is_fenced, False
        is_inside = is_fenced or line.startswith("    ")
        indent = "" if is_fenced else "    "
        text = line.removeprefix(indent)
        if (line.strip() and not is_inside) or line.lstrip().startswith("```"):
            if step:
                yield _finished(step)
                step = None
            if is_block and line.strip():
                is_block, is_silent, reason = False, False, ""
            for word, value in COMMENT.findall(line):
                if word == "first":
                    before.append(value)
                elif word == "not run":
                    reason = value
                elif word == "outputs left out":
                    is_silent = True
                elif word == "as":
                    who = value
                else:
                    columns = int(value.split()[0]) if word == "terminal" else 0
        elif step and not text.startswith("$ "):
            if step.command.endswith("\\") and not step.output:
                step.command += "\n" + text
            else:
                step.output.append(text)
        elif text.startswith("$ "):
            if step:
                yield _finished(step)
            step = Step(
                number,
                text[2:],
                before=[] if reason else before,
                columns=columns,
                skipped=reason,
                indent=indent,
                who=who,
                is_silent=is_silent,
            )
            is_block = True
            if not reason:
                before = []
    if step:
        yield _finished(step)


def _finished(step: Step) -> Step:
    while step.output and not step.output[-1].strip():
        step.output.pop()
    return step


def inline_commands(path: Path) -> list[str]:
    """Return what a document has in backticks that begins with one of our programs."""
    text = re.sub(r"^(```.*?^```|(?: {4}).*?$)", "", path.read_text(), flags=re.M | re.S)
    return [code for code in re.findall(r"`([^`\n]+)`", text) if code.split()[0] in PROGRAMS and " " in code]


def sh_lines(path: Path) -> Iterator[str]:
    """Yield the lines of the fenced blocks of shell of a document that begin with one of our programs."""
    for block in re.findall(r"^```(?:sh)?\n(.*?)^```", path.read_text(), flags=re.M | re.S):
        for line in block.splitlines():
            if re.match(rf"(\$ )?({'|'.join(PROGRAMS)}) ", line):
                yield line.removeprefix("$ ").partition("  #")[0]


def command_lines(shell: str) -> Iterator[list[str]]:
    """Yield the words of each of our commands in a line of shell."""
    text = re.sub(r"<\([^)]*\)", "FILE", shell.replace("\\\n", " "))
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if re.fullmatch(r"[;|&()<>]+", word) and not REDIRECTION.fullmatch(word):
            if words and words[0] in PROGRAMS:
                yield words
            words = []
        elif re.fullmatch(r"[<>]+|#.*", word) or words or not BEFORE.fullmatch(word):
            words.append(word)
    for inner in re.findall(r"\$\(((?:codesmith|inv) [^)|]*)", shell):
        yield shlex.split(inner)


def in_first_columns() -> set[str]:
    """Return what the first columns of the tables of docs/reference.md have in backticks."""
    lines = [line for line in (TOP / "docs" / "reference.md").read_text().splitlines() if line.startswith("| `")]
    return {name for line in lines for name in re.findall(r"`([^`]+)`", line.split(" | ")[0])}
