"""Prepare a node, create a workspace, run commands in it, delete it: `python examples/first_workspace.py NODE`."""

from __future__ import annotations

import sys

from invoke.context import Context

import codesmith
from codesmith.tasks import node


def main(name: str) -> None:
    """Run the example on one node of nodes.yaml."""
    node.prepare(Context(), node=[name])  # "nothing to do" if the node is prepared already
    with codesmith.connect(name) as client:
        demo = client.workspace.create(name="example", labels={"from": "examples"})
        print(f"{demo.path} belongs to {demo.login}")
        try:
            client.workspace.exec(name="example", argv=["git", "init", "--quiet", "code/hello"])
            done = client.workspace.exec(name="example", argv=["ls", "-A", "code/hello"])
            print(done.stdout, end="")
        finally:
            client.workspace.delete(name="example")


if __name__ == "__main__":
    main(*sys.argv[1:])
