"""Draw growth-*.svg of results.json: `python -m bench.plots`; `make bench` has matplotlib for it in .venv-bench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator

HERE = Path(__file__).resolve().parent
PLAIN = FuncFormatter(lambda value, _: f"{value:,g}")


def main() -> None:
    """Draw each growth that was measured."""
    # The same picture from the same numbers: no date, no random ids, text as text.
    plt.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.family": "sans-serif"})
    for one in json.loads((HERE / "results.json").read_text())["growth"]:
        draw(one, HERE / f"growth-{one['name']}.svg")


def draw(one: dict[str, Any], path: Path) -> None:
    """Draw the lines of a growth over its counts, each labelled at its end."""
    figure, axes = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
    for label, values in one["lines"].items():
        (line,) = axes.plot(one["counts"], values, marker="o", markersize=4)
        axes.annotate(
            label, (one["counts"][-1], values[-1]), (6, -3), textcoords="offset points", color=line.get_color()
        )
    axes.set(xscale="log", yscale="log", title=one["title"], xlabel=one["counted"], xticks=one["counts"])
    axes.set_xlim(one["counts"][0] * 0.8, one["counts"][-1] * 12)
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(PLAIN)
    axes.yaxis.set_major_formatter(PLAIN)
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
