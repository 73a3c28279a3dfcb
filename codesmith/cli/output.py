"""Show results: a table on a terminal, tab-separated lines in a pipe, JSON when asked; the rest goes to stderr.

What a node says may hold escape sequences: nothing of it reaches a terminal unescaped.
"""

from __future__ import annotations

import base64
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

from codesmith.errors import CodeSmithError

# Control, format (bidirectional overrides among them), surrogate, line and paragraph separators.
UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")


def escape(text: str, keep: str = "") -> str:
    """Return `text` with every character that could steer a terminal written out, those in `keep` excepted."""
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
    """Print records (a list: one row each; one record: a line per field). `columns` picks fields for people.

    JSON always has every field.
    """
    out = stream or sys.stdout
    if out is None:  # closed by who started us: nobody wants to know
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
    """Return records as dictionaries and lists, as JSON can carry them."""
    if hasattr(data, "to_dict"):
        return data.to_dict()
    if isinstance(data, Mapping):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [plain(item) for item in data]
    return data


def cell(value: Any) -> str:
    """Return one value as a cell: nothing for None, commas between items."""
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
    """Leave out the columns in which no row has anything; scripts, which count columns, get them all."""
    kept = [index for index in range(len(heads)) if any(row[index] for row in rows)]
    return [[row[index] for index in kept] for row in rows], [heads[index] for index in kept]


def _table(out: TextIO, rows: list[list[str]], heads: list[str]) -> None:
    # rich takes 60 ms to import: only when a person looks at a table.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        _print(sys.stderr, "nothing there\n")
        return
    table = Table(box=None, show_header=bool(heads), header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads or ["", ""]:
        table.add_column(head.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(escape(item)) for item in row))
    with writing(out):
        Console(file=out, highlight=False).print(table)


def write(text: str) -> None:
    """Print text of ours as it is, on stdout."""
    _print(sys.stdout, text)


def _print(out: TextIO | None, text: str) -> bool:
    """Print; False when nobody reads any more."""
    if out is None:  # closed, in a Python program that is not ours
        return False
    with writing(out):
        out.write(text)
        out.flush()
        return True
    return False


@contextlib.contextmanager
def writing(out: TextIO) -> Iterator[None]:
    """Go on when nobody reads `out` any more; CodeSmithError when what is shown cannot be written."""
    try:
        yield
    except OSError as error:
        place = Path(f"/proc/self/fd/{out.fileno()}").readlink()
        # `... | head` has seen enough; without this the interpreter complains once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        if not isinstance(error, BrokenPipeError) and out is not sys.stderr:
            problem = f"what was done cannot be shown: {error.strerror}"
            raise CodeSmithError(problem, hint=f"df -h {shlex.quote(str(place))}") from error


def ensure_streams() -> None:
    """Make the standard streams usable: what was closed (`>&-`) leads nowhere, and no letter is one too many."""
    # The lowest free number is that of the missing one: nothing else may get it.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  for as long as we run
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() not in ("utf-8", "utf8"):
        sys.stdout.reconfigure(errors="backslashreplace")


def write_raw(stdout: bytes, stderr: bytes) -> None:
    """Pass a command's own output through, byte for byte, each stream to its own."""
    for stream, data in ((sys.stdout, stdout), (sys.stderr, stderr)):
        if data:
            _print_bytes(stream, data)


def _bytes(text: str, encoding: str) -> bytes:
    """Return the bytes that an agent shows as text or as base64."""
    return base64.b64decode(text) if encoding == "base64" else text.encode("utf-8", "replace")


def _print_bytes(stream: TextIO | None, data: bytes) -> None:
    if stream is None or not hasattr(stream, "buffer"):  # a captured one
        _print(stream, data.decode("utf-8", "replace"))
        return
    with writing(stream):
        stream.flush()
        stream.buffer.write(data)
        stream.flush()


def say(text: str) -> None:
    """Print one line for people, on stderr."""
    _print(sys.stderr, escape(text) + "\n")


def warn(warnings: Sequence[str]) -> None:
    """Print what a node warns of, beside a result."""
    for warning in warnings:
        say(f"warning: {warning}")


def show_execution(execution: Any, *, json: bool = False) -> None:
    """Pass a command's output through, byte for byte; what was left out or ended is said beside it."""
    if json:
        show(execution, json=True)
        return
    write_raw(_bytes(execution.stdout, execution.stdout_encoding), _bytes(execution.stderr, execution.stderr_encoding))
    if execution.truncated:
        warn([f"{execution.omitted_bytes} bytes in the middle are lost: the output was longer than 1 MiB"])
    if execution.killed_by:
        warn([f"ended by the {execution.killed_by} limit after {execution.duration_s:.1f} s"])


LEFT_OUT = {
    "lfs": "the files of Git LFS are left out, their pointers are there; to fetch them: git lfs pull",
    "submodules": "submodules are left out; to fetch them: git submodule update --init --recursive",
}


def say_left_out(repo: Any) -> None:
    """Tell people what a clone left out, and how its user fetches it."""
    for word in repo.left_out:
        say(f"note: {LEFT_OUT.get(word, word)} (in {repo.path})")


def show_lines(lines: Sequence[str], *, json: bool = False) -> None:
    """Print lines that a node wrote, one below the other."""
    if json:
        show(list(lines), json=True)
    else:
        _print(sys.stdout, "".join(escape(line, keep="\t") + "\n" for line in lines))


def show_line(line: str, *, json: bool = False) -> bool:
    """Print one line that a node wrote just now (as a JSON text, if asked); False when nobody reads any more."""
    return _print(sys.stdout, (json_module.dumps(line) if json else escape(line, keep="\t")) + "\n")


def confirm(question: str) -> bool:
    """Ask on the terminal; without one the answer is no."""
    if sys.stdin is None or not sys.stdin.isatty():
        return False
    sys.stderr.write(f"{escape(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
