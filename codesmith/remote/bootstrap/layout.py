"""What a prepared node has: every path, account, unit and package, said once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codesmith.remote.pack import Payload

CODE = "/usr/lib/codesmith"
RELEASES = f"{CODE}/releases"
CURRENT = f"{CODE}/current"
CONFIG = "/etc/codesmith"
LEDGER = f"{CONFIG}/ledger.json"
NODE = f"{CONFIG}/node.json"
UNIT_DIR = "/etc/systemd/system"
SOCKET = "/run/codesmith/agent.sock"
STATE = "/var/lib/codesmith"

USER = "codesmith"
CLIENTS = "codesmith-clients"
NOLOGIN = "/usr/sbin/nologin"

AGENT_SOCKET = "codesmith-agent.socket"
AGENT_SERVICE = "codesmith-agent.service"
HELPER_SOCKET = "codesmith-helper.socket"
HELPER_SERVICE = "codesmith-helper.service"
UNITS = (AGENT_SOCKET, AGENT_SERVICE, HELPER_SOCKET, HELPER_SERVICE)
# The helper's service has no [Install]: its socket starts it.
ENABLED = (AGENT_SOCKET, HELPER_SOCKET, AGENT_SERVICE)

PYTHON_MIN = (3, 9)
SYSTEMD_MIN = 247
ARCHITECTURES = ("x86_64", "aarch64", "loongarch64", "ppc64le", "riscv64", "s390x")
MIB = 1 << 20
FREE_MIN = {"/usr": 16 * MIB, "/srv": 16 * MIB, "/var": 16 * MIB}
FREE_FOR_PACKAGES = 200 * MIB
SPACES = (*FREE_MIN, CODE)

MANAGERS = ("apt-get", "dnf", "zypper", "pacman")
SHADOW = {"apt-get": "passwd", "dnf": "shadow-utils", "zypper": "shadow", "pacman": "shadow"}
# A command the node needs, and the package that brings it; one name where all managers agree.
COMMANDS: Mapping[str, str | Mapping[str, str]] = {"git": "git", "gpasswd": SHADOW, "useradd": SHADOW}
PYTHON_PACKAGE: Mapping[str, str] = {"apt-get": "python3", "dnf": "python3", "zypper": "python3", "pacman": "python"}


@dataclass(frozen=True)
class Owned:
    """A path that prepare makes and keeps as it is here."""

    path: str
    mode: int
    owner: str = "root"
    group: str = "root"


DIRECTORIES = (
    Owned(CONFIG, 0o755),
    Owned(CODE, 0o755),
    Owned(RELEASES, 0o755),
    Owned("/srv/codesmith", 0o755),
    Owned("/srv/codesmith/workspaces", 0o711),
    Owned("/srv/codesmith/home", 0o711),
    Owned("/srv/codesmith/.staging", 0o700),
    Owned("/srv/codesmith/.trash", 0o700),
    Owned(STATE, 0o700, USER, USER),
    Owned("/var/log/codesmith", 0o700, USER, USER),
    Owned("/var/lib/codesmith-helper", 0o700),
)

# What systemd makes for the socket units; a socket that lost its group is made again.
SOCKETS = {
    AGENT_SOCKET: Owned(SOCKET, 0o660, "root", CLIENTS),
    HELPER_SOCKET: Owned("/run/codesmith-helper/helper.sock", 0o660, "root", USER),
}


@dataclass(frozen=True)
class Wish:
    """What one prepare wants of a node: this agent, these units, this id if the node has none yet."""

    sha256: str
    version: str
    units: Mapping[str, str]
    new_node_id: str
    # Packages that this prepare has put there already, because the rest could not be planned without them.
    installed: tuple[str, ...] = ()

    @property
    def release(self) -> str:
        """Return the folder of this build; releases lie side by side."""
        return f"{RELEASES}/{self.sha256[:12]}"

    @property
    def agent(self) -> str:
        """Return where this build lies."""
        return f"{self.release}/agent.pyz"

    @property
    def paths(self) -> list[str]:
        """Return every path that the probe has to look at."""
        units = [f"{UNIT_DIR}/{name}" for name in UNITS]
        owned = [entry.path for entry in (*DIRECTORIES, *SOCKETS.values())]
        return [*owned, NODE, LEDGER, self.release, self.agent, CURRENT, *units]


def wish_for(payload: Payload, new_node_id: str) -> Wish:
    """Return what this version of CodeSmith wants of every node."""
    folder = Path(__file__).with_name("units")
    units = {name: (folder / name).read_text(encoding="utf-8") for name in UNITS}
    return Wish(payload.sha256, payload.version, units, new_node_id)
