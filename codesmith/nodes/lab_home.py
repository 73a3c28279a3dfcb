"""Where lab nodes are on this machine: the lab makes them there, and leaves an ssh_config for who connects to one.

Light: the supervisor of each lab node imports it.
"""

from __future__ import annotations

import os
from pathlib import Path

STATE = Path("/var/lib/codesmith-lab")


def lab_home() -> Path:
    """Return the folder of the nodes: CODESMITH_LAB_HOME, else /var/lib/codesmith-lab."""
    named = os.environ.get("CODESMITH_LAB_HOME", str(STATE))
    if not named.strip():
        from codesmith import paths  # which imports Invoke: the supervisor of each node stays light

        paths.variable("CODESMITH_LAB_HOME")
    return Path(named).absolute()


def node_dir(name: str) -> Path:
    """Return the folder of one node, whether it exists or not."""
    return lab_home() / "nodes" / name


def ssh_config_of(name: str) -> Path:
    """Return the ssh configuration that leads to a node; it is there while the node is switched on."""
    return node_dir(name) / "ssh_config"
