"""The result of a check: a stable code, a status, a detail, and the next command."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from codesmith.errors import CodeSmithError

OK, WARN, FAIL = "ok", "warn", "fail"
CONTROLLER = "controller"

# Programs and search engines rely on codes: add new ones, never rename one. README.md says what to do about each.
CODES = {
    "agent.answers": "The agent answers a call on its socket, made as the login that SSH uses.",
    "agent.drift": "The installation is as prepare would make it now.",
    "agent.health": "The agent's own checks (node.health).",
    "agent.installed": "The agent is installed.",
    "agent.node-id": "The node has the id that it had when this name was used before.",
    "agent.units": "The agent's systemd units are active, and start at boot.",
    "agent.version": "The agent is the one that this CodeSmith installs.",
    "controller.ssh": "OpenSSH's client is installed here; CodeSmith reads the ssh configuration with it.",
    "controller.ssh-agent": "The ssh agent that SSH_AUTH_SOCK names answers.",
    "controller.versions": "Python and the libraries here are ones that CodeSmith works with.",
    "disk.srv": "Free space in /srv, for workspaces and homes.",
    "disk.usr": "Free space in /usr, for releases of the agent.",
    "disk.var": "Free space in /var, for the agent's state and its audit record.",
    "endpoint.state": "The node's local socket, if there is one.",
    "forwarder.log": "The forwarder's log has no errors.",
    "forwarder.process": "The forwarder answers, or none runs.",
    "forwarder.version": "The running forwarder has this version.",
    "node.accounts": "The accounts of users and workspaces are as CodeSmith made them: closed, or open for sshd alone.",
    "node.clock": "The node's clock agrees with the one here.",
    "node.door": "The node's sshd leads people who have only a key into their workspaces, and nowhere else.",
    "node.look": "The probe of the node completed and could read everything.",
    "node.needs": "The node has what commands, workspaces, clones and sandboxes need.",
    "node.root": "The login can become root without a password; otherwise part of the node is not checked.",
    "node.system": "The node has what prepare needs: systemd, Python, a package manager, free space.",
    "node.uids": "There are free uids for new users, and no uid of a user belongs to anyone else.",
    "registry.file": "nodes.yaml can be read.",
    "registry.known-hosts": "Nobody else can write the pinned host keys beside nodes.yaml.",
    "runtime.directory": "Only you can use the directory of the local sockets.",
    "runtime.sockets": "Every local socket has a process behind it.",
    "ssh.carrier": "Which program holds the connection: fabric, or openssh (the ssh of this machine).",
    "ssh.config": "nodes.yaml and the ssh configuration say how to reach the node.",
    "ssh.host-key": "The node shows the host key that is pinned.",
    "ssh.identity": "The private key that nodes.yaml names exists, and only you can read it.",
    "ssh.login": "sshd accepts the login.",
    "ssh.reach": "The node's sshd can be reached.",
    "ssh.shell": "The login's shell runs a script.",
    "state.directory": "Only you can use the directory of CodeSmith's local state.",
}


@dataclass(frozen=True)
class Finding:
    """One row of `node.doctor`. `next`, the next command, is empty exactly if the status is ok."""

    node: str
    code: str
    status: str
    detail: str
    next: str = ""

    def __post_init__(self) -> None:
        if self.code not in CODES or self.status not in (OK, WARN, FAIL) or (self.status == OK) == bool(self.next):
            raise ValueError(f"not a finding: {self}")

    def to_dict(self) -> dict[str, Any]:
        """Return it as a dictionary for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Reporter:
    """Makes the findings about one node, or about the controller."""

    node: str = CONTROLLER

    def ok(self, code: str, detail: str) -> Finding:
        """Return a finding: nothing is to be done."""
        return Finding(self.node, code, OK, detail)

    def warn(self, code: str, detail: str, next: str) -> Finding:  # noqa: A002
        """Return a finding: it works, but not as it should."""
        return Finding(self.node, code, WARN, detail, next)

    def fail(self, code: str, detail: str, next: str) -> Finding:  # noqa: A002
        """Return a finding: it does not work."""
        return Finding(self.node, code, FAIL, detail, next)

    def error(self, code: str, error: CodeSmithError, next: str) -> Finding:  # noqa: A002
        """Return a failed finding with the text and hint of an error; `next` if it has no hint."""
        return self.fail(code, error.problem, error.hint or next)


def is_failing(findings: Iterable[dict[str, Any]]) -> bool:
    """Tell whether a check failed; warnings do not count."""
    return any(finding["status"] == FAIL for finding in findings)
