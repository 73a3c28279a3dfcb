"""The results that are kept: results.json, and RESULTS.md made of it. What is measured anew replaces what was there."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.growth import Growth
from bench.row import Row

HERE = Path(__file__).resolve().parent
KEPT, SHOWN = HERE / "results.json", HERE / "RESULTS.md"
SHOWN_COLUMNS = ("id", "what", "codesmith", "beside", "value", "target", "result", "spread", "measured")
HEAD = """# Results of the bench

Made by `make bench`; a run of some rows (`python -m bench P2 --write`) replaces those alone. [README.md](README.md)
says what is compared, and why something is missed. Absolute times depend on the machine; the ratios count.

"Spread" is how wide the middle half of the single values is, in parts of their median: of CodeSmith's values, then of
those beside them.

"""


def keep(found: Sequence[Row | Growth], load: float) -> None:
    """Merge results into results.json, and write RESULTS.md; `load` is the machine's before the run."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {"machines": {}, "rows": [], "growth": []}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    rows = [{**_shown(one), "measured": today} for one in found if isinstance(one, Row)]
    drawn = {one.name: {**one.to_dict(), "measured": today} for one in found if isinstance(one, Growth)}
    anew = {row["id"] for row in rows}
    kept["rows"] = sorted(
        [*(row for row in kept["rows"] if row["id"] not in anew), *rows], key=lambda row: int(row["id"][1:])
    )
    kept["growth"] = list(({one["name"]: one for one in kept["growth"]} | drawn).values())
    days = {one["measured"] for one in [*kept["rows"], *kept["growth"]]}
    kept["machines"] = {day: text for day, text in kept["machines"].items() if day in days} | {today: machine(load)}
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    SHOWN.write_text(page(kept))


def page(kept: dict[str, Any]) -> str:
    """Return RESULTS.md."""
    machines = [f"- {day}: {text}" for day, text in sorted(kept["machines"].items())]
    plots = [f"![{one['title']}](growth-{one['name']}.svg)" for one in kept["growth"]]
    body = [*machines, "", *_table(SHOWN_COLUMNS, kept["rows"])]
    for plot, one in zip(plots, kept["growth"], strict=True):
        body += ["", plot, "", *_growth_table(one)]
    compared = [f"- **{row['id']}, {row['what']}**: {row['compared']}" for row in kept["rows"]]
    return HEAD + "\n".join([*body, "", "## What was compared", "", *compared]) + "\n"


def machine(load: float) -> str:
    """Describe this machine in a line: what a reader needs to know to compare."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False).stderr.partition(",")[0]
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return (
        f"{os.cpu_count()} x {_processor()}, {memory:.0f} GiB, {system}, Linux {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}, {ssh}; load {load:.1f} before the run"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _shown(row: Row) -> dict[str, str]:
    return {column: str(getattr(row, column)) for column in SHOWN_COLUMNS[:-1]} | {"compared": row.compared}


def _table(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> list[str]:
    return [
        f"| {' | '.join(columns)} |",
        f"|{' --- |' * len(columns)}",
        *(f"| {' | '.join(str(row[column]) for column in columns)} |" for row in rows),
    ]


def _growth_table(one: dict[str, Any]) -> list[str]:
    columns = [one["counted"], *(f"{count:,}" for count in one["counts"])]
    rows = [dict(zip(columns, [label, *(f"{value:,.4g}" for value in values)], strict=True))
            for label, values in one["lines"].items()]  # fmt: skip
    return _table(columns, rows)
