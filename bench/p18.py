"""P18: output that streams: 1 GiB of it beside ssh, and how long a line takes that was just written."""

from __future__ import annotations

import subprocess
import time

from bench.clock import Command, in_turns
from bench.row import Row, at_least, ratio
from bench.site import Site
from bench.ssh_master import ssh
from codesmith.errors import CodeSmithError
from codesmith.lab import LabNode

ROUNDS, LINES = 3, 40
RTT_MS = 50
SIZE = 1 << 30
NAME = "stream18"
FILE = f"/srv/codesmith/workspaces/{NAME}/data/big"
# Writes the time of writing, as ping does: a line, a pause.
PING = f"import time; [print(time.time(), flush=True) or time.sleep(0.05) for _ in range({LINES + 1})]"


def rows(site: Site, node: LabNode) -> list[Row]:
    """Measure the rate at 0 ms beside ssh, then lines through a relay."""
    site.inv("node.connect", "--node", "web1").run()
    site.inv("workspace.create", NAME, "--node", "web1", proof=NAME).run()
    site.inv("workspace.exec", NAME, "--node", "web1", "--", "truncate", "-s", str(SIZE), "data/big").run()
    exec_ = site.inv("workspace.exec", NAME, "--node", "web1", "--", "cat", "data/big")
    ours, theirs = in_turns(ROUNDS, _counted(exec_).run, _counted(ssh(site, "web1", "cat", FILE)).run)
    rates = [[SIZE / 1e6 / seconds for seconds in series] for series in (ours, theirs)]
    with node.relay(RTT_MS) as address:
        site.enter("away", node, *address)
        site.inv("node.connect", "--node", "away").run()
        late = _delays(site.inv("workspace.exec", NAME, "--node", "away", "--", "python3", "-c", PING))
        site.inv("node.disconnect", "--node", "away").run()
    return [
        at_least("P18", "1 GiB of output", *rates, 0.5, "MB/s",
                 f"`inv workspace.exec NAME -- cat FILE`, endpoint up, runtime running; `ssh NODE cat FILE` without a "
                 f"master; whole processes, into `wc -c`, {ROUNDS} turns"),
        ratio("P18", f"a line of output, {RTT_MS} ms, beside one round trip", late, [RTT_MS / 1000], 1.1,
              f"from writing a line there (by the clock of the same machine) to reading it from `inv workspace.exec`, "
              f"through a relay that adds {RTT_MS} ms; beside the round trip itself; {LINES} lines"),
    ]  # fmt: skip


def _counted(command: Command) -> Command:
    """Return a command whose output is counted, and must be whole."""
    return Command(
        ("sh", "-c", '"$@" | wc -c', "sh", *command.argv), command.environment, command.folder, proof=str(SIZE)
    )


def _delays(command: Command) -> list[float]:
    """Return for each line but the first the seconds from its writing to its arrival."""
    with subprocess.Popen(
        command.argv, cwd=command.folder, env=command.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        found = [time.time() - float(line) for line in iter(process.stdout.readline, b"")]
    if process.returncode or len(found) != LINES + 1:
        raise CodeSmithError(f"`{' '.join(command.argv)}` ended with {process.returncode} after {len(found)} lines")
    return found[1:]
