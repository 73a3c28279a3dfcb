"""P6: prepare on bare nodes whose packages are there, beside ansible doing the same."""

from __future__ import annotations

from bench import checks
from bench.clock import in_turns
from bench.commands import Commands
from bench.row import Row, ratio
from bench.site import Site

ROUNDS = 4
WHAT = (
    "bare nodes, a new one each time, packages there; the same accounts, directories, files, links and units; ansible "
    "with pipelining, facts not gathered; prepare also waits for an answer of the agent"
)


def rows(site: Site) -> list[Row]:
    """Time both, each on nodes of its own."""
    turns = range(ROUNDS + 1)
    ours, theirs = [f"ours{turn}" for turn in turns], [f"theirs{turn}" for turn in turns]
    site.boot(*ours, *theirs)
    bare = {"BENCH_CHECKS": str(checks.write_bare(site.folder, site.agent_file))}
    waiting = {"ours": iter(ours), "theirs": iter(theirs)}

    def prepare() -> float:
        return Commands(site, [next(waiting["ours"])]).inv("node.prepare", proof="prepared").run()

    def ansible() -> float:
        commands = Commands(site, [next(waiting["theirs"])])
        took = commands.ansible("ansible_playbook.yml", proof="unreachable=0 failed=0", **bare).run()
        commands.end_masters()
        return took

    mine, other = in_turns(ROUNDS, prepare, ansible)
    return [ratio("P6", "prepare, bare node, beside ansible", mine, other, 0.5, f"{WHAT}; {ROUNDS} turns")]
