"""Add and remove nodes in nodes.yaml by whole lines; every other byte of the file stays.

The new text is read back before it replaces the file. If it does not say what was asked for, nothing is written.
"""

from __future__ import annotations

import json
import os
import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from codesmith import paths
from codesmith.errors import BadRegistry, CodeSmithError, UnknownNode
from codesmith.nodes import includes, reader
from codesmith.nodes.reader import NodesFile

ADD_HELP = "inv node.add --help"
NEW_FILE = "# The nodes CodeSmith looks after.\nnodes:\n"


def add(path: Path, name: str, settings: Mapping[str, Any]) -> None:
    """Add a node at the end of `nodes:`, creating the file if it is missing. A name that exists is refused."""
    with _locked(path):
        old = reader.read(path) if path.exists() else reader.parse(NEW_FILE, path)
        if name in old.sections:
            line = old.sections[name].first_line
            raise CodeSmithError(f"{path}:{line}: there is a node {name!r} already", hint=f"inv node.remove {name}")
        if not name.strip():
            raise BadRegistry(f"{name!r} is not a node's name", hint=ADD_HELP)
        _ensure_not_included(old, name, "there is a node {name!r} already, in {place}, which {path} includes")
        _check(NEW_FILE + "\n".join(entry(name, settings, 2)), path, name)
        text = plan_add(old, name, settings)
        _check(text, path, name)
        includes.resolve(reader.parse(text, path))
        _replace(old, text, {**_values(old), name: dict(settings)})


def remove(path: Path, name: str) -> bool:
    """Remove a node, the comments right above it, and `default:` if it names the node; return whether it did."""
    with _locked(path):
        old = reader.read(path)
        ensure_own(old, name)
        if name not in old.sections:
            raise UnknownNode.named(name, old.sections, str(path))
        others = {key: values for key, values in _values(old).items() if key != name}
        _replace(old, plan_remove(old, name), others)
        return old.default == name


def lines_of(file: NodesFile, name: str) -> list[str]:
    """Return the lines that `remove` takes away."""
    import difflib

    changes = difflib.ndiff(file.text.splitlines(), plan_remove(file, name).splitlines())
    return [line[2:] for line in changes if line.startswith("- ")]


def ensure_own(file: NodesFile, name: str) -> None:
    """Refuse to remove a node that an included file has."""
    _ensure_not_included(file, name, "{name} is in {place}, which {path} includes and nothing here changes")


def _ensure_not_included(file: NodesFile, name: str, problem: str) -> None:
    found = includes.resolve(file).nodes.get(name) if file.includes and name not in file.sections else None
    if found is not None:
        hint = f"${{EDITOR:-vi}} +{found.section.first_line} {found.path}"
        raise CodeSmithError(problem.format(name=name, place=found.place, path=file.path), hint=hint)


def plan_add(old: NodesFile, name: str, settings: Mapping[str, Any]) -> str:
    """Return the text with the node after the last one."""
    lines = _lines(old.text)
    if not old.sections:
        return _insert_first(old, lines, entry(name, settings, 2))
    if not old.is_block:
        raise _by_hand(old, name, settings)
    last = max(old.sections.values(), key=lambda section: section.first_line)
    column = _indent(lines[last.first_line - 1])
    return "".join(_inserted(lines, last.last_line, entry(name, settings, column)))


def plan_remove(old: NodesFile, name: str) -> str:
    """Return the text without the node's lines, without the comments right above them and without its `default:`."""
    lines = _lines(old.text)
    section = old.sections[name]
    if not old.is_block:
        raise BadRegistry(
            f"{old.path}:{section.first_line}: nodes.{name}: written as {{...}} on shared lines; expected a block",
            hint=f"remove it by hand: ${{EDITOR:-vi}} +{section.first_line} {old.path}",
        )
    first = section.first_line - 1
    column = _indent(lines[first])
    while _is_comment(lines[first - 1], column) and first - 1 > (old.nodes_line or 0) - 1:
        first -= 1
    last = section.last_line
    if last < len(lines) and not lines[last].strip() and not lines[first - 1].strip():
        last += 1  # keep only one of the two empty lines around it
    removed = set(range(first, last))
    if old.default == name and old.default_line:
        removed.add(old.default_line - 1)
    return "".join(line for number, line in enumerate(lines) if number not in removed)


