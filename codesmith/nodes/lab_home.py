"""Where lab nodes live on this machine. The lab creates them there and writes an ssh_config to connect to each.

Imports little, because the supervisor of each lab node imports it.
"""

from __future__ import annotations

import os
from pathlib import Path

STATE = Path("/var/lib/codesmith-lab")


def lab_home() -> Path:
    """Return the folder of all lab nodes: CODESMITH_LAB_HOME, else /var/lib/codesmith-lab."""
    path = os.environ.get("CODESMITH_LAB_HOME", str(STATE))
    if not path.strip():
        from codesmith import paths  # imports Invoke, which the supervisor of a lab node does not need

        paths.variable("CODESMITH_LAB_HOME")
    return Path(path).absolute()


def node_dir(name: str) -> Path:
    """Return the folder of one lab node, whether it exists or not."""
    return lab_home() / "nodes" / name


def ssh_config_of(name: str) -> Path:
    """Return the path of the ssh_config that leads to a lab node; the file exists while the node runs."""
    return node_dir(name) / "ssh_config"
