"""Add nodes to nodes.yaml, remove them, and pin their host keys."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from codesmith import paths
from codesmith.cli import output, people
from codesmith.cli.confirmation import confirm_loss
from codesmith.cli.hints import completed
from codesmith.cli.progress import Progress
from codesmith.errors import Cancelled, CodeSmithError
from codesmith.fleet import parallel, report
from codesmith.fleet.report import Row
from codesmith.fleet.selection import Chosen
from codesmith.nodes.registry import Node, Registry

if TYPE_CHECKING:
    from codesmith.ssh.trust import Trusted


def add(file: str, name: str, settings: Mapping[str, Any], tags: list[str], labels: list[str]) -> Row:
    """Add a node to nodes.yaml and return it as the file now has it."""
    from codesmith.cli import arguments
    from codesmith.nodes import writer

    path = paths.nodes_file(file)
    given = {**settings, "tags": tuple(tags), "labels": arguments.parse_pairs(labels, "--label")}
    writer.add(path, name, {key: value for key, value in given.items() if value not in (None, ())})
    return _written(Registry.load(path).get(name))


def remove(file: str, name: str, *, yes: bool) -> Row:
    """Close a node's endpoint and remove its entry from nodes.yaml; the node itself does not change.

    Unless `yes`, say what is lost and what stays, and ask first.
    """
    from codesmith.nodes import reader, writer
    from codesmith.tunnel import control, identity

    path = paths.nodes_file(file)
    node = Registry.load(path).get(name)
    written = reader.read(path)
    writer.ensure_own(written, name)
    if not yes:
        _confirm(node, writer.lines_of(written, name), file)
    control.disconnect(node)
    identity.forget(node)
    _forget_carrier(node)
    was_default = writer.remove(path, name)
    return {"name": name, "removed": True, "was_default": was_default, "file": str(path)}


def _confirm(node: Node, lines: list[str], file: str) -> None:
    """Say what removing a node's entry loses, and what goes on at the node; and ask."""
    from codesmith.fleet.endpoints import forward_word, status

    (state,) = status([node])
    losses = [f"its lines in {node.registry}:", *(f"  {line}" for line in lines)]
    if state["state"] != "stopped":
        losses.append(f"its endpoint here, which is {state['state']}")
    losses += [f"a forward in the background: {forward_word(one)}" for one in state["forwards"]]
    stays = f"{node.name} itself does not change: its agent and its workspaces stay; to remove them first: "
    output.say(completed(f"{stays}inv node.uninstall --node {node.name}", file=file))
    confirm_loss(f"the entry of {node.name}", losses)


def trust(node: Node, *, yes: bool) -> Row:
    """Pin the host key that a node shows, after the operator has confirmed it on the terminal or with `yes`."""
    from codesmith.ssh.trust import trust as pin

    return _trusted(pin(node, yes=yes, confirm=output.confirm))


def trust_all(chosen: Chosen, *, yes: bool) -> list[Row]:
    """Pin the host keys that nodes show, after the operator has confirmed all that are new; show a row for each.

    A node that shows no key, or another one than the pinned, fails alone.
    """
    from codesmith.ssh.trust import look

    outcomes = report.watched(chosen, look, Progress(len(chosen.nodes), "fetch the host key"))
    parallel.raise_only(outcomes)
    new = [one.result for one in outcomes if one.result and not one.result.is_pinned]
    for shown in new:
        output.say(shown.text)
    if new and not yes and not output.confirm(f"trust {people.count(len(new), 'new key')}?"):
        names = ", ".join(shown.node.name for shown in new)
        again = " ".join(f"--node {shlex.quote(shown.node.name)}" for shown in new)
        hint = f"compare the fingerprints, then: inv node.trust {again} --yes"
        raise Cancelled(f"no key was trusted of {names}", hint=hint)
    pinned: list[parallel.Outcome[Row]] = [
        parallel.Outcome(one.node, _trusted(one.result.pin()) if one.result else None, one.error) for one in outcomes
    ]
    rows = parallel.results(pinned, _failed)
    output.show(rows, ("node", "host", "type", "fingerprint", "added", "error"), json=chosen.json)
    parallel.raise_failures(pinned)
    return rows


def _failed(node: Node, error: CodeSmithError) -> Row:
    return {"node": node.name, "error": error.problem, "kind": error.kind}


def _trusted(pinned: Trusted) -> Row:
    return {
        "node": pinned.node,
        "host": pinned.host,
        "type": pinned.type,
        "fingerprint": pinned.fingerprint,
        "file": str(pinned.file),
        "added": pinned.added,
    }


def _forget_carrier(node: Node) -> None:
    """Forget that OpenSSH is tried first; nothing is remembered of a way that the ssh configuration does not give."""
    from codesmith.ssh import connect
    from codesmith.ssh.target import resolve

    with contextlib.suppress(CodeSmithError):
        connect.forget(resolve(node))


def _written(node: Node) -> Row:
    row = node.to_dict()
    return {key: value for key, value in row.items() if value not in (None, [], {})}
