"""Workspaces with a network by name: how they are made, what they reach, and what they were denied."""

from __future__ import annotations

from typing import Any

from tests.agent.on_node.forge import make
from tests.agent.on_node.web1 import Web1

CURL = "curl --silent --show-error --insecure --max-time 20 --output /dev/null --write-out '%{http_code}' "


def put(web1: Web1, name: str, *allow: str, deny: tuple[str, ...] = ()) -> Any:
    """Make a workspace with an allow-list."""
    make(web1, name)
    return web1.client.sandbox.create(workspace=name, network={"allow": list(allow), "deny": list(deny)})


def said(web1: Web1, name: str, script: str) -> str:
    """Return what a script in a workspace says, both outputs."""
    done = web1.client.workspace.exec(name=name, argv=["bash", "-c", f"({script}) 2>&1"], timeout_s=60.0)
    return str(done.stdout).strip()


def code(web1: Web1, name: str, url: str, *words: str) -> str:
    """Return the status that curl gets for a URL in a workspace; 000 for none."""
    return said(web1, name, f"{CURL}{' '.join(words)} {url}")[-3:]


def await_denied(web1: Web1, name: str, *hosts: str) -> Any:
    """Return the sandbox of a workspace when these are the last hosts that were denied, the last one first.

    The proxy writes them down within half a second.
    """

    def get() -> Any:
        return web1.client.sandbox.get(workspace=name)

    web1.person.wait_until(lambda: tuple(one.host for one in get().denied)[: len(hosts)] == hosts, within_s=20)
    return get()


def moded(web1: Web1, mode: str, name: str) -> str:
    """Make a workspace with this mode of network."""
    make(web1, f"{name}-{mode}")
    network: Any = {"allow": ["example.org"]} if mode == "list" else mode
    web1.client.sandbox.create(workspace=f"{name}-{mode}", network=network)
    return f"{name}-{mode}"
