"""The command line of ssh: the operator's configuration says how a node is reached; who we are, which host keys count
and what runs is ours to say.

The first value that ssh finds for an option counts, so an option here is out of the configuration's reach.
"""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codesmith.ssh import hostkeys
from codesmith.ssh.deadline import Deadline
from codesmith.ssh.options import is_there
from codesmith.ssh.target import Target

# An idle master, whose owner was killed, ends after so many seconds.
ORPHAN_S = 5
# Together the limits of heartbeat.py: 4 s of silence, and 8 s more without an answer.
ALIVE_S, ALIVE_COUNT = 4, 2

OURS = {
    # What runs, and as whom: nothing but channels that we ask for.
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "PermitLocalCommand": "no",
    "EscapeChar": "none",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "Tunnel": "no",
    "ClearAllForwardings": "yes",
    "AddKeysToAgent": "no",
    # Host keys: pins alone vouch for a node, and none is added.
    "StrictHostKeyChecking": "yes",
    "GlobalKnownHostsFile": "/dev/null",
    "UpdateHostKeys": "no",
    "VerifyHostKeyDNS": "no",
    "NoHostAuthenticationForLocalhost": "no",
    "CheckHostIP": "no",
    "VisualHostKey": "no",
    "FingerprintHash": "sha256",
    # One attempt: a wrong password is one failed login in the node's log.
    "ConnectionAttempts": "1",
    "NumberOfPasswordPrompts": "1",
    "ServerAliveInterval": str(ALIVE_S),
    "ServerAliveCountMax": str(ALIVE_COUNT),
}
# Options that an older ssh does not know, nor its configuration.
SINCE = {
    "KnownHostsCommand": ("none", (8, 5)),
    "ForkAfterAuthentication": ("no", (8, 7)),
    "StdinNull": ("no", (8, 7)),
}
KEY_TYPES = (
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256",
)  # fmt: skip
MASTER = {"ControlMaster": "yes", "ControlPersist": str(ORPHAN_S), "LogLevel": "DEBUG1"}
# One connection, for nobody else.
SINGLE = {"ControlMaster": "no", "ControlPath": "none", "LogLevel": "INFO"}


@dataclass(frozen=True)
class Way:
    """A node and the gateways before it, the last first; of each the known_hosts file and the program that ssh asks.

    Everything that ssh says goes to `log`; everything on the way has `deadline`.
    """

    places: Sequence[Target]
    known_hosts: Sequence[Path]
    askpass: Sequence[Path]
    log: Path
    deadline: Deadline

    def master(self, control: Path) -> list[str]:
        """Return the command that logs in to the node and goes into the background, with a control socket."""
        options = [*_options(MASTER), "-S", str(control).replace("%", "%%"), "-N"]
        return [*self._ssh(), *options, *_destination(self.places[0])]

    def host_key(self) -> list[str]:
        """Return the command that writes the node's host key into its known_hosts file, and logs in nowhere."""
        own = {"StrictHostKeyChecking": "accept-new", "HashKnownHosts": "no", "PreferredAuthentications": "none"}
        pins = hostkeys.pins(self.places[0])
        pinned = [one for one in hostkeys.wire_types(hostkeys.pinned_types(pins)) if one in KEY_TYPES]
        if pinned:  # one that is pinned must not be missed for another
            own["HostKeyAlgorithms"] = f"^{','.join(pinned)}"
        return ["ssh", *_options({**own, **SINGLE}), *self._ssh()[1:], "-N", *_destination(self.places[0])]

    def _ssh(self) -> list[str]:
        """Return what every ssh on the way has, and how it goes through its gateways."""
        place = self.places[0]
        options = {
            **OURS,
            **{name: value for name, (value, since) in SINCE.items() if version() >= since},
            "UserKnownHostsFile": _quoted(self.known_hosts[0]),
            "HostKeyAlias": known_as(place),
            "BatchMode": _yes(place.is_batch),
            "PasswordAuthentication": _yes("password" in place.passwords),
            "KbdInteractiveAuthentication": _yes("keyboard-interactive" in place.passwords),
            "ConnectTimeout": str(max(round(self.deadline.left_s()), 1)),
        }
        command = ["ssh", "-E", str(self.log), *([] if place.alias else ["-F", "none"]), *_options(options)]
        for identity in filter(is_there, place.identities):  # ssh would name each that is not
            command += _options({"IdentityFile": _quoted(identity)})
        if not place.alias:  # there is no configuration that says so
            command += _options(_own_way(place))
        if place.identities_only:
            command += _options({"IdentitiesOnly": "yes"})
        if len(self.places) > 1:
            through = Way(self.places[1:], self.known_hosts[1:], self.askpass[1:], self.log, self.deadline)
            command += _options({"ProxyUseFdpass": "no", "ProxyCommand": through._as_proxy_command()})
        return command

    def _as_proxy_command(self) -> str:
        """Return the ProxyCommand through this place: a ProxyJump would not check its host key as we do."""
        asking = ["env", f"SSH_ASKPASS={self.askpass[0]}"]
        command = shlex.join([*asking, *self._ssh(), *_options(SINGLE)]).replace("%", "%%")
        return f"{command} -W '[%h]:%p' {shlex.join(_destination(self.places[0])).replace('%', '%%')}"


def _own_way(place: Target) -> dict[str, str]:
    way = {"IdentityAgent": place.identity_agent, "ProxyCommand": place.proxy_command}
    return {name: value.replace("%", "%%") for name, value in way.items() if value}


def _destination(place: Target) -> list[str]:
    return ["-l", place.user, "-p", str(place.port), "--", place.alias or place.host]


def known_as(place: Target) -> str:
    """Return the name under which ssh looks for the place's host key, and which a host certificate must have."""
    return (place.host_key_alias or place.host).lower()


def _options(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _quoted(path: Path | str) -> str:
    return '"' + str(path).replace("%", "%%") + '"'


@functools.cache
def version() -> tuple[int, int]:
    """Return the version of the ssh that is installed; (0, 0) if it does not say."""
    said = subprocess.run(["ssh", "-V"], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", said.stderr + said.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)
