"""What a workspace may reach: a file of root's, read again when it was replaced."""

from __future__ import annotations

import json
import os
from typing import Callable, NamedTuple, Optional, Tuple

from agent.egress.refused import NOT_ALLOWED, Refused
from agent.shared.addresses import forms, is_never_reached, is_private
from agent.shared.host_lists import DEFAULT_PORTS, Address, Host, HostList

FILE = "policy.json"
SIZE_MAX = 256 * 1024
LIST, OPEN = "list", "open"


class Policy(NamedTuple):
    """One reading of the file. Without `hosts` it was missing or damaged, and refuses everything."""

    workspace: str = ""
    mode: str = LIST
    hosts: Optional[HostList] = None
    hint: str = ""

    def check_host(self, host: Host, port: int) -> None:
        """Raise Denied for a host that may not even be looked up."""
        if self.hosts is None:
            raise Refused(403, "the network policy of this workspace cannot be read", reply=NOT_ALLOWED)
        if self.hosts.denies(host, port):
            raise Denied(f"{shown(host, port)} is denied in workspace {self.workspace}", host, port)
        if self.mode != OPEN and not self.hosts.allows(host, port):
            raise Denied(
                f"{shown(host, port)} is not allowed in workspace {self.workspace}", host, port, self._hint(host, port)
            )

    def check_address(self, host: Host, address: Address, port: int) -> None:
        """Raise Denied for an address, of a host that `check_host` has let pass, that may not be dialled."""
        assert self.hosts is not None
        if any(self.hosts.denies(form, port) for form in forms(address)):
            raise Denied(f"{address} is denied in workspace {self.workspace}", address, port)
        if self.mode != OPEN and is_private(address) and not self.hosts.allows(address, port):
            problem = f"{shown(host, port)} is at the private address {address}, which has to be listed by itself"
            raise Denied(problem, address, port, self._hint(address, port))

    def opens(self, host: Host, address: Address, port: int) -> bool:
        """Return whether the operator's clones reach this wherever it is: the node's administrator has listed it."""
        is_listed = self.hosts is not None and (self.hosts.allows(host, port) or self.hosts.allows(address, port))
        return self.mode == OPEN and is_listed

    def _hint(self, host: Host, port: int) -> str:
        return self.hint.replace("{host}", shown(host, port))


class Denied(Refused):
    """The policy does not allow it. `host` and `port` are what an operator would allow."""

    def __init__(self, problem: str, host: Host, port: int, hint: str = "") -> None:
        super().__init__(403, problem, hint=hint, reply=NOT_ALLOWED)
        self.host, self.port = host, port


class PolicyFile:
    """The policy as it is on disk now."""

    def __init__(self, folder: str, is_never: Callable[[Address], bool] = is_never_reached) -> None:
        """Tests say which addresses are never reached: their servers are on loopback."""
        self.is_never = is_never
        self._path = os.path.join(folder, FILE)
        self._seen: Optional[Tuple[int, int, int]] = None
        self._policy = Policy()

    def current(self) -> Policy:
        """Return the policy; the file is read only when it is another than the last time."""
        try:
            status = os.stat(self._path)
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                self._policy, self._seen = _read(self._path), seen
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            self._policy, self._seen = Policy(), None
        return self._policy

    def check(self, host: Host, port: int, address: Optional[Address] = None) -> None:
        """Raise Denied if the policy, as it is now, does not allow a host, or one of its addresses."""
        policy = self.current()
        if policy.hosts is not None and not isinstance(host, str):
            # First: of what is never reached nobody is told how it would be allowed.
            self._check_never(policy, host, host, port)
        policy.check_host(host, port)
        if address is not None:
            self._check_never(policy, host, address, port)
            policy.check_address(host, address, port)

    def _check_never(self, policy: Policy, host: Host, address: Address, port: int) -> None:
        try:
            if policy.opens(host, address, port) or not self.is_never(address):
                return
        except OSError as error:
            raise Refused(503, f"it is not known which addresses are the node's own: {error.strerror}") from None
        raise Denied(f"{shown(host, port)} is an address that no workspace reaches ({address})", host, port)


def shown(host: Host, port: int) -> str:
    """Return a host as an entry of a list that allows it."""
    if port in DEFAULT_PORTS:
        return str(host)
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def _read(path: str) -> Policy:
    """Return what the file says; what is not exactly a policy is an error."""
    with open(path, encoding="utf-8") as file:
        known = json.loads(file.read(SIZE_MAX))
    mode, workspace, hint = known["mode"], known["workspace"], known["hint"]
    if mode not in (LIST, OPEN) or not all(isinstance(known[key], list) for key in ("allow", "deny")):
        raise ValueError("no policy")
    if not all(isinstance(text, str) and text.isprintable() for text in (workspace, hint)):
        raise ValueError("no policy")
    return Policy(workspace, mode, HostList(known["allow"], known["deny"]), hint)
