"""Runs on the node as root: times workspace.create beside the bare tools, in turns, with fresh names each time.

Prints {"agent": [seconds], "tools": [seconds]}. Python 3.9, standard library only. With the word `busy` as second
argument a copy of 2 GB is under way on the same disk, and the tools are followed by as many syncs as the agent does.
"""

import json
import os
import signal
import subprocess
import sys
import time

from client import Client

BASE = "/srv/bench"
# The options of the agent's useradd, so that both sides do the same.
TOOLS = """
set -eu
login=$1 uid=$2 home=/srv/bench/home/$1 workspace=/srv/bench/workspaces/$1
useradd --key UID_MIN=$((uid + 1)) --key UID_MAX=$((uid + 1)) --key GID_MIN=$uid --key GID_MAX=$uid \
  --key PASS_MAX_DAYS=-1 --key PASS_MIN_DAYS=-1 --key PASS_WARN_AGE=-1 --key MAIL_DIR=/nonexistent \
  --groups codesmith-logins --inactive -1 --expiredate 1 --password '!*' --uid $uid --user-group --no-create-home \
  --no-log-init --home-dir /srv/codesmith/empty --shell /usr/sbin/nologin --comment 'Bench user' -- "$login"
install -d -m 0700 -o "$login" -g "$login" "$home" "$home/.ssh"
install -d -m 0700 -o "$login" -g "$login" "$workspace" "$workspace/code" "$workspace/config" "$workspace/data" \
  "$workspace/logs" "$workspace/tmp"
"""
# What the agent and the helper sync for one workspace, beside what useradd syncs: counted with strace.
FILE_SYNCS, FOLDER_SYNCS = 11, 13
COPY = "while :; do dd if=/dev/zero of=$1/copy bs=1M count=2048 conv=fsync status=none; done"
# The copy has filled the disk's queue by then.
COPY_BEGUN_S = 3


def sync_as_the_agent():
    """Write and sync as many small pieces and folders."""
    with open(BASE + "/journal", "ab") as file:
        for _ in range(FILE_SYNCS):
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
    for _ in range(FOLDER_SYNCS):
        descriptor = os.open(BASE + "/workspaces", os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(descriptor)
        os.close(descriptor)


def by_agent(agent, number):
    """Return the seconds that the agent takes to create a workspace; delete it again."""
    name = f"turn{number}"
    begun = time.perf_counter()
    agent.call("workspace.create", name=name)
    took = time.perf_counter() - begun
    agent.call("workspace.delete", name=name)
    return took


def by_tools(number, is_busy):
    """Return the seconds that the bare tools take for the same, if busy with the same syncs; remove it again."""
    login = f"bench-turn{number}"
    begun = time.perf_counter()
    subprocess.run(["/bin/sh", "-c", TOOLS, "sh", login, str(50000 + number)], check=True)
    if is_busy:
        sync_as_the_agent()
    took = time.perf_counter() - begun
    subprocess.run(["userdel", "--", login], check=True)
    subprocess.run(["rm", "-rf", BASE + "/home/" + login, BASE + "/workspaces/" + login], check=True)
    return took


def main():
    """Time both in turns, after two turns to warm up."""
    subprocess.run(["install", "-d", "-m", "0711", BASE, BASE + "/home", BASE + "/workspaces"], check=True)
    agent, found, is_busy = Client(), {"agent": [], "tools": []}, sys.argv[2:] == ["busy"]
    # In a group of its own, so that dd ends with its shell.
    copy = subprocess.Popen(["/bin/sh", "-c", COPY, "sh", BASE], start_new_session=True) if is_busy else None
    try:
        time.sleep(COPY_BEGUN_S if is_busy else 0)
        for number in range(int(sys.argv[1]) + 2):
            made = {"agent": by_agent(agent, number), "tools": by_tools(number, is_busy)}
            if number > 1:  # two turns to warm up
                for side, took in made.items():
                    found[side].append(took)
    finally:
        if copy:
            os.killpg(copy.pid, signal.SIGKILL)
            copy.wait()
    subprocess.run(["rm", "-rf", BASE], check=True)
    print(json.dumps(found))


main()
