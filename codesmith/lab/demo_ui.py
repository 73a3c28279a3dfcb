"""`make demo-ui`: the admin UI on three throw-away nodes with workspaces, one of them cut off, until Ctrl-C.

Registry, state and sockets are in a temporary folder, as in the other demo.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys

from codesmith.errors import CodeSmithError
from codesmith.lab import Lab
from codesmith.lab.demo import PROGRAM, Show, say, scratch

RELEASES = {"web": "bookworm", "db": "trixie", "far": "bookworm"}
WORKSPACES = (("shop", "team=red"), ("docs-bot", "agent=docs"), ("fix-bot", "agent=fix"))


def main() -> int:
    """Run the demo and return its exit code."""
    mark = secrets.token_hex(2)
    names = {f"{word}-{mark}": release for word, release in RELEASES.items()}
    try:
        with Lab() as lab, scratch() as environment:
            show = Show(environment)
            try:
                _fill(lab, show, names)
                _serve(environment)
            finally:
                show.quietly("node.disconnect", "--all")
                for name in names:
                    lab.down(name)
    except CodeSmithError as error:
        say(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 2
    return 0


def _fill(lab: Lab, show: Show, names: dict[str, str]) -> None:
    """Boot and prepare the nodes, give them workspaces, and cut off the last one."""
    for name, release in names.items():
        with show.step(f"inv lab.up --node {name} --release {release}", "a throw-away node"):
            lab.up(name, release)
        show.run("add it to nodes.yaml", "node.add", name, "--lab", release, "--tag", name.partition("-")[0])
    show.run("install the agent on all of them", "node.prepare", "--all")
    first, _, last = names
    for name in names:
        for workspace, label in WORKSPACES:
            show.run("a workspace", "workspace.create", workspace, "--label", label, "--node", name)
    show.run("limits for one", "sandbox.create", "docs-bot", "--memory", "512M", "--network", "none", "--node", first)
    show.run("a repo in another", "repo.init", "shop", "--name", "app", "--node", first)
    show.run("some work", "workspace.exec", "shop", "--node", first, "--", "sh", "-c", "echo hello > data/hello.txt")
    clock = ("sh", "-c", "while sleep 5; do date; done")
    show.run("a job that goes on", "job.start", "shop", "--node", first, "--name", "clock", "--", *clock)
    with show.step(f"# the network of {last} is cut", "one node cannot be reached"):
        lab.get(last).cut_network()


def _serve(environment: dict[str, str]) -> None:
    """Run `ui.open` until Ctrl-C."""
    say("\n# the admin UI; Ctrl-C ends it and throws all away\n$ inv ui.open\n")
    with subprocess.Popen([*PROGRAM, "ui.open"], env={**os.environ, **environment}) as process:
        # Ctrl-C reaches both: the pages end first, then this.
        with contextlib.suppress(KeyboardInterrupt):
            process.wait()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
