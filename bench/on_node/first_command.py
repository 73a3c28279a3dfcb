"""Runs on the node as root: times the first command in a workspace, which starts its runtime, beside systemd-run.

Prints {"agent": [seconds], "bare": [seconds]}. It uses the agent's own module for the properties of the unit.
"""

import json
import subprocess
import sys
import time

from client import Client

sys.path.insert(0, "/usr/lib/codesmith/current/program")
from agent.helper.ledger.lock import exclusive_ledger
from agent.helper.runtime import entry, files, units

NAME = "first13"


def by_agent(agent):
    """Return the seconds of the first command after the runtime was stopped."""
    agent.call("workspace.stop", name=NAME)
    begun = time.perf_counter()
    done = agent.call("workspace.exec", name=NAME, argv=["true"])
    took = time.perf_counter() - begun
    if done["exit_code"] != 0:
        sys.exit(f"failed: {done}")
    return took


def by_systemd(words):
    """Return the seconds of one transient unit that runs `true`."""
    begun = time.perf_counter()
    subprocess.run(["systemd-run", "--quiet", "--pipe", "--wait", *words, "true"], check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main():
    """Time both in turns, after one turn to warm up."""
    agent, found = Client(), {"agent": [], "bare": []}
    agent.call("workspace.create", name=NAME)
    agent.call("workspace.exec", name=NAME, argv=["true"])
    with exclusive_ledger() as ledger:
        made = entry.read_entry(ledger, NAME)
        # The files that the properties name: a stop removes the runtime's own.
        units._write(made, units._settings(made, for_clone=False), for_proxy=False, ending="bench")
        properties = units.properties(made, ending="bench")
    words = [word for one in properties for word in ("--property", one)]
    for number in range(int(sys.argv[1]) + 1):
        took = {"agent": by_agent(agent), "bare": by_systemd(words)}
        if number:
            for side, seconds in took.items():
                found[side].append(seconds)
    agent.call("workspace.delete", name=NAME)
    files.remove(NAME + ".bench")
    print(json.dumps(found))


main()
