"""Runs on the node as root: times workspace.get, .create for a user that is there, and .list, on one connection.

Prints {"get": [seconds], "create": [seconds], "list": [seconds]}. It deletes what it makes.
"""

import json
import sys
import time

from client import Client, parse


def timed(client, method, **params):
    """Return the seconds of one call; exit if it is refused."""
    begun = time.perf_counter()
    answer = client.ask(method, **params)
    took = time.perf_counter() - begun
    parse(answer)  # not timed: parsing is not the agent's work, and takes as long for a long list as writing it
    return took


def main():
    """Time get, create and list."""
    rounds, client = int(sys.argv[1]), Client()
    found = {"get": [], "create": [], "list": []}
    for number in range(rounds + 1):
        name = f"turn{number}"
        took = {"create": timed(client, "workspace.create", name=name, user="owner")}
        client.call("workspace.delete", name=name)
        took["get"] = min(timed(client, "workspace.get", name=f"seed{1 + number % 8}") for _ in range(10))
        if number:  # the first wakes the helper
            for what, seconds in took.items():
                found[what].append(seconds)
    found["list"] = [timed(client, "workspace.list") for _ in range(5)]
    print(json.dumps(found))


main()
