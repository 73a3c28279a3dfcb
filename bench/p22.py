"""P22: what waits for a person: an answer at TAB, and the start of a command."""

from __future__ import annotations

import statistics
import sys

from bench.clock import in_turns
from bench.row import Row, limit, ratio
from bench.site import Site
from codesmith.completion import scripts

ROUNDS = 25
ANSWER_MS = 60.0
# By what is completed: the line, and a word of the answer.
LINES = {
    "nodes": ("codesmith node.version --node ", "web1"),
    "workspaces": ("codesmith workspace.get --node web1 ", "shop"),
}


def rows(site: Site) -> list[Row]:
    """Time the program that a shell starts at TAB, and `inv node.version` beside the import of Invoke."""
    site.inv("node.connect", "--node", "web1").run()
    site.inv("workspace.create", "shop", "--node", "web1", proof="shop").run()
    return [*(_answer(site, what) for what in LINES), _start(site)]


def _answer(site: Site, what: str) -> Row:
    line, proof = LINES[what]
    argv = (*scripts.program(), "bash", *scripts.known(site.home), line)
    (found,) = in_turns(ROUNDS, site.command(*argv, proof=proof).run)
    compared = f"the program that bash starts at TAB behind `{line}`, whole process, median of {ROUNDS}"
    return limit("P22", f"completion, {what}", statistics.median(found) * 1000, ANSWER_MS, "ms", compared)


def _start(site: Site) -> Row:
    call = site.inv("node.version", "--node", "web1", proof="web1")
    bare = site.command(sys.executable, "-c", "import invoke")
    ours, theirs = in_turns(ROUNDS, call.run, bare.run)
    compared = f"`inv node.version --node web1` over a live endpoint; `python -c 'import invoke'`, {ROUNDS} turns"
    return ratio("P22", "a command, beside Invoke's import", ours, theirs, 1.3, compared)
