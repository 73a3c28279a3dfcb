"""Runs on the node as root: times workspace.create beside the bare tools, in turns, with fresh names each time.

Prints {"agent": [seconds], "tools": [seconds]}. Python 3.9, standard library only.
"""

import json
import subprocess
import sys
import time

from client import Client

BASE = "/srv/bench"
# The options of the agent's useradd, so that both sides do the same.
TOOLS = """
set -eu
login=$1 uid=$2 home=/srv/bench/home/$1 workspace=/srv/bench/workspaces/$1
useradd --key UID_MIN=$uid --key UID_MAX=$uid --key GID_MIN=$uid --key GID_MAX=$uid --key SUB_UID_COUNT=0 \
  --key SUB_GID_COUNT=0 --uid $uid --user-group --no-create-home --no-log-init --password '*' --home-dir "$home" \
  --shell /bin/bash --comment 'Bench user' -- "$login"
install -d -m 0700 -o "$login" -g "$login" "$home" "$home/.ssh"
install -d -m 0700 -o "$login" -g "$login" "$workspace" "$workspace/code" "$workspace/config" "$workspace/data" \
  "$workspace/logs" "$workspace/tmp"
"""


def by_agent(agent, number):
    """Return the seconds that the agent takes to create a workspace; delete it again."""
    name = f"turn{number}"
    begun = time.perf_counter()
    agent.call("workspace.create", name=name)
    took = time.perf_counter() - begun
    agent.call("workspace.delete", name=name)
    return took


def by_tools(number):
    """Return the seconds that the bare tools take for the same; remove it again."""
    login = f"bench-turn{number}"
    begun = time.perf_counter()
    subprocess.run(["/bin/sh", "-c", TOOLS, "sh", login, str(50000 + number)], check=True)
    took = time.perf_counter() - begun
    subprocess.run(["userdel", "--", login], check=True)
    subprocess.run(["rm", "-rf", BASE + "/home/" + login, BASE + "/workspaces/" + login], check=True)
    return took


def main():
    """Time both in turns, after two turns to warm up."""
    subprocess.run(["install", "-d", "-m", "0711", BASE, BASE + "/home", BASE + "/workspaces"], check=True)
    agent, found = Client(), {"agent": [], "tools": []}
    for number in range(int(sys.argv[1]) + 2):
        made = {"agent": by_agent(agent, number), "tools": by_tools(number)}
        if number > 1:  # two turns to warm up
            for side, took in made.items():
                found[side].append(took)
    subprocess.run(["rm", "-rf", BASE], check=True)
    print(json.dumps(found))


main()
