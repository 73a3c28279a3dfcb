"""Show results: a table on a terminal, tab-separated lines in a pipe, JSON with --json; all else goes to stderr.

Text from a node may contain escape sequences: it is always escaped before it reaches a terminal.
"""

from __future__ import annotations

import contextlib
import io
import json as json_module
import os
import shlex
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from codesmith.cli.hints import completed
from codesmith.errors import CodeSmithError

# Control, format (bidirectional overrides among them), surrogate, line and paragraph separators.
UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")


def escape(text: str, keep: str = "") -> str:
    """Return `text` with every character that could control a terminal written as an escape, except those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_written(char) if _is_unsafe(char) and char not in keep else char for char in text)


def _is_unsafe(char: str) -> bool:
    return unicodedata.category(char) in UNSAFE


def _written(char: str) -> str:
    known = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    number = ord(char)
    return known.get(char) or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


def show(data: Any, columns: Sequence[str] = (), *, json: bool = False, stream: TextIO | None = None) -> None:
    """Print a list of records as one row each, or one record as a line per field.

    `columns` picks the fields that people see; JSON always has every field.
    """
    out = stream or sys.stdout
    if out is None:  # the caller closed it: nobody reads it
        return
    if json:
        _print(out, json_module.dumps(plain(data), indent=2) + "\n")
        return
    rows, heads = _rows(plain(data), columns)
    if out.isatty():
        _table(out, *(_filled(rows, heads) if heads else (rows, heads)))
    else:
        _print(out, "".join("\t".join(map(escape, row)) + "\n" for row in rows))


def plain(data: Any) -> Any:
    """Return records as dictionaries and lists, ready for JSON."""
    if hasattr(data, "to_dict"):
        return data.to_dict()
    if isinstance(data, Mapping):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [plain(item) for item in data]
    return data


def cell(value: Any) -> str:
    """Return one value as the text of a cell: empty for None, commas between items."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return ",".join(f"{key}={cell(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ",".join(cell(item) for item in value)
    return str(value)


def _rows(data: Any, columns: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    if isinstance(data, list):
        names = list(columns) or list(data[0] if data else ())
        return [[cell(item.get(name)) for name in names] for item in data], names
    names = list(columns) or list(data)
    return [[name, cell(data.get(name))] for name in names], []


def _filled(rows: list[list[str]], heads: list[str]) -> tuple[list[list[str]], list[str]]:
    """Leave out columns that are empty in every row. Only for tables: scripts count columns."""
    kept = [index for index in range(len(heads)) if any(row[index] for row in rows)]
    return [[row[index] for index in kept] for row in rows], [heads[index] for index in kept]


def _table(out: TextIO, rows: list[list[str]], heads: list[str]) -> None:
    # rich takes 60 ms to import, so only a table on a terminal imports it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        _print(sys.stderr, "nothing to show\n")
        return
    table = Table(box=None, show_header=bool(heads), header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads or ["", ""]:
        table.add_column(head.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(escape(item)) for item in row))
    with writing(out):
        Console(file=out, highlight=False).print(table)


def write(text: str) -> None:
    """Print text of CodeSmith's own on stdout, unescaped."""
    _print(sys.stdout, text)


def _print(out: TextIO | None, text: str) -> bool:
    """Print, and return False if nobody reads any more."""
    if out is None:  # closed, in another Python program
        return False
    with writing(out):
        out.write(text)
        out.flush()
        return True
    return False


@contextlib.contextmanager
def writing(out: TextIO) -> Iterator[None]:
    """Ignore that nobody reads `out` any more; raise CodeSmithError if it cannot be written."""
    try:
        yield
    except OSError as error:
        place = Path(f"/proc/self/fd/{out.fileno()}").readlink()
        # Without this the interpreter flushes `out` when it ends, and complains again (`... | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        if not isinstance(error, BrokenPipeError) and out is not sys.stderr:
            problem = f"cannot write the result: {error.strerror}"
            raise CodeSmithError(problem, hint=f"df -h {shlex.quote(str(place))}") from error


def ensure_streams() -> None:
    """Make the standard streams usable: a closed one (`>&-`) becomes /dev/null, and every letter can be printed."""
    # open() takes the lowest free descriptor, which is that of the closed stream: nothing else may get it.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  open as long as the process runs
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() not in ("utf-8", "utf8"):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print one line for people, on stderr."""
    _print(sys.stderr, escape(text) + "\n")


def warn(warnings: Sequence[str]) -> None:
    """Print warnings that came with a result, on stderr."""
    for warning in warnings:
        say(f"warning: {warning}")


LEFT_OUT = {
    "lfs": "Git LFS files are left out, only their pointers are there; to fetch them: git lfs pull",
    "submodules": "submodules are left out; to fetch them: git submodule update --init --recursive",
}


def say_left_out(repo: Any) -> None:
    """Print what a clone left out, and the command that fetches it, on stderr."""
    for word in repo.left_out:
        say(f"note: {LEFT_OUT.get(word, word)} (in {repo.path})")


def say_not_kept(workspace: str, repo: Any, options: str) -> None:
    """Print that the credential of a clone was not kept, and the command that lends it again, on stderr."""
    command = completed(f"inv repo.pull {workspace} {repo.name} {options}")
    say(f"note: the credential is not kept in the workspace; to pull, give it again: {command}")


def show_lines(lines: Sequence[str], *, json: bool = False) -> None:
    """Print lines that a node wrote."""
    if json:
        show(list(lines), json=True)
    else:
        _print(sys.stdout, "".join(escape(line, keep="\t") + "\n" for line in lines))


def show_line(line: str, *, json: bool = False) -> bool:
    """Print one line that a node wrote, with `json` as a JSON text; return False if nobody reads any more."""
    return _print(sys.stdout, (json_module.dumps(line) if json else escape(line, keep="\t")) + "\n")


def write_bytes(data: bytes) -> bool:
    """Write bytes to stdout as they are; return False if nobody reads any more."""
    if sys.stdout is None or not hasattr(sys.stdout, "buffer"):  # captured by a Python caller
        return _print(sys.stdout, data.decode("utf-8", "replace"))
    with writing(sys.stdout):
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return True
    return False


def print_line(text: str) -> bool:
    """Print one line of CodeSmith's own; return False if nobody reads any more."""
    return _print(sys.stdout, text + "\n")


def can_ask() -> bool:
    """Tell whether somebody can read a question and answer it: standard input and error are a terminal."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def confirm(question: str) -> bool:
    """Ask a yes-or-no question on the terminal; without a terminal the answer is no."""
    if not can_ask():
        return False
    sys.stderr.write(f"{escape(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
