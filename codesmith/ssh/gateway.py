"""The gateway in front of a node: the host that ProxyJump names, resolved like a node. Light: no paramiko."""

from __future__ import annotations

from dataclasses import replace

from codesmith.errors import CodeSmithError
from codesmith.ssh.target import Target, resolve_host, split_port

MAX_JUMPS = 8


def gateway_of(target: Target) -> Target | None:
    """Return the last gateway before `target`, None if there is none; it may have gateways itself.

    Its own keys come first: the node's keys could use up its MaxAuthTries. The node's keys follow, for a gateway that
    the ssh configuration does not mention.
    """
    if not target.proxy_jump:
        return None
    *before, last = target.proxy_jump.split(",")
    user, _, address = last.strip().removeprefix("ssh://").rpartition("@")
    host, port = split_port(address)
    wanted = Target(f"{target.name} via {host}", host, port, user, jumps=target.jumps + 1)
    if wanted.jumps > MAX_JUMPS:
        raise CodeSmithError(
            f"node {target.name}: more than {MAX_JUMPS} ProxyJump hosts in a row: do they lead in a circle?",
            hint=f"look: ssh -G {host} | grep -i proxyjump; for a host that needs none: ProxyJump none",
        )
    gateway = resolve_host(wanted, first_known_hosts=target.known_hosts[:1])
    if not gateway.identities_only:
        gateway = replace(gateway, identities=tuple(dict.fromkeys([*gateway.identities, *target.identities])))
    return replace(gateway, proxy_jump=",".join(before)) if before else gateway
