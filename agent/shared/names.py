"""The grammar of names, and the paths and logins that follow from them. Nothing here touches the system.

It is stricter than useradd, which accepts `..` and `a/b` on Debian 12. Front end and helper both use it: the helper
checks again everything that the front end sends.
"""

from __future__ import annotations

import re

from agent.shared import paths
from agent.shared.errors import InvalidParams

NAME = r"[a-z0-9]([a-z0-9-]{0,26}[a-z0-9])?"
# Compiled here: the helper forks for each call, and what it compiles then is lost.
_NAME = re.compile(NAME)
NAME_HINT = "1 to 28 of a-z, 0-9 and inner hyphens"
LOGIN_PREFIX = "cs-"
# A second name of the login inside a runtime: an ssh configuration for all workspaces can name only one user.
WORKSPACE_USER = "workspace"
BASE = paths.BASE
HOMES = f"{BASE}/home"
# The home of all logins in the account databases: empty, and root's. So no file of a login means anything to the node.
NO_HOME = f"{BASE}/empty"
WORKSPACES = f"{BASE}/workspaces"
# What a new workspace has in its directory.
FOLDERS = ("code", "config", "data", "logs", "tmp")
STAGING = f"{BASE}/.staging"
TRASH = f"{BASE}/.trash"
# The public keys of users, by login, as the node's sshd reads them; a file by uid for each login that systemd sees.
KEYS = f"{BASE}/keys"
LOGINS = f"{BASE}/logins"
CLIENTS_GROUP = "codesmith-clients"
# Who comes in through the node's sshd is in this group, and has this shell, which leads into a workspace.
LOGINS_GROUP = "codesmith-logins"
ENTER = "/usr/lib/codesmith/enter"
# Whether prepare has found that the node's sshd treats these logins as it must.
DOOR_FILE = "/etc/codesmith/door.json"
AGENT_LOGIN = "codesmith"
AGENT_SOCKET = "/run/codesmith/agent.sock"
# Sockets of the runtimes, and what each starts with.
RUNTIMES = "/run/codesmith/workspaces"
# Their terminals.
PTYS = "/run/codesmith/pts"
HELPER_SOCKET = "/run/codesmith-helper/helper.sock"


def parse_name(value: object, field: str = "name") -> str:
    """Return `value` if it is a Name; InvalidParams otherwise."""
    if not is_name(value):
        raise InvalidParams.of(field, f"must be {NAME_HINT}")
    return str(value)


def is_name(value: object) -> bool:
    """Return whether a value can be the name of a user or workspace."""
    # fullmatch: "$" would also accept a final newline. The explicit ranges accept only ASCII.
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def login_of(name: str) -> str:
    """Return the Unix account of a user or workspace: cs-NAME."""
    return LOGIN_PREFIX + name


def home_of(workspace: str) -> str:
    """Return the home directory of a workspace's login, as what runs in the workspace sees it."""
    return f"{HOMES}/{login_of(workspace)}"


def unit_of(workspace: str, kind: str) -> str:
    """Return the socket or service unit of a workspace's runtime."""
    return f"codesmith-workspace@{workspace}.{kind}"


def path_of(workspace: str) -> str:
    """Return the directory of a workspace."""
    return f"{WORKSPACES}/{workspace}"
