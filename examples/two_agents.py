"""Two AI agents side by side on one node, each with a token of its own: `python examples/two_agents.py NODE`.

An agent gets the address of a socket and the file with its token, and nothing else: no nodes.yaml, no ssh key. Here a
thread stands for each; in earnest it is a container that has both mounted.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from invoke.context import Context

import codesmith
from codesmith.errors import AgentRefused
from codesmith.tasks import token

AGENTS = {
    "docs-bot": {"limits": {"memory_bytes": 256 << 20, "tasks": 100}, "network": "none"},
    "fix-bot": {"limits": {"memory_bytes": 512 << 20}, "network": "full"},
}


def work(name: str, other: str, access: dict[str, Any]) -> str:
    """Do what an agent does: write, run, look around; return what it found."""
    with codesmith.connect(url=access["endpoint"], token_file=access["token_file"]) as node:
        node.file.write(workspace=name, path="data/draft.md", data=f"# by {name}\n")
        look = "id -un; cat data/draft.md; ls /srv/codesmith/workspaces"
        ran = node.workspace.exec(name=name, argv=["sh", "-c", look])
        try:
            node.workspace.exec(name=other, argv=["true"])
        except AgentRefused as refusal:
            return f"{ran.stdout}the other one: {refusal.problem}"
    return f"{ran.stdout}the other one: entered, which must not be"


def main(node: str) -> None:
    """Make both workspaces, let both agents work at once, and take everything away."""
    with codesmith.connect(node) as client:
        for name, sandbox in AGENTS.items():
            client.workspace.create(name=name)
            client.sandbox.create(workspace=name, **sandbox)
        try:
            access = [
                token.create(Context(), name, expires="1h", label=name, endpoint=True, node=node) for name in AGENTS
            ]
            with ThreadPoolExecutor() as pool:
                found = pool.map(work, AGENTS, reversed(AGENTS), access)
                print("\n".join(found))
        finally:
            for name in AGENTS:
                client.workspace.delete(name=name)  # its tokens end with it


if __name__ == "__main__":
    main(*sys.argv[1:])
