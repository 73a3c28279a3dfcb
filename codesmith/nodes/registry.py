"""The nodes of nodes.yaml, and which of them a command means."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesmith import paths
from codesmith.errors import CodeSmithError, UnknownName, UnknownNode

if TYPE_CHECKING:
    from codesmith.nodes.reader import NodesFile


@dataclass(frozen=True)
class Node:
    """One entry of nodes.yaml. A `lab` node has no host here: the lab knows its address."""

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
    # Hosts that clones in its workspaces may reach although they are on the node's own or loopback addresses.
    git_hosts: tuple[str, ...] = ()
    bridge: str | None = None
    # The file that has it: nodes.yaml, or one that it includes.
    source: str = field(default="", compare=False)

    @property
    def key(self) -> str:
        """Return the name of the local socket; it changes with every field that says how the node is reached."""
        identity = [self.name, str(self.registry)]
        fields = [*identity, self.host, self.user, self.port, self.identity, self.lab, self.endpoint]
        fields += [self.ssh] if self.ssh else []
        return hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:16]

    @property
    def place(self) -> str:
        """Return where the node is, as lists show it: its host, or `lab:RELEASE`."""
        return self.host or f"lab:{self.lab}"

    @property
    def known_hosts(self) -> Path:
        """Return the path of the pinned host keys, beside nodes.yaml."""
        return self.registry.parent / "known_hosts"

    @property
    def identity_path(self) -> Path | None:
        """Return the path of the private key, `~` expanded; a relative path starts at nodes.yaml's folder."""
        return self.registry.parent / paths.expanded(self.identity) if self.identity else None

    def to_dict(self) -> dict[str, Any]:
        """Return the node as plain data, ready for JSON."""
        lists = {"tags": list(self.tags), "git_hosts": list(self.git_hosts)}
        known = {**asdict(self), "registry": str(self.registry), **lists, "labels": dict(self.labels)}
        del known["source"]  # a forwarder needs to know how the node is reached
        return known

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Node:
        """Return the node that `to_dict` wrote."""
        return cls(
            **{
                **data,
                "registry": Path(data["registry"]),
                "tags": tuple(data["tags"]),
                "git_hosts": tuple(data.get("git_hosts", ())),
                "labels": tuple(sorted(data["labels"].items())),
            }
        )


@dataclass(frozen=True)
class Registry:
    """nodes.yaml as read, with what it includes: the nodes in the order of the files, and those files."""

    path: Path
    nodes: dict[str, Node]
    default: str | None = None
    files: tuple[Path, ...] = ()

    @classmethod
    def load(cls, path: Path | None = None, *, runs_programs: bool = True) -> Registry:
        """Read `path`, else the file that paths.nodes_file finds; BadRegistry if it has a mistake.

        Without `runs_programs`, of an included program counts what it printed when it ran last.
        """
        from codesmith.nodes import reader

        return cls.of(reader.read((path or paths.nodes_file()).absolute()), runs_programs=runs_programs)

    @classmethod
    def of(cls, file: NodesFile, *, runs_programs: bool = True) -> Registry:
        """Return the registry that a NodesFile describes."""
        if not file.includes:
            nodes = {name: _node(name, file.path, file.path, section.values) for name, section in file.sections.items()}
            return cls(file.path, nodes, file.default, (file.path,))
        from codesmith.nodes import includes

        whole = includes.resolve(file, runs_programs=runs_programs)
        nodes = {name: _node(name, file.path, found.path, found.section.values) for name, found in whole.nodes.items()}
        return cls(file.path, nodes, file.default, tuple(whole.files))

    def get(self, name: str) -> Node:
        """Return the node `name`; UnknownNode lists the known names."""
        if name in self.nodes:
            return self.nodes[name]
        known = list(self.nodes)
        raise UnknownNode.named(name, _likely_first(name, known), str(self.path), likely=_likely(name, known))

    def one(self, name: str = "") -> Node:
        """Return `name`, else CODESMITH_NODE, else `default:`, else the only node."""
        chosen = name or paths.variable("CODESMITH_NODE") or self.default
        if chosen:
            return self.get(chosen)
        if len(self.nodes) == 1:
            return next(iter(self.nodes.values()))
        if not self.nodes:
            raise CodeSmithError(f"no nodes in {self.path}", hint=f"inv node.add NAME --host HOST --file {self.path}")
        some = ", ".join(_likely_first("", list(self.nodes)))
        hint = f"name one: --node {next(iter(self.nodes))}"
        raise CodeSmithError(f"which node? {self.path} has {len(self.nodes)}: {some}", hint=hint)

    def choose(self, names: Iterable[str] = (), tags: Iterable[str] = (), all: bool = False) -> list[Node]:  # noqa: A002
        """Return the named nodes, those with any of the tags, or all; without a choice, what `one` returns.

        A registry without nodes is an error, also with `all`.
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
        tagged = {node.name: node for node in self.nodes.values() if tag in node.tags}
        if not tagged:
            known = sorted({tag for node in self.nodes.values() for tag in node.tags})
            problem = f"no node in {self.path} has the tag {tag!r} (tags there: {', '.join(known) or 'none'})"
            raise UnknownName(problem, hint="inv node.list")
        return tagged


def _node(name: str, registry: Path, source: Path, values: dict[str, Any]) -> Node:
    known = {**values, "labels": tuple(sorted(values.get("labels", {}).items()))}
    if source != registry and known.get("identity"):  # a relative path begins at the file that has it
        known["identity"] = str(source.parent / paths.expanded(known["identity"]))
    return Node(name=name, registry=registry, source=str(source), **known)


def _likely(name: str, known: list[str]) -> str:
    """Return the name that could have been meant; "" if none is close."""
    import difflib

    return next(iter(difflib.get_close_matches(name, known, 1)), "")


def _likely_first(name: str, known: list[str], most: int = 8) -> list[str]:
    """Return at most `most` names, the likely ones first: a registry may have hundreds."""
    if len(known) <= most:
        return known
    import difflib

    close = difflib.get_close_matches(name, known, most - 2)
    others = [other for other in known if other not in close][: most - len(close)]
    return [*close, *others, f"and {len(known) - most} more"]
