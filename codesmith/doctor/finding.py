"""What a check found: a stable code, how it is, what was seen, and the next command."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from codesmith.errors import CodeSmithError

OK, WARN, FAIL = "ok", "warn", "fail"
CONTROLLER = "controller"

# Codes are for programs and search engines: they are added to, never renamed. README.md says what to do about each.
CODES = {
    "agent.answers": "The agent answers a call on its socket, made as the login that SSH uses.",
    "agent.drift": "What prepare installed is as prepare would install it now.",
    "agent.health": "The agent's own checks (node.health).",
    "agent.installed": "The agent is installed.",
    "agent.node-id": "The node is the one that this name led to before.",
    "agent.units": "The agent's systemd units are active, and start at boot.",
    "agent.version": "The agent is the one that this CodeSmith installs.",
    "controller.ssh": "OpenSSH's client is installed here, and reads the ssh configuration for us.",
    "controller.ssh-agent": "The ssh agent that SSH_AUTH_SOCK names answers.",
    "controller.versions": "Python and the libraries here are ones that CodeSmith works with.",
    "disk.srv": "Room below /srv: workspaces and homes.",
    "disk.usr": "Room below /usr: releases of the agent.",
    "disk.var": "Room below /var: the agent's state and its audit.",
    "endpoint.state": "The node's local socket, if there is one.",
    "forwarder.log": "The forwarder's log tells of no error.",
    "forwarder.process": "The forwarder answers, or none runs.",
    "forwarder.version": "The forwarder that runs is of this version.",
    "node.accounts": "The accounts of users are as CodeSmith made them: groups, ageing, expiry, shell, access lists.",
    "node.clock": "The node's clock agrees with the one here.",
    "node.look": "The look at the node came to its end, and saw all that it looked at.",
    "node.logins": "sshd would let in logins of workspaces, by the keys that CodeSmith keeps for them.",
    "node.needs": "The node has what commands, workspaces, clones and sandboxes need.",
    "node.root": "The login can become root without a password: otherwise part of the node stays unseen.",
    "node.system": "The node has what prepare needs: systemd, Python, a package manager, room.",
    "node.uids": "There are uids for new users, and those of users are nobody else's.",
    "registry.file": "nodes.yaml can be read.",
    "registry.known-hosts": "Nobody else can write the pinned host keys beside nodes.yaml.",
    "runtime.directory": "The directory of the local sockets is yours alone.",
    "runtime.sockets": "Every local socket has a process behind it.",
    "ssh.carrier": "Which program holds the connection: fabric, or openssh (the ssh of this machine).",
    "ssh.config": "nodes.yaml and the ssh configuration say how the node is reached.",
    "ssh.host-key": "The node shows the host key that is pinned.",
    "ssh.identity": "The private key that nodes.yaml names is there, and only yours to read.",
    "ssh.login": "sshd lets the login in.",
    "ssh.reach": "There is a way to the node's sshd.",
    "ssh.shell": "The login's shell runs a script.",
    "state.directory": "The directory of CodeSmith's state here is yours alone.",
}


@dataclass(frozen=True)
class Finding:
    """One row of `node.doctor`; `next` is there whenever something is to be done."""

    node: str
    code: str
    status: str
    detail: str
    next: str = ""

    def __post_init__(self) -> None:
        if self.code not in CODES or self.status not in (OK, WARN, FAIL) or (self.status == OK) == bool(self.next):
            raise ValueError(f"not a finding: {self}")

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can carry it."""
        return asdict(self)


@dataclass(frozen=True)
class Reporter:
    """Makes the findings about one node, or about the controller."""

    node: str = CONTROLLER

    def ok(self, code: str, detail: str) -> Finding:
        """Nothing is to be done."""
        return Finding(self.node, code, OK, detail)

    def warn(self, code: str, detail: str, next: str) -> Finding:  # noqa: A002
        """It works, but not as it should."""
        return Finding(self.node, code, WARN, detail, next)

    def fail(self, code: str, detail: str, next: str) -> Finding:  # noqa: A002
        """It does not work."""
        return Finding(self.node, code, FAIL, detail, next)

    def error(self, code: str, error: CodeSmithError, next: str) -> Finding:  # noqa: A002
        """Say what an error says; `next` where it has no hint."""
        return self.fail(code, error.problem, error.hint or next)


def is_failing(findings: Iterable[dict[str, Any]]) -> bool:
    """Tell whether something does not work; a warning is none of it."""
    return any(finding["status"] == FAIL for finding in findings)
