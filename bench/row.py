"""One row of the result: what was measured, its reference, and whether it meets its target."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

COLUMNS = ("id", "what", "codesmith", "beside", "value", "target", "result", "compared")


@dataclass(frozen=True)
class Row:
    """One result: `codesmith` and `beside` are medians for people; `target` is a limit on `value`."""

    id: str
    what: str
    codesmith: str
    beside: str
    value: str
    target: str
    met: bool
    compared: str
    samples: dict[str, list[float]]

    @property
    def result(self) -> str:
        """The verdict in one word."""
        return "met" if self.met else "MISSED"

    @property
    def spread(self) -> str:
        """How wide the middle half of our values is, and of those beside them, in parts of their median."""
        return ", ".join(_spread(values) for values in self.samples.values() if len(values) > 1)

    def to_dict(self) -> dict[str, Any]:
        """Return it as a dictionary, for the table and for JSON."""
        return {**asdict(self), "result": self.result}


def ratio(row_id: str, what: str, ours: Sequence[float], theirs: Sequence[float], most: float, compared: str) -> Row:
    """Compare two series of seconds: the ratio of their medians is at most `most`."""
    mine, other = statistics.median(ours), statistics.median(theirs)
    return Row(
        row_id, what, seconds(mine), seconds(other), f"{mine / other:.2f} x", f"<= {most:.2f} x", mine <= most * other,
        compared, _samples(ours, theirs),
    )  # fmt: skip


def excess(row_id: str, what: str, ours: Sequence[float], theirs: Sequence[float], most: float, compared: str) -> Row:
    """Compare two series of counts: the difference of their medians is at most `most`."""
    mine, other = statistics.median(ours), statistics.median(theirs)
    return Row(
        row_id, what, f"{mine:g}", f"{other:g}", f"{mine - other:+g}", f"<= +{most:g}", mine - other <= most,
        compared, _samples(ours, theirs),
    )  # fmt: skip


def limit(row_id: str, what: str, found: float, most: float, unit: str, compared: str) -> Row:
    """Compare one number with a fixed limit."""
    digits = {"MB": 1, "%": 3}.get(unit, 0)
    shown = f"{found:.{digits}f} {unit}"
    samples = {"codesmith": [round(found, 3)], "beside": []}
    return Row(row_id, what, shown, "", "", f"<= {most:.{digits}f} {unit}", found <= most, compared, samples)


def at_least(row_id: str, what: str, ours: Sequence[float], theirs: Sequence[float], least: float, unit: str,
             compared: str) -> Row:  # fmt: skip
    """Compare two series of rates: the ratio of their medians is at least `least`."""
    mine, other = statistics.median(ours), statistics.median(theirs)
    return Row(
        row_id, what, f"{mine:,.0f} {unit}", f"{other:,.0f} {unit}", f"{mine / other:.2f} x", f">= {least:.2f} x",
        mine >= least * other, compared, _samples(ours, theirs),
    )  # fmt: skip


def seconds(value: float) -> str:
    """Format a time: s, below one second ms, below 0.1 ms us."""
    if value < 0.0001:
        return f"{value * 1_000_000:.1f} us"
    if value < 0.01:
        return f"{value * 1000:.2f} ms"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _spread(values: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{100 * (high - low) / middle:.0f} %" if middle else "0 %"


def _samples(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, list[float]]:
    return {"codesmith": [round(one, 5) for one in ours], "beside": [round(one, 5) for one in theirs]}
