"""Runs on the node as root: creates workspaces up to a number, runs one command in each; prints {"running": count}."""

import json
import sys

from client import Client


def main():
    """Create and start what is missing of many1, many2, ..."""
    agent, wanted = Client(), int(sys.argv[1])
    there = {one["name"] for one in agent.call("workspace.list")}
    for name in (f"many{number}" for number in range(1, wanted + 1)):
        if name not in there:
            agent.call("workspace.create", name=name)
        agent.call("workspace.exec", name=name, argv=["true"])
    states = [agent.call("workspace.get", name=name)["runtime"]["state"] for name in there | {name}]
    print(json.dumps({"running": states.count("running")}))


main()
