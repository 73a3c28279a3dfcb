"""The nodes a person has written down in nodes.yaml, and which of them a command means."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codesmith import paths
from codesmith.errors import CodeSmithError, UnknownName, UnknownNode


@dataclass(frozen=True)
class Node:
    """One entry of nodes.yaml. `lab` nodes have no host here: the lab knows their address."""

    name: str
    registry: Path
    host: str | None = None
    user: str | None = None
    port: int | None = None
    identity: str | None = None
    tags: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    endpoint: str = "unix"
    lab: str | None = None
    ssh: str | None = None

    @property
    def key(self) -> str:
        """Name the local socket: any change to how the node is reached gives another one."""
        name = [self.name, str(self.registry)]
        fields = [*name, self.host, self.user, self.port, self.identity, self.lab, self.endpoint]
        fields += [self.ssh] if self.ssh else []
        return hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:16]

    @property
    def place(self) -> str:
        """Return what lists show of where it is: its host, or that the lab knows."""
        return self.host or f"lab:{self.lab}"

    @property
    def known_hosts(self) -> Path:
        """Pinned host keys lie beside nodes.yaml."""
        return self.registry.parent / "known_hosts"

    @property
    def identity_path(self) -> Path | None:
        """Return the private key's path, `~` expanded; a relative one counts from nodes.yaml's folder."""
        return self.registry.parent / paths.expanded(self.identity) if self.identity else None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can carry it."""
        return {**asdict(self), "registry": str(self.registry), "tags": list(self.tags), "labels": dict(self.labels)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Node:
        """Return the node that `to_dict` wrote."""
        return cls(
            **{
                **data,
                "registry": Path(data["registry"]),
                "tags": tuple(data["tags"]),
                "labels": tuple(sorted(data["labels"].items())),
            }
        )


@dataclass(frozen=True)
class Registry:
    """nodes.yaml as read: the nodes in its order."""

    path: Path
    nodes: dict[str, Node]
    default: str | None = None

    @classmethod
    def load(cls, path: Path | None = None) -> Registry:
        """Read `path`, else the file that paths.nodes_file finds; BadRegistry says what is wrong and where."""
        from codesmith.nodes import reader

        found = reader.read((path or paths.nodes_file()).absolute())
        return cls.of(found)

    @classmethod
    def of(cls, found: Any) -> Registry:
        """Return the registry that a NodesFile describes."""
        nodes = {name: _node(name, found.path, section.values) for name, section in found.sections.items()}
        return cls(found.path, nodes, found.default)

    def get(self, name: str) -> Node:
        """Return one node; UnknownNode names those there are."""
        if name in self.nodes:
            return self.nodes[name]
        raise UnknownNode.named(name, _nearest(name, list(self.nodes)), str(self.path))

    def one(self, name: str = "") -> Node:
        """Return `name`, else CODESMITH_NODE, else `default:`, else the only node."""
        wanted = name or paths.variable("CODESMITH_NODE") or self.default
        if wanted:
            return self.get(wanted)
        if len(self.nodes) == 1:
            return next(iter(self.nodes.values()))
        if not self.nodes:
            raise CodeSmithError(f"no nodes in {self.path}", hint=f"inv node.add NAME --host HOST --file {self.path}")
        some = ", ".join(_nearest("", list(self.nodes)))
        hint = f"name one: --node {next(iter(self.nodes))}"
        raise CodeSmithError(f"which node? {self.path} has {len(self.nodes)}: {some}", hint=hint)

    def choose(self, names: Iterable[str] = (), tags: Iterable[str] = (), all: bool = False) -> list[Node]:  # noqa: A002
        """Return the nodes named, those with any of the tags, or all; without a choice what `one` returns.

        A registry without nodes is an error, also for all of them.
        """
        names, tags = list(names), list(tags)
        if all and self.nodes:
            return list(self.nodes.values())
        if not names and not tags:
            return [self.one()]
        chosen = {name: self.get(name) for name in names}
        for tag in tags:
            chosen.update(self._tagged(tag))
        return list(chosen.values())

    def _tagged(self, tag: str) -> dict[str, Node]:
        found = {node.name: node for node in self.nodes.values() if tag in node.tags}
        if not found:
            known = sorted({tag for node in self.nodes.values() for tag in node.tags})
            problem = f"no node in {self.path} has the tag {tag!r} (tags there: {', '.join(known) or 'none'})"
            raise UnknownName(problem, hint="inv node.list")
        return found


def _node(name: str, path: Path, values: dict[str, Any]) -> Node:
    labels = tuple(sorted(values.get("labels", {}).items()))
    return Node(name=name, registry=path, **{**values, "labels": labels})


def _nearest(name: str, known: list[str], most: int = 8) -> list[str]:
    """Return at most a handful of names, the likely ones first: a registry may have hundreds."""
    if len(known) <= most:
        return known
    import difflib

    close = difflib.get_close_matches(name, known, most - 2)
    others = [other for other in known if other not in close][: most - len(close)]
    return [*close, *others, f"and {len(known) - most} more"]
