"""What a prepared node has: every path, account, unit and package, said once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codesmith.bootstrap.pack import Payload

CODE = "/usr/lib/codesmith"
RELEASES = f"{CODE}/releases"
CURRENT = f"{CODE}/current"
# The release that answered before the current one; and, while a switch is under way, the one to go back to.
PREVIOUS = f"{CODE}/previous"
FALLBACK = f"{CODE}/fallback"
CONFIG = "/etc/codesmith"
LEDGER = f"{CONFIG}/ledger.json"
NODE = f"{CONFIG}/node.json"
# The ranges of uids for users: that for new ones first.
UIDS = f"{CONFIG}/uids.json"
# CONFIG on its way out, with the ledger in it: the last thing that an uninstall removes.
LEAVING = f"{CONFIG}.leaving"
UNIT_DIR = "/etc/systemd/system"
SOCKET = "/run/codesmith/agent.sock"
HELPER_SOCKET_FILE = "/run/codesmith-helper/helper.sock"
LOCK = "/run/codesmith-prepare.lock"
LOG = "/var/log/codesmith"
STATE = "/var/lib/codesmith"
HELPER_STATE = "/var/lib/codesmith-helper"
HOMES = "/srv/codesmith/home"
# What agent and helper remember, and the name of its format in `agent.pyz version`.
HELPER_LEDGER = f"{HELPER_STATE}/ledger.db"
STORES = {f"{STATE}/state.db": "state", HELPER_LEDGER: "helper"}

USER = "codesmith"
CLIENTS = "codesmith-clients"
NOLOGIN = "/usr/sbin/nologin"

AGENT_SOCKET = "codesmith-agent.socket"
AGENT_SERVICE = "codesmith-agent.service"
HELPER_SOCKET = "codesmith-helper.socket"
HELPER_SERVICE = "codesmith-helper.service"
UNITS = (AGENT_SOCKET, AGENT_SERVICE, HELPER_SOCKET, HELPER_SERVICE)
# Each leads into the current release: agent and units change in one step, also when the power fails.
UNIT_LINKS = {f"{UNIT_DIR}/{name}": f"{CURRENT}/units/{name}" for name in UNITS}
# The helper's service has no [Install]: its socket starts it.
ENABLED = (AGENT_SOCKET, HELPER_SOCKET, AGENT_SERVICE)

# In the order in which one needs the other; the last answers with its check().
LOOKS = ("agent.shared.paths", "agent.shared.pam", "agent.shared.sshd", "agent.shared.needs")
PYTHON_MIN = (3, 9)
SYSTEMD_MIN = 247
ARCHITECTURES = ("x86_64", "aarch64", "loongarch64", "ppc64le", "riscv64", "s390x")
MIB = 1 << 20
# /etc and CODE are looked at for themselves: they may be file systems of their own.
FREE_MIN = {"/usr": 16 * MIB, "/srv": 16 * MIB, "/var": 16 * MIB, "/etc": 1 * MIB, CODE: 4 * MIB}
FOR_PACKAGES = ("/usr", "/var")
FREE_FOR_PACKAGES = 200 * MIB
SPACES = tuple(FREE_MIN)

# How each package manager installs, and how it learns what there is, if that was not enough. No "--" before the names,
# which are ours: dnf 5 takes it for one of them.
INSTALL: Mapping[str, tuple[str, ...]] = {
    "apt-get": (
        "apt-get", "--quiet", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120", "install",
    ),
    "dnf": ("dnf", "--assumeyes", "--setopt=install_weak_deps=False", "install"),
    "zypper": ("zypper", "--non-interactive", "install", "--no-recommends"),
    "pacman": ("pacman", "--sync", "--noconfirm", "--needed"),
}  # fmt: skip
REFRESH: Mapping[str, tuple[str, ...]] = {
    "apt-get": ("apt-get", "--quiet", "update"),
    "dnf": ("dnf", "--assumeyes", "makecache"),
    "zypper": ("zypper", "--non-interactive", "refresh"),
    "pacman": ("pacman", "--sync", "--refresh"),
}
MANAGERS = tuple(INSTALL)
SHADOW = {"apt-get": "passwd", "dnf": "shadow-utils", "zypper": "shadow", "pacman": "shadow"}
# A command the node needs, and the package that brings it; one name where all managers agree.
COMMANDS: Mapping[str, str | Mapping[str, str]] = {"git": "git", "gpasswd": SHADOW, "useradd": SHADOW}
# What else the agent's list of needs names as missing.
PACKAGES: Mapping[str, str | Mapping[str, str]] = {
    "dbus": {"apt-get": "dbus", "dnf": "dbus-broker", "zypper": "dbus-broker", "pacman": "dbus-broker"},
    "git": "git",
    "shadow": SHADOW,
    "ssh": {
        "apt-get": "openssh-client", "dnf": "openssh-clients", "zypper": "openssh-clients", "pacman": "openssh",
    },
    "util-linux": "util-linux",
}  # fmt: skip
# What must run once it is installed: not every package starts it.
STARTED = {"dbus": "dbus.socket"}
PYTHON_PACKAGE: Mapping[str, str] = {"apt-get": "python3", "dnf": "python3", "zypper": "python3", "pacman": "python"}


@dataclass(frozen=True)
class Owned:
    """A path that prepare makes and keeps as it is here."""

    path: str
    mode: int
    owner: str = "root"
    group: str = "root"


# It may be a link of root's to a directory elsewhere.
BASE = "/srv/codesmith"
DIRECTORIES = (
    Owned(CONFIG, 0o755),
    Owned(CODE, 0o755),
    Owned(RELEASES, 0o755),
    Owned(BASE, 0o755),
    Owned("/srv/codesmith/workspaces", 0o711),
    Owned(HOMES, 0o711),
    Owned("/srv/codesmith/.staging", 0o700),
    Owned("/srv/codesmith/.trash", 0o700),
    Owned(STATE, 0o700, USER, USER),
    Owned(LOG, 0o700, USER, USER),
    Owned(HELPER_STATE, 0o700),
)

# What systemd makes for the socket units; a socket that lost its group is made again.
SOCKETS = {
    AGENT_SOCKET: Owned(SOCKET, 0o660, "root", CLIENTS),
    HELPER_SOCKET: Owned(HELPER_SOCKET_FILE, 0o660, "root", USER),
}


@dataclass(frozen=True)
class Desired:
    """What one prepare wants of a node: this agent, these units, this id if the node has none yet."""

    sha256: str
    version: str
    units: Mapping[str, str]
    new_node_id: str
    # Packages that this prepare has put there already, because the rest could not be planned without them.
    installed: tuple[str, ...] = ()
    # Modules of the agent that look whether a node has what workspaces need: name and text.
    looks: tuple[tuple[str, str], ...] = ()

    @property
    def release(self) -> str:
        """Return the folder of this release: an agent and its units. Releases lie side by side."""
        digest = hashlib.sha256(self.sha256.encode())
        for name, text in sorted(self.units.items()):
            digest.update(f"\0{name}\0{text}".encode())
        return f"{RELEASES}/{digest.hexdigest()[:12]}"

    @property
    def agent(self) -> str:
        """Return where this build lies."""
        return agent_of(self.release)

    @property
    def unit_digests(self) -> dict[str, str]:
        """Return the sha256 of each unit file by its path in the release."""
        return {
            unit_of(self.release, name): hashlib.sha256(text.encode()).hexdigest() for name, text in self.units.items()
        }

    @property
    def release_directories(self) -> tuple[Owned, ...]:
        """Return the directories that this release is made of."""
        return (Owned(self.release, 0o755), Owned(f"{self.release}/units", 0o755))

    @property
    def paths(self) -> list[str]:
        """Return every path that the probe has to look at."""
        owned = [entry.path for entry in (*DIRECTORIES, *SOCKETS.values(), *self.release_directories)]
        releases = [LEAVING, CURRENT, PREVIOUS, FALLBACK, agent_of(PREVIOUS), agent_of(FALLBACK)]
        return [*owned, NODE, UIDS, LEDGER, self.agent, *self.unit_digests, *releases, *UNIT_LINKS]


def agent_of(release: str) -> str:
    """Return where the agent of a release lies."""
    return f"{release}/agent.pyz"


def unit_of(release: str, name: str) -> str:
    """Return where a unit file of a release lies."""
    return f"{release}/units/{name}"


def desired_for(payload: Payload, new_node_id: str) -> Desired:
    """Return what this version of CodeSmith wants of every node."""
    folder = Path(__file__).with_name("units")
    units = {name: (folder / name).read_text(encoding="utf-8") for name in UNITS}
    looks = tuple((name, payload.module(name)) for name in LOOKS)
    return Desired(payload.sha256, payload.version, units, new_node_id, looks=looks)
