"""The credential of a clone, pull, push or fetch: what the operator gave, or their ssh agent."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from codesmith.cli import arguments
from codesmith.cli.arguments import CloneOptions, ExchangeOptions
from codesmith.errors import BadArgument
from codesmith.fleet.one_node import OneNode

if TYPE_CHECKING:
    from codesmith.sdk.client import Client


class CloneTask(CloneOptions, OneNode, total=False):
    """The options of a task that clones a repository into a workspace."""


class ExchangeTask(ExchangeOptions, OneNode, total=False):
    """The options of a task that pulls, pushes or fetches a repository of a workspace."""


@contextmanager
def credential_for(
    client: Client, url: str | None, given: Mapping[str, str] | None, *, forward_agent: bool
) -> Iterator[Mapping[str, str] | None]:
    """Yield the credential for `url`; with `forward_agent`, that of the agent that `ssh` uses for its host.

    Agent forwarding ends with the block.
    """
    if url is None or not forward_agent:
        yield given
        return
    if given is not None:
        raise BadArgument("--forward-agent and --credential-file exclude each other: give one of them")
    with client.forward_agent(url, agent_for(url)) as credential:
        yield credential


@contextmanager
def exchange_with(client: Client, workspace: str, name: str, how: ExchangeTask) -> Iterator[dict[str, Any]]:
    """Yield the parameters of a pull, push or fetch; the credential is for the URL that was cloned."""
    url = client.repo.get(workspace=workspace, name=name).url
    params = arguments.read_exchange(url, how)
    given = params.pop("credential", None)
    with credential_for(client, url, given, forward_agent=how.get("forward_agent", False)) as credential:
        yield {"workspace": workspace, "name": name, "credential": credential, **params}


def options_of(how: CloneTask) -> str:
    """Return the options with which the credential of a clone is given again; host keys are kept in the workspace."""
    if how.get("forward_agent"):
        return "--forward-agent"
    given = {"--credential-file": how.get("credential_file"), "--username": how.get("username")}
    return " ".join(f"{option} {shlex.quote(value)}" for option, value in given.items() if value)


def agent_for(url: str) -> str | None:
    """Return the agent's socket that ssh_config names for the URL's host (IdentityAgent); None for SSH_AUTH_SOCK."""
    from urllib.parse import urlsplit

    from codesmith.ssh.target import Target, resolve_host

    split = urlsplit(url if url.startswith(("ssh://", "https://")) else "ssh://" + url.replace(":", "/", 1))
    host, user = split.hostname or "", split.username or ""
    return resolve_host(Target(name=host, host=host, user=user)).identity_agent
