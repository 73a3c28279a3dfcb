"""Tables on a terminal: sizes and ages for people, colours of states, and no value broken in a narrow one."""

from __future__ import annotations

import datetime
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from codesmith.cli import people
from codesmith.cli.cells import cell, escape

GAP = 2
# Kept while there is any other column to leave out: what a row is about.
KEPT = ("state", "status", "error")
PROSE_MIN = 16
COLOURS = {
    "green": ("active", "ok", "ready", "running", "up"),
    "yellow": ("connecting", "degraded", "disabled", "drift", "pending", "starting", "waiting", "warn"),
    "red": ("down", "error", "fail", "failed", "failing", "killed", "lost", "missing", "unreachable"),
    "dim": ("exited", "idle", "stopped"),
}
STYLES = {word: colour for colour, words in COLOURS.items() for word in words}


@dataclass(frozen=True)
class Column:
    """A column as people see it. Prose may be broken between words; any other value stays in one piece."""

    name: str
    cells: list[str]

    @property
    def head(self) -> str:
        """The name with spaces; a size and a percentage have their unit."""
        return self.name.removesuffix("_bytes").removesuffix("_percent").replace("_", " ")

    @property
    def natural(self) -> int:
        """The width that breaks nothing."""
        return max(map(_wide, [self.head, *self.cells]))

    @property
    def least(self) -> int:
        """The width that breaks no word."""
        if not any(" " in text for text in self.cells):
            return self.natural
        words = max(_wide(word) for text in self.cells for word in text.split() or [""])
        return min(self.natural, max(_wide(self.head), words, PROSE_MIN))


def of_list(out: TextIO, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Print records as a table; columns that do not fit are left out and named, empty ones left out."""
    now = datetime.datetime.now(datetime.UTC)
    columns = [Column(name, [shown(name, row.get(name), now) for row in rows]) for name in names]
    columns = [column for column in columns if any(column.cells)] or columns[:1]
    width = shutil.get_terminal_size().columns
    kept = fitting(columns, width)
    _draw(out, kept, widths(kept, width))
    left_out = [column.head for column in columns if column not in kept]
    if left_out:
        sys.stderr.write(f"too narrow for: {', '.join(left_out)}; all of it: -o json\n")


def of_record(out: TextIO, record: Mapping[str, Any], names: Sequence[str]) -> None:
    """Print one record, a line for each field; a long value is left to the terminal, which breaks none for a copy."""
    now = datetime.datetime.now(datetime.UTC)
    wide = max((len(name) for name in names), default=0)
    console = _console(out, 1)
    from rich.text import Text

    for name in names:
        value = record.get(name)
        text = shown(name, value, now)
        if isinstance(value, str) and text != escape(cell(value)):
            text = f"{escape(value)} ({text})"
        console.print(Text(f"{name:{wide + GAP}}") + _styled(name, text), soft_wrap=True)


def fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """Return the columns that fit; the last ones go first, but for those that say how it is."""
    kept = list(columns)
    while len(kept) > 1 and sum(column.least + GAP for column in kept) - GAP > width:
        kept.remove(next((one for one in reversed(kept[1:]) if one.name not in KEPT), kept[-1]))
    return kept


def widths(columns: Sequence[Column], width: int) -> list[int]:
    """Return a width for each column; where there is too little room, the widest prose gives way."""
    found = [column.natural for column in columns]
    while sum(found) + GAP * (len(found) - 1) > width:
        spare = [(found[at], at) for at, column in enumerate(columns) if found[at] > column.least]
        if not spare:
            break
        found[max(spare)[1]] -= 1
    return found


def shown(name: str, value: Any, now: datetime.datetime) -> str:
    """Return a value as people read it: a size, an age, else its cell."""
    if isinstance(value, Mapping):
        return ",".join(f"{escape(str(key))}={_nested(str(key), item, now)}" for key, item in value.items())
    if name.endswith("_bytes") and isinstance(value, int) and not isinstance(value, bool):
        return people.size(value)
    if name.endswith("_percent") and isinstance(value, int | float):
        return f"{value:.0f}%"
    if (name.endswith("_at") or name == "since") and isinstance(value, str):
        return people.age(value, now) or escape(value)
    return escape(cell(value))


def _nested(name: str, value: Any, now: datetime.datetime) -> str:
    """Return a value inside another one: a size without a space, where a line could break."""
    text = shown(name, value, now)
    return text.replace(" ", "") if name.endswith("_bytes") else text


def _draw(out: TextIO, columns: Sequence[Column], found: Sequence[int]) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
    for column, width in zip(columns, found, strict=True):
        table.add_column(column.head, width=width, no_wrap=column.least == column.natural, overflow="fold")
    for at in range(len(columns[0].cells)):
        table.add_row(*(_styled(column.name, column.cells[at]) for column in columns))
    _console(out, sum(found) + GAP * len(found)).print(table)


def _console(out: TextIO, width: int) -> Any:
    # rich takes 60 ms to import, so only a table on a terminal imports it.
    from rich.console import Console

    # With a height: for TERM=dumb rich would else take 80 columns, whatever width it is given.
    return Console(file=out, highlight=False, width=width, height=shutil.get_terminal_size().lines)


def _styled(name: str, text: str) -> Any:
    from rich.text import Text

    style = STYLES.get(text, "") if name in ("state", "status", "runtime") else ""
    return Text(text, style="dim" if name.endswith("_at") or name == "since" else style)


def _wide(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
