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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from codesmith.cli.cells import cell, escape
from codesmith.cli.hints import completed
from codesmith.errors import CodeSmithError


def show(data: Any, columns: Sequence[str] = (), *, json: bool = False, stream: TextIO | None = None) -> None:
    """Print a list of records as one row each, or one record as a line per field, in the form that is asked for.

    `columns` picks the fields that people see; JSON and YAML always have every field.
    """
    out = stream or sys.stdout
    if out is None:  # the caller closed it: nobody reads it
        return
    records, form = plain(data), FORM.name or ("json" if json else "")
    if form in TEXTS:
        _print(out, TEXTS[form](records))
        return
    names = list(columns) or _names(records)
    if form == "name":
        _print(out, "".join(f"{escape(cell(one.get(names[0])))}\n" for one in _listed(records)))
    elif form == "table" or out.isatty():
        _table(out, records, names)
    elif isinstance(records, list):
        _print(out, "".join("\t".join(escape(cell(one.get(name))) for name in names) + "\n" for one in records))
    else:
        _print(out, "".join(f"{escape(name)}\t{escape(cell(records.get(name)))}\n" for name in names))


class Form:
    """How results are printed: "" (a table on a terminal, else tabs), or what --output names."""

    name = ""


FORM = Form()


def as_json(records: Any) -> str:
    """Return records as JSON."""
    return json_module.dumps(records, indent=2) + "\n"


def as_yaml(records: Any) -> str:
    """Return records as YAML."""
    import yaml

    return str(yaml.safe_dump(records, sort_keys=False))


TEXTS: dict[str, Callable[[Any], str]] = {"json": as_json, "yaml": as_yaml}


def plain(data: Any) -> Any:
    """Return records as dictionaries and lists, ready for JSON."""
    if hasattr(data, "to_dict"):
        return data.to_dict()
    if isinstance(data, Mapping):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [plain(item) for item in data]
    return data


def _listed(records: Any) -> list[Any]:
    return records if isinstance(records, list) else [records]


def _names(records: Any) -> list[str]:
    return list(next(iter(_listed(records)), ()))


def _table(out: TextIO, records: Any, names: Sequence[str]) -> None:
    from codesmith.cli import tables

    if not records:
        _print(sys.stderr, "nothing to show\n")
        return
    with writing(out):
        if isinstance(records, list):
            tables.of_list(out, records, names)
        else:
            tables.of_record(out, records, names)
        out.flush()


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
