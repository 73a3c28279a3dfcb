"""What the helper tells a supervisor on its standard input: login, directories and limits of a workspace."""

from __future__ import annotations

import json
import os
from typing import Dict, NamedTuple, Optional

from agent.shared.paths import JOB_PATH
from agent.supervisor import variables


class Settings(NamedTuple):
    """One workspace as its supervisor knows it. With `for_clone` it takes git requests alone."""

    workspace: str
    login: str
    home: str
    path: str
    shell: str
    proxies: Dict[str, str]
    runtime_s: Optional[float]
    idle_stop_s: float
    for_clone: bool
    release: str = ""
    # The mode of its network: full, none, list, or open for a clone. The helper reads it.
    network: str = ""
    # How often a stream is asked whether its client is there, and when one that never answers has gone.
    ping_s: float = 15.0
    silence_s: float = 120.0
    # How long an ended job waits for the front end to learn of it.
    unseen_s: float = 3600.0

    @property
    def state(self) -> str:
        """The directory of jobs, of the socket inside and its program: the login's."""
        return f"{self.home}/.local/state/codesmith"

    @property
    def programs(self) -> str:
        """The directory of `codesmith-job`."""
        return f"{self.state}/bin"

    def environment(self) -> Dict[str, str]:
        """Return the environment of everything that runs in the workspace, with the variables that it sets itself."""
        return {
            "PATH": f"{JOB_PATH}:{self.programs}",
            "HOME": self.home,
            "USER": self.login,
            "LOGNAME": self.login,
            "SHELL": self.shell,
            "LANG": "C.UTF-8",
            "CODESMITH_WORKSPACE": self.workspace,
            "CODESMITH_DIRECTORY": self.path,
            **self.proxies,
            **variables.read(self.path),
        }


def read(descriptor: int) -> Settings:
    """Return the settings in a file of the helper's."""
    with open(os.dup(descriptor), "rb") as file:
        return Settings(**json.load(file))
