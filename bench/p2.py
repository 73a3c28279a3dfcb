"""P2: a call from the command line, over an endpoint that is up."""

from __future__ import annotations

from bench.clock import in_turns
from bench.row import Row, ratio
from bench.site import Site

ROUNDS = 25


def rows(site: Site) -> list[Row]:
    """Time `inv node.version --json` beside `inv --version`."""
    site.inv("node.connect", "--node", "web1").run()
    call = site.inv("node.version", "--node", "web1", "--json", proof='"build"')
    bare = site.inv("--version", proof="Invoke")
    ours, theirs = in_turns(ROUNDS, call.run, bare.run)
    compared = (
        f"`inv node.version --node web1 --json` over a live endpoint; `inv --version`; whole processes, {ROUNDS} turns"
    )
    return [ratio("P2", "a call over a live endpoint", ours, theirs, 1.5, compared)]
