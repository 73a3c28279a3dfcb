"""What a prepared node has: the one list of its paths, accounts, units and packages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from codesmith.bootstrap import door_files
from codesmith.bootstrap.door_files import DoorFile
from codesmith.bootstrap.pack import Payload
from codesmith.bootstrap.zipapp import parse_format

CODE = "/usr/lib/codesmith"
RELEASES = f"{CODE}/releases"
CURRENT = f"{CODE}/current"
# The release that answered before the current one, and the one to roll back to while a switch is under way.
PREVIOUS = f"{CODE}/previous"
FALLBACK = f"{CODE}/fallback"
CONFIG = "/etc/codesmith"
LEDGER = f"{CONFIG}/ledger.json"
NODE = f"{CONFIG}/node.json"
# The ranges of uids for users, the one for new users first.
UIDS = f"{CONFIG}/uids.json"
# CONFIG renamed, with the ledger in it: the last directory that an uninstall removes.
LEAVING = f"{CONFIG}.leaving"
UNIT_DIR = "/etc/systemd/system"
SOCKET = "/run/codesmith/agent.sock"
HELPER_SOCKET_FILE = "/run/codesmith-helper/helper.sock"
LOCK = "/run/codesmith-prepare.lock"
LOG = "/var/log/codesmith"
STATE = "/var/lib/codesmith"
HELPER_STATE = "/var/lib/codesmith-helper"
# The home of all logins of users and workspaces in the account databases.
NO_HOME = "/srv/codesmith/empty"
# The databases of agent and helper, and the name of each one's format in `agent.pyz version`.
HELPER_LEDGER = f"{HELPER_STATE}/ledger.db"
STORES = {f"{STATE}/state.db": "state", HELPER_LEDGER: "helper"}
# The modules of the agent that tell these formats.
FORMAT_MODULES = {"state": "agent.frontend.store_file", "helper": "agent.helper.ledger.ledger"}

USER = "codesmith"
CLIENTS = "codesmith-clients"
# The logins that sshd lets in by key, into their workspaces.
LOGINS = "codesmith-logins"
GROUPS = (USER, CLIENTS, LOGINS)
NOLOGIN = "/usr/sbin/nologin"

AGENT_SOCKET = "codesmith-agent.socket"
DOOR_SOCKET = "codesmith-door.socket"
SCOPED_SOCKET = "codesmith-scoped.socket"
AGENT_SERVICE = "codesmith-agent.service"
HELPER_SOCKET = "codesmith-helper.socket"
HELPER_SERVICE = "codesmith-helper.service"
UNITS = (AGENT_SOCKET, DOOR_SOCKET, SCOPED_SOCKET, AGENT_SERVICE, HELPER_SOCKET, HELPER_SERVICE)
# Each leads through `current`, so that agent and units change in one step even if the power fails.
UNIT_LINKS = {f"{UNIT_DIR}/{name}": f"{CURRENT}/units/{name}" for name in UNITS}
# The helper's service has no [Install]: its socket starts it.
ENABLED = (AGENT_SOCKET, DOOR_SOCKET, SCOPED_SOCKET, HELPER_SOCKET, AGENT_SERVICE)

# Modules of the agent that check what workspaces need, in order of import; the last has check().
NEED_MODULES = ("agent.shared.paths", "agent.shared.needs")
PYTHON_MIN = (3, 9)
SYSTEMD_MIN = 247
ARCHITECTURES = ("x86_64", "aarch64", "loongarch64", "ppc64le", "riscv64", "s390x")
MIB = 1 << 20
# /etc and CODE are listed separately because they may be file systems of their own.
FREE_MIN_BYTES = {"/usr": 16 * MIB, "/srv": 16 * MIB, "/var": 16 * MIB, "/etc": 1 * MIB, CODE: 8 * MIB}
FOR_PACKAGES = ("/usr", "/var")
FREE_FOR_PACKAGES_BYTES = 200 * MIB
SPACES = tuple(FREE_MIN_BYTES)

# How each package manager installs, and how it refreshes its lists if that failed. No "--" before the names: dnf 5
# takes it for a package, and the names are fixed here.
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
# The package of each command that prepare needs; a plain string if it has the same name everywhere.
COMMANDS: Mapping[str, str | Mapping[str, str]] = {"git": "git", "gpasswd": SHADOW, "useradd": SHADOW}
# Packages by the names that the agent's list of needs uses.
PACKAGES: Mapping[str, str | Mapping[str, str]] = {
    "dbus": {"apt-get": "dbus", "dnf": "dbus-broker", "zypper": "dbus-broker", "pacman": "dbus-broker"},
    "git": "git",
    "shadow": SHADOW,
    "ssh": {
        "apt-get": "openssh-client", "dnf": "openssh-clients", "zypper": "openssh-clients", "pacman": "openssh",
    },
    "util-linux": "util-linux",
}  # fmt: skip
# Units to start after installing: not every distribution's package starts them.
STARTED = {"dbus": "dbus.socket"}
PYTHON_PACKAGE: Mapping[str, str] = {"apt-get": "python3", "dnf": "python3", "zypper": "python3", "pacman": "python"}


@dataclass(frozen=True)
class Owned:
    """A path that prepare makes and keeps with this mode, owner and group."""

    path: str
    mode: int
    owner: str = "root"
    group: str = "root"


# It may be a symbolic link of root's to a directory on another disk.
BASE = "/srv/codesmith"
# The helper's: the keys of users by login, and a file for each login by uid.
KEYS_FOLDER = f"{BASE}/keys"
LOGINS_FOLDER = f"{BASE}/logins"
DIRECTORIES = (
    Owned(CONFIG, 0o755),
    Owned(CODE, 0o755),
    Owned(RELEASES, 0o755),
    Owned(door_files.USER_UNIT_FOLDER, 0o755),
    Owned(BASE, 0o755),
    Owned("/srv/codesmith/workspaces", 0o711),
    Owned("/srv/codesmith/home", 0o711),
    Owned(NO_HOME, 0o755),
    Owned(KEYS_FOLDER, 0o711),
    Owned(LOGINS_FOLDER, 0o711),
    Owned("/srv/codesmith/.staging", 0o700),
    Owned("/srv/codesmith/.trash", 0o700),
    Owned(STATE, 0o700, USER, USER),
    Owned(LOG, 0o700, USER, USER),
    Owned(HELPER_STATE, 0o700),
)

# The files that systemd makes for the socket units; a wrong owner or mode means a restart of the unit. The one that
# everybody may reach comes first: node.stop stops them in this order.
SOCKETS = {
    DOOR_SOCKET: Owned("/run/codesmith/door.sock", 0o666),
    AGENT_SOCKET: Owned(SOCKET, 0o660, "root", CLIENTS),
    SCOPED_SOCKET: Owned("/run/codesmith/scoped.sock", 0o660, "root", CLIENTS),
    HELPER_SOCKET: Owned(HELPER_SOCKET_FILE, 0o660, "root", USER),
}


@dataclass(frozen=True)
class Desired:
    """The desired state of a node: this agent, these units, and this id if the node has none yet."""

    sha256: str
    version: str
    units: Mapping[str, str]
    new_node_id: str
    # Packages that this prepare has installed already (Python), because the rest could not be planned without them.
    installed: tuple[str, ...] = ()
    # The modules of NEED_MODULES: name and source text.
    need_modules: tuple[tuple[str, str], ...] = ()
    # The format of each store that this agent makes and understands, by its name in STORES.
    formats: Mapping[str, int] = field(default_factory=dict)
    # Files outside of the releases, by path.
    files: Mapping[str, DoorFile] = field(default_factory=dict)

    @property
    def release(self) -> str:
        """Return the directory of this release, named after the checksum of agent and units."""
        digest = hashlib.sha256(self.sha256.encode())
        for name, text in sorted(self.units.items()):
            digest.update(f"\0{name}\0{text}".encode())
        return f"{RELEASES}/{digest.hexdigest()[:12]}"

    @property
    def agent(self) -> str:
        """Return the path of this release's agent.pyz."""
        return agent_of(self.release)

    @property
    def program(self) -> str:
        """Return the folder where this release's agent.pyz is unpacked."""
        return program_of(self.release)

    @property
    def unit_digests(self) -> dict[str, str]:
        """Return the sha256 of each unit file, by its path in the release."""
        return {
            unit_of(self.release, name): hashlib.sha256(text.encode()).hexdigest() for name, text in self.units.items()
        }

    @property
    def release_directories(self) -> tuple[Owned, ...]:
        """Return the directories of this release."""
        return (Owned(self.release, 0o755), Owned(f"{self.release}/units", 0o755))

    @property
    def paths(self) -> list[str]:
        """Return every path that the probe must read."""
        owned = [entry.path for entry in (*DIRECTORIES, *SOCKETS.values(), *self.release_directories)]
        releases = [LEAVING, CURRENT, PREVIOUS, FALLBACK, agent_of(PREVIOUS), agent_of(FALLBACK)]
        door = [*self.files, door_files.GIT_HOSTS, door_files.STATE, door_files.SSHD_FOLDER, door_files.SSHD_SETTINGS]
        return [*owned, *door, NODE, UIDS, LEDGER, self.agent, self.program, *self.unit_digests, *releases, *UNIT_LINKS]


def agent_of(release: str) -> str:
    """Return the path of a release's agent.pyz."""
    return f"{release}/agent.pyz"


def program_of(release: str) -> str:
    """Return the folder of a release's unpacked and compiled agent, which is what runs."""
    return f"{release}/program"


def unit_of(release: str, name: str) -> str:
    """Return the path of a unit file in a release."""
    return f"{release}/units/{name}"


def desired_for(payload: Payload, new_node_id: str, git_hosts: Sequence[str] = ()) -> Desired:
    """Return the desired state of a node for this version of CodeSmith; it reads the unit files."""
    folder = Path(__file__).with_name("units")
    units = {name: (folder / name).read_text(encoding="utf-8") for name in UNITS}
    need_modules = tuple((name, payload.module(name)) for name in NEED_MODULES)
    formats = {name: parse_format(payload.module(module)) for name, module in FORMAT_MODULES.items()}
    return Desired(
        payload.sha256,
        payload.version,
        units,
        new_node_id,
        need_modules=need_modules,
        formats=formats,
        files=door_files.door_files(git_hosts),
    )
