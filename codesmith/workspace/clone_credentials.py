"""The credential of a clone: what the operator gave, or the operator's ssh agent, forwarded for this one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from codesmith.cli.arguments import CloneOptions
from codesmith.errors import BadArgument
from codesmith.fleet.one_node import OneNode

if TYPE_CHECKING:
    from codesmith.sdk.client import Client


class CloneTask(CloneOptions, OneNode, total=False):
    """The options of a task that clones a repository into a workspace."""


@contextmanager
def credential_for(
    client: Client, url: str | None, given: Mapping[str, str] | None, *, forward_agent: bool
) -> Iterator[Mapping[str, str] | None]:
    """Yield the credential for a clone of `url`; with `forward_agent`, that of the agent that `ssh` uses for its host.

    Agent forwarding ends with the block.
    """
    if url is None or not forward_agent:
        yield given
        return
    if given is not None:
        raise BadArgument("--forward-agent and --credential-file exclude each other: give one of them")
    with client.forward_agent(url, agent_for(url)) as credential:
        yield credential


def agent_for(url: str) -> str | None:
    """Return the agent's socket that ssh_config names for the URL's host (IdentityAgent); None for SSH_AUTH_SOCK."""
    from urllib.parse import urlsplit

    from codesmith.ssh.target import Target, resolve_host

    split = urlsplit(url if url.startswith(("ssh://", "https://")) else "ssh://" + url.replace(":", "/", 1))
    host, user = split.hostname or "", split.username or ""
    return resolve_host(Target(name=host, host=host, user=user)).identity_agent