def entry(name: str, settings: Mapping[str, Any], column: int) -> list[str]:
    """Return the lines of one node."""
    pad = " " * column
    return [f"{pad}{name}:", *(f"{pad}  {key}: {_written(value)}" for key, value in settings.items())]


def _insert_first(old: NodesFile, lines: list[str], new: list[str]) -> str:
    if old.nodes_line is None:
        return "".join(_inserted(lines, len(lines), ["nodes:", *new]))
    at = old.nodes_line - 1
    # Nothing can follow `nodes: {}`, so its value goes; `nodes: # text` keeps its comment.
    lines[at] = re.sub(r"^nodes(\s*):[^\S\r\n]*(\{\s*\}|~|null)?", r"nodes:", lines[at], count=1)
    return "".join(_inserted(lines, at + 1, new))


def _lines(text: str) -> list[str]:
    """Return the lines as YAML counts them, each with its line end, so that unchanged lines keep every byte."""
    return re.findall(r"[^\r\n\x85\u2028\u2029]*(?:\r\n|[\r\n\x85\u2028\u2029])|[^\r\n\x85\u2028\u2029]+\Z", text)


def _inserted(lines: list[str], at: int, new: list[str]) -> list[str]:
    """Return the lines with new ones after the first `at`, with the line ends of the file."""
    end = "\r\n" if any(line.endswith("\r\n") for line in lines) else "\n"
    before = lines[:at]
    if before and before[-1] == before[-1].rstrip("\r\n"):
        before[-1] += end
    return [*before, *(line + end for line in new), *lines[at:]]


def _written(value: Any) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_written(key)}: {_written(item)}' for key, item in value.items())}}}"
    text = str(value)
    # A JSON string is a double-quoted YAML string.
    return (
        text
        if re.fullmatch(r"~?[A-Za-z/][A-Za-z0-9_./-]*|tcp:[0-9]+", text) and not _is_special(text)
        else json.dumps(text)
    )


def _is_special(text: str) -> bool:
    return text.lower() in ("null", "true", "false", "yes", "no", "on", "off", "y", "n")


def _values(file: NodesFile) -> dict[str, dict[str, Any]]:
    return {name: section.values for name, section in file.sections.items()}


def _check(text: str, path: Path, name: str) -> None:
    """Raise BadRegistry if the node is wrong, without a line number: it is on no line yet."""
    try:
        reader.parse(text, path)
    except BadRegistry as error:
        problem = error.problem.removeprefix(f"{path}:").partition(": ")[2]
        raise BadRegistry(f"node {name!r} cannot be added: {problem}", hint=ADD_HELP) from None


def _replace(old: NodesFile, text: str, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """Replace the file atomically, provided that the new text reads as `wanted`."""
    try:
        is_as_wanted = json.dumps(_values(reader.parse(text, old.path))) == json.dumps(wanted)
    except BadRegistry:  # about a line that nobody has written
        is_as_wanted = False
    if not is_as_wanted:
        raise BadRegistry(f"{old.path}: too unusual to be changed safely", hint=f"${{EDITOR:-vi}} {old.path}")
    target = old.path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    has_mark = target.exists() and target.read_bytes().startswith(BOM_UTF8)
    try:
        temporary.write_bytes((BOM_UTF8 if has_mark else b"") + text.encode())
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise BadRegistry(f"cannot write {old.path}: {error.strerror}", hint=f"ls -ld {target.parent}") from error


def _by_hand(old: NodesFile, name: str, settings: Mapping[str, Any]) -> BadRegistry:
    return BadRegistry(
        f"{old.path}:{old.nodes_line}: nodes: written as {{...}}; expected a block, one `NAME:` per line",
        hint=f"add it by hand: {name}: {_written(settings)}",
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other writers out, by a lock on the folder: the file itself is replaced."""
    folder = path.resolve().parent
    with ExitStack() as stack:
        try:
            stack.enter_context(paths.locked(folder))
        except OSError as error:
            problem = f"cannot open the folder of {path}: {error.strerror}"
            raise BadRegistry(problem, hint=f"ls -ld {folder}") from error
        yield


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_comment(line: str, column: int) -> bool:
    return line.lstrip().startswith("#") and _indent(line) == column
