"""The command lines of ssh: the operator's configuration says how a node is reached; CodeSmith sets the rest.

CodeSmith sets who logs in, what runs and which host keys count. ssh uses the first value that it finds for an option,
so the configuration cannot change an option that is set here.
"""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codesmith.ssh import hostkeys
from codesmith.ssh.deadline import Deadline
from codesmith.ssh.options import FIXED, NO_FORWARDINGS, NOT_SHARED, SINCE, is_there
from codesmith.ssh.target import Target

# An idle master whose owner was killed ends after this time.
ORPHAN_S = 5
# Together as long as in heartbeat.py: 4 s of silence, and 8 s more without an answer.
ALIVE_S, ALIVE_COUNT = 4, 2

# Added to options.FIXED for the ssh that holds a connection.
CONNECTION_OPTIONS = {
    # Only the pins of CodeSmith vouch for a node.
    "GlobalKnownHostsFile": "/dev/null",
    "CheckHostIP": "no",
    "FingerprintHash": "sha256",
    # One attempt: a wrong password is one failed login in the node's log.
    "ConnectionAttempts": "1",
    "NumberOfPasswordPrompts": "1",
    "ServerAliveInterval": str(ALIVE_S),
    "ServerAliveCountMax": str(ALIVE_COUNT),
}
KEY_TYPES = (
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256",
)  # fmt: skip
MASTER = {"ControlMaster": "yes", "ControlPersist": str(ORPHAN_S), "LogLevel": "DEBUG1"}
# One connection that is not shared.
SINGLE = {**dict(NOT_SHARED), "LogLevel": "INFO"}


@dataclass(frozen=True)
class SshCommand:
    """The ssh commands for a node and the gateways before it.

    `hops` is the node, then its gateways, the nearest to the node first; for each hop `known_hosts` has its file of
    pins and `askpass` the program that ssh asks. ssh writes to `log`; all hops together have `deadline`.
    """

    hops: Sequence[Target]
    known_hosts: Sequence[Path]
    askpass: Sequence[Path]
    log: Path
    deadline: Deadline

    def master(self, control: Path) -> list[str]:
        """Return the command that logs in to the node and goes into the background with the control socket."""
        options = [*_arguments(MASTER), "-S", str(control).replace("%", "%%"), "-N"]
        return [*self._ssh(), *options, *_destination(self.hops[0])]

    def fetch_host_key(self) -> list[str]:
        """Return the command that writes the node's host key into its known_hosts file, without a login."""
        options = {"StrictHostKeyChecking": "accept-new", "HashKnownHosts": "no", "PreferredAuthentications": "none"}
        pins = hostkeys.pins_for(self.hops[0])
        pinned = [one for one in hostkeys.wire_types(hostkeys.pinned_types(pins)) if one in KEY_TYPES]
        if pinned:  # else the node might present a key of a type that is not pinned
            options["HostKeyAlgorithms"] = f"^{','.join(pinned)}"
        return ["ssh", *_arguments({**options, **SINGLE}), *self._ssh()[1:], "-N", *_destination(self.hops[0])]

    def _ssh(self) -> list[str]:
        """Return the options that every ssh to the first hop has, its gateways included."""
        hop = self.hops[0]
        options = {
            **_fixed_options(),
            **CONNECTION_OPTIONS,
            "UserKnownHostsFile": _quoted(self.known_hosts[0]),
            "HostKeyAlias": host_key_name(hop),
            "BatchMode": _yes_or_no(hop.is_batch),
            "PasswordAuthentication": _yes_or_no("password" in hop.passwords),
            "KbdInteractiveAuthentication": _yes_or_no("keyboard-interactive" in hop.passwords),
            "ConnectTimeout": str(max(round(self.deadline.left_s()), 1)),
        }
        command = ["ssh", "-E", str(self.log), *([] if hop.alias else ["-F", "none"]), *_arguments(options)]
        for identity in filter(is_there, hop.identities):  # ssh would name each that is not
            command += _arguments({"IdentityFile": _quoted(identity)})
        if not hop.alias:  # there is no configuration that says so
            command += _arguments(_agent_and_proxy(hop))
        if hop.identities_only:
            command += _arguments({"IdentitiesOnly": "yes"})
        if len(self.hops) > 1:
            gateway = SshCommand(self.hops[1:], self.known_hosts[1:], self.askpass[1:], self.log, self.deadline)
            command += _arguments({"ProxyUseFdpass": "no", "ProxyCommand": gateway._as_proxy_command()})
        return command

    def _as_proxy_command(self) -> str:
        """Return the ProxyCommand through this hop: a ProxyJump would not check its host key against the pins."""
        environment = ["env", f"SSH_ASKPASS={self.askpass[0]}"]
        command = shlex.join([*environment, *self._ssh(), *_arguments(SINGLE)]).replace("%", "%%")
        return f"{command} -W '[%h]:%p' {shlex.join(_destination(self.hops[0])).replace('%', '%%')}"


def _fixed_options() -> dict[str, str]:
    """Return the options that every ssh gets, without those that the installed ssh does not know."""
    options = dict((*FIXED, NO_FORWARDINGS))
    return {name: value for name, value in options.items() if version() >= SINCE.get(name, (0, 0))}


def _agent_and_proxy(hop: Target) -> dict[str, str]:
    options = {"IdentityAgent": hop.identity_agent, "ProxyCommand": hop.proxy_command}
    return {name: value.replace("%", "%%") for name, value in options.items() if value}


def _destination(hop: Target) -> list[str]:
    return ["-l", hop.user, "-p", str(hop.port), "--", hop.alias or hop.host]


def host_key_name(hop: Target) -> str:
    """Return the name under which ssh looks up the hop's host key; a host certificate must have it, too."""
    return (hop.host_key_alias or hop.host).lower()


def _arguments(options: Mapping[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def _quoted(path: Path | str) -> str:
    return '"' + str(path).replace("%", "%%") + '"'


@functools.cache
def version() -> tuple[int, int]:
    """Return the version of the installed ssh; (0, 0) if it does not say."""
    done = subprocess.run(["ssh", "-V"], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", done.stderr + done.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)
