"""The files of the door of people who have only a key: settings of sshd, the program behind it, and git hosts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).with_name("sshd")
ENTER = "/usr/lib/codesmith/enter"
SSHD_FOLDER = "/etc/ssh/sshd_config.d"
SSHD_SETTINGS = f"{SSHD_FOLDER}/40-codesmith.conf"
USER_UNIT_FOLDER = "/etc/systemd/system/user@.service.d"
USER_UNIT = f"{USER_UNIT_FOLDER}/40-codesmith.conf"
# Hosts that git in workspaces may reach although they are on addresses of the node; one a line.
GIT_HOSTS = "/etc/codesmith/git_hosts"
# Whether the comparison with `sshd -T` found what it must.
STATE = "/etc/codesmith/door.json"
# Allowed in a Match block of every sshd from 8.4 on. AcceptEnv here replaces the list of the node.
SETTINGS = (
    f"ForceCommand {ENTER}",
    "AuthorizedKeysFile /srv/codesmith/keys/%u",
    "AuthorizedKeysCommand none",
    "AuthorizedPrincipalsCommand none",
    "AuthorizedPrincipalsFile none",
    "TrustedUserCAKeys none",
    "AuthenticationMethods publickey",
    "PubkeyAuthentication yes",
    "PasswordAuthentication no",
    "KbdInteractiveAuthentication no",
    "HostbasedAuthentication no",
    "DisableForwarding yes",
    "AllowAgentForwarding no",
    "AllowTcpForwarding no",
    "AllowStreamLocalForwarding no",
    "GatewayPorts no",
    "PermitTunnel no",
    "X11Forwarding no",
    "PermitTTY yes",
    "PermitUserRC no",
    "ChrootDirectory none",
    "AcceptEnv LANG LC_*",
)


@dataclass(frozen=True)
class DoorFile:
    """A file that prepare writes, root's."""

    path: str
    text: str
    mode: int = 0o644

    @property
    def sha256(self) -> str:
        """Return the checksum of its text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def door_files(git_hosts: Sequence[str] = ()) -> Mapping[str, DoorFile]:
    """Return the files by path; that of git hosts only where there are some."""
    block = "".join(f"    {line}\n" for line in SETTINGS)
    sshd = _read("40-codesmith.conf").replace("{SETTINGS}\n", block)
    enter = Path(__file__).with_name("on_node").joinpath("enter.py").read_text(encoding="utf-8")
    files = [
        DoorFile(ENTER, enter, 0o755),
        DoorFile(SSHD_SETTINGS, sshd),
        DoorFile(USER_UNIT, _read("user@.service.conf")),
    ]
    if git_hosts:
        files.append(DoorFile(GIT_HOSTS, "".join(f"{host}\n" for host in git_hosts)))
    return {file.path: file for file in files}


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
