"""Which credential a clone gets: what was given, or the operator's own ssh agent for the length of the call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from codesmith.errors import BadArgument

if TYPE_CHECKING:
    from codesmith.sdk.client import Client


@contextmanager
def credential_for(
    client: Client, url: str | None, given: Mapping[str, str] | None, *, forward_agent: bool
) -> Iterator[Mapping[str, str] | None]:
    """Yield the credential of a clone of `url`; with `forward_agent` the agent that `ssh` would ask for that host."""
    if url is None or not forward_agent:
        yield given
        return
    if given is not None:
        raise BadArgument("--forward-agent and --credential-file are two ways: give one of them")
    with client.forward_agent(url, agent_for(url)) as credential:
        yield credential


def agent_for(url: str) -> str | None:
    """Return the socket that ssh_config names for the URL's host (IdentityAgent); None for the usual one."""
    from urllib.parse import urlsplit

    from codesmith.ssh.target import Target, resolve_host

    split = urlsplit(url if url.startswith(("ssh://", "https://")) else "ssh://" + url.replace(":", "/", 1))
    host, user = split.hostname or "", split.username or ""
    return resolve_host(Target(name=host, host=host, user=user)).identity_agent
