"""pytest-testinfra on lab nodes, without their network and sshd."""

from __future__ import annotations

import shlex
from typing import Any

from testinfra.backend.base import BaseBackend  # type: ignore[import-untyped]
from testinfra.host import Host  # type: ignore[import-untyped]


class NodeBackend(BaseBackend):  # type: ignore[misc]
    """Runs testinfra's commands on the node as root, through nsenter."""

    NAME = "codesmith-lab"

    def __init__(self, node: Any) -> None:
        super().__init__(node.name)
        self.node = node

    def run(self, command: str, *args: str, **_: Any) -> Any:
        """Run one of testinfra's shell commands on the node."""
        argv = self.node.enter_args(["/bin/sh", "-c", self.get_command(command, *args)])
        return self.run_local(shlex.join(argv))


def inspect(node: Any) -> Host:
    """Return a testinfra host for a node."""
    return Host(NodeBackend(node))
