"""Measure and show: `python -m bench [P1 P2 ... GROWTH] [--json] [--write]`; exit code 1 if a target is missed."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence

from bench import (
    growth,
    p1,
    p2,
    p3,
    p4,
    p5,
    p6,
    p7,
    p8,
    p9,
    p10,
    p11,
    p12,
    p13,
    p14,
    p15,
    p16,
    p17,
    p18,
    p19,
    p20,
    p21,
    p22,
    p23,
    results,
)
from bench.growth import Growth
from bench.row import COLUMNS, Row
from bench.site import Site, site
from codesmith.cli import output
from codesmith.errors import Cancelled, CodeSmithError

NAMES = (
    "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P11", "P12", "P13", "P14", "P15", "P16", "P17",
    "P18", "P19", "P20", "P21", "P22", "P23", "GROWTH",
)  # fmt: skip


def main() -> int:
    """Run the chosen measurements, all by default; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition(":")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)} (default: all)")
    parser.add_argument("--json", action="store_true", help="print JSON, with every single measurement")
    parser.add_argument("--write", action="store_true", help="keep the results in results.json and RESULTS.md")
    chosen = parser.parse_args()
    names = [name.upper() for name in chosen.names] or list(NAMES)
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        parser.error(f"no {', '.join(unknown)}; there are {', '.join(NAMES)}")
    rows: list[Row] = []
    load, _, _ = os.getloadavg()
    try:
        with site() as place:
            for found in measure(place, names):
                rows += [one for one in found if isinstance(one, Row)]
                if chosen.write:
                    results.keep(found, load)
    except KeyboardInterrupt:
        return Cancelled.exit_code
    except CodeSmithError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    show(rows, as_json=chosen.json)
    return 0 if all(row.met for row in rows) else 1


def show(rows: list[Row], *, as_json: bool) -> None:
    """Print the rows; on a terminal, what was compared is printed below the table."""
    if as_json or not sys.stdout.isatty():
        output.show(rows, COLUMNS, json=as_json)
        return
    output.show(rows, COLUMNS[:-1])
    print()
    for row in rows:
        print(textwrap.fill(f"{row.id}  {row.what}: {row.compared}", 120, subsequent_indent="    "))


def measure(place: Site, names: list[str]) -> Iterator[Sequence[Row | Growth]]:
    """Give the results of the named measurements, in the order of NAMES, each as soon as it is there."""
    (node,) = place.boot("web1")
    place.inv("node.prepare", "--node", "web1", proof="prepared").run()
    works: dict[str, Callable[[], Sequence[Row | Growth]]] = {
        "P1": lambda: p1.rows(place, node),
        "P2": lambda: p2.rows(place),
        "P3": lambda: p3.rows(place, node),
        "P4": lambda: p4.rows(place, node),
        "P5": lambda: p5.rows(place, node),
        "P6": lambda: p6.rows(place),
        "P7": lambda: p7.rows(place),
        "P8": lambda: p8.rows(place),
        "P9": lambda: p9.rows(place, node),
        "P10": lambda: p10.rows(place, node),
        "P11": lambda: p11.rows(place),
        "P12": lambda: p12.rows(place, node),
        "P13": lambda: p13.rows(place, node),
        "P14": lambda: p14.rows(place, node),
        "P15": lambda: p15.rows(place, node),
        "P16": lambda: p16.rows(place, node),
        "P17": lambda: p17.rows(place),
        "P18": lambda: p18.rows(place, node),
        "P19": lambda: p19.rows(place, node),
        "P20": lambda: p20.rows(place),
        "P21": lambda: p21.rows(place, node),
        "P22": lambda: p22.rows(place),
        "P23": lambda: p23.rows(place, node),
        "GROWTH": lambda: growth.growth(place, node),
    }
    for name in NAMES:
        if name in names:
            begun = time.monotonic()
            yield works[name]()
            output.say(f"bench: {name} took {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
