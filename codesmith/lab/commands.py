"""The work of the tasks `inv lab.*`: choose nodes from nodes.yaml, boot, list and remove them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from codesmith.cli import output
from codesmith.errors import Cancelled, CodeSmithError
from codesmith.lab import images, qemu, requirements, teardown, vm
from codesmith.lab.lab import Lab, check_name, find_nodes
from codesmith.lab.node import LabNode
from codesmith.lab.processes import rss_kib
from codesmith.nodes.registry import Node, Registry

Row = dict[str, Any]


def choose(registry: Registry, names: Sequence[str], release: str = "", bridge: str = "") -> list[Node]:
    """Return the chosen lab nodes: those named, or all of nodes.yaml that have `lab:`.

    Only with a release may a name be missing from nodes.yaml: otherwise each typing error would boot a new node.
    """
    if names and release:
        return [Node(check_name(name), registry.path, lab=release, bridge=bridge or None) for name in names]
    nodes = [registry.get(name) for name in names] or [node for node in registry.nodes.values() if node.lab]
    if not nodes:
        hint = f"inv lab.up --node NAME --release {images.RELEASES[0]}"
        raise CodeSmithError(f"no node in {registry.path} has `lab:`", hint=hint)
    for node in nodes:
        if not node.lab:
            problem = f"node {node.name!r} in {registry.path} is no lab node: it has no `lab:`"
            raise CodeSmithError(problem, hint="inv lab.status")
    return [replace(node, lab=release or node.lab, bridge=bridge or node.bridge) for node in nodes]


def booter(nodes: Sequence[Node]) -> Callable[[Node], Row]:
    """Return a function that boots one node and keeps it; the images are built before that."""
    requirements.check()
    for release in sorted({node.lab for node in nodes if node.lab}):
        if qemu.is_vm(release):
            vm.ensure_image(release)
        else:
            images.ensure(release)
    lab = Lab(keep=True)

    def boot(node: Node) -> Row:
        began = time.monotonic()
        booted = lab.up(node.name, node.lab or images.RELEASES[0], bridge=node.bridge or "")
        output.say(f"{node.name}  {time.monotonic() - began:6.2f} s  Debian {booted.release} is up")
        return row(booted)

    return boot


def choose_for_removal(registry: Registry, names: Sequence[str]) -> list[Node]:
    """Return the nodes to remove: those named, or all lab nodes of nodes.yaml. An existing node need not be in it.

    A name that is found nowhere is returned without a release; `remover` raises its error, and the others are removed.
    """
    found = {node.name: Node(node.name, registry.path, lab=node.release) for node in find_nodes()}
    known = {**registry.nodes, **found}
    return [known.get(name) or Node(name, registry.path) for name in names] or choose(registry, [])


def choose_all(registry: Registry, *, yes: bool) -> list[Node]:
    """Return every node that `lab.up` booted; Cancelled unless the person at the terminal agrees.

    It asks because all people on this machine share the lab. Nodes of tests are left alone.
    """
    kept = [Node(node.name, registry.path, lab=node.release) for node in find_nodes() if node.record.owner is None]
    named = ", ".join(node.name for node in kept)
    if kept and not yes and not output.confirm(f"throw away {named}?"):
        chosen = " ".join(f"--node {node.name}" for node in kept)
        raise Cancelled(f"nothing was thrown away; there are {named}", hint=f"inv lab.down {chosen}")
    return kept


def remover(registry: Registry) -> Callable[[Node], Row]:
    """Return a function that removes one node."""

    def remove(node: Node) -> Row:
        (chosen,) = [node] if node.lab else choose(registry, [node.name])
        return {"name": chosen.name, "result": "removed" if Lab().down(chosen.name) else "was not there"}

    return remove


def status() -> list[Row]:
    """Return a row for each existing node, whoever booted it."""
    requirements.check()
    teardown.reap()
    return [row(node) for node in find_nodes()]


def row(node: LabNode) -> Row:
    """Return the row of a node in `lab.status`."""
    owner = node.record.owner
    return {
        "name": node.name,
        "release": node.release,
        "state": node.state,
        "host": node.address.host,
        "bridge": node.record.bridge or None,
        "bridge_host": node.bridge_host or None,
        "memory_kib": sum(map(rss_kib, node.pids())),
        "owner_pid": owner.pid if owner else None,
        "ssh": f"ssh -F {node.ssh_config} {node.name}",
        "console": str(node.console),
    }
