"""YAML whose every node knows its line: for files that people write, with errors that name file, line and key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from codesmith.errors import BadRegistry, CodeSmithError

if TYPE_CHECKING:
    import yaml


class Document:
    """Walks the YAML nodes, which know their lines, instead of plain values, which do not.

    A subclass says which `error` a mistake raises, and what the text is `like`.
    """

    error: type[CodeSmithError] = BadRegistry
    like = "YAML as in nodes.yaml of the documentation"

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text

    def compose(self) -> yaml.Node | None:
        """Return the root of the text; None if there is nothing in it."""
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            return yaml.compose(self.text, Loader=loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise self.unreadable(mark.line + 1 if mark else 1, error.problem or "not YAML") from None
        except yaml.YAMLError as error:
            raise self.unreadable(self.control_line(), str(error).splitlines()[0]) from None
        except RecursionError:
            raise self.bad(1, "", "nested too deep", self.like) from None

    def unreadable(self, line: int, problem: str) -> CodeSmithError:
        """Return the error for a text that is no YAML, in words of this file."""
        lines = self.text.splitlines() or [""]
        for number in (line, line - 1):
            if 0 < number <= len(lines) and "\t" in lines[number - 1][: _indent(lines[number - 1])]:
                return self.bad(number, "", "a tab in the indentation", "spaces")
        if "another document" in problem or "single document" in problem:
            return self.bad(line, "", "a second document (`---`)", "one document")
        return self.bad(line, "", f"not YAML: {problem}", self.like)

    def control_line(self) -> int:
        """Return the line of the first character that YAML may not have."""
        match = re.search(r"[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", self.text)
        return self.text.count("\n", 0, match.start()) + 1 if match else 1

    def pairs(
        self, node: yaml.Node, key: str, known: tuple[str, ...] | None, expected: str
    ) -> Iterator[tuple[str, int, yaml.Node]]:
        """Yield key, line and value of a mapping; refuse other kinds, repeated keys and unknown keys."""
        if shape(node) != "a mapping":
            raise self.bad(line_of(node), key, self.described(node), expected)
        lines: dict[str, int] = {}
        for word, value in node.value:
            line, text = line_of(word), str(word.value) if isinstance(word.value, str) else ""
            where = f"{key}.{text}" if key else text
            if not text:
                raise self.bad(line, key, "a key that is not a word", expected)
            if text in lines:
                raise self.bad(line, where, f"written before on line {lines[text]}", "each key once")
            if known is not None and text not in known:
                raise self.bad(line, where, f"no such key{did_you_mean(text, known)}", f"one of {', '.join(known)}")
            lines[text] = line
            yield text, line, value

    def string(self, node: yaml.Node, key: str, expected: str) -> str:
        """Return the text of a node; refuse other kinds, empty and unprintable text."""
        if not node.tag.endswith(":str") or shape(node):
            quotes = " (in quotes)" if not self.is_null(node) and isinstance(node.value, str) else ""
            raise self.bad(line_of(node), key, self.described(node), expected + quotes)
        if not node.value.strip() or not node.value.isprintable():
            raise self.bad(line_of(node), key, f"{node.value!r}", expected)
        return str(node.value)

    def is_null(self, node: yaml.Node) -> bool:
        """Tell whether nothing is written there."""
        return bool(node.tag.endswith(":null"))

    def described(self, node: yaml.Node) -> str:
        """Return what a node is, for an error."""
        if self.is_null(node):
            return "nothing"
        return shape(node) or repr(node.value)

    def bad(self, line: int, key: str, problem: str, expected: str) -> CodeSmithError:
        """Return the error about a line and key: what is wrong, and what is expected there."""
        where = f"{self.path}:{line}: " + (f"{key}: " if key else "")
        return self.error(f"{where}{problem}; expected {expected}", hint=f"${{EDITOR:-vi}} +{line} {self.path}")


def did_you_mean(word: str, known: tuple[str, ...]) -> str:
    """Return which of the known words was probably meant, as the end of a sentence."""
    import difflib

    close = difflib.get_close_matches(word, known, 1)
    return f", did you mean `{close[0]}`?" if close else ""


def shape(node: yaml.Node) -> str:
    """Return "a mapping" or "a list", whatever tag the node has; empty for a scalar."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else ""


def line_of(node: yaml.Node) -> int:
    """Return the line where a node begins, from 1."""
    return int(node.start_mark.line) + 1


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
