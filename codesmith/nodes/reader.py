"""Read nodes.yaml; every error names file, line, key and what is expected there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from codesmith.errors import BadRegistry
from codesmith.nodes.document import Document, line_of, shape

if TYPE_CHECKING:
    import yaml

NAME = r"[a-z0-9]([a-z0-9-]{0,26}[a-z0-9])?"
BRIDGE = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
CARRIERS = ("openssh", "fabric")
RELEASES = ("bookworm", "trixie", "bullseye", "bookworm-vm", "trixie-vm")
NODE_KEYS = (
    "host", "user", "port", "identity", "tags", "labels", "endpoint", "lab", "bridge", "ssh", "git_hosts",
)  # fmt: skip
TOP_KEYS = ("default", "nodes", "include")
SSH_KEYS = ("host", "user", "port", "identity")

EXPECTED = {
    "default": "the name of one of the nodes below",
    "include": "a file or a list of files: of nodes as here, an Ansible inventory, or a program that prints nodes",
    "nodes": "a mapping: one `NAME:` per node, its settings indented below it",
    "host": "a host name, an address or an alias from ssh_config",
    "user": "a login name",
    "port": "a whole number from 1 to 65535",
    "identity": "the path of a private key",
    "tags": "a list of words, as [eu, test]",
    "labels": "a mapping of words to words, as {rack: r7}",
    "endpoint": "unix or tcp:PORT with a port from 1 to 65535",
    "git_hosts": "a list of hosts, as [git.example.org, 10.0.0.7, git.example.org:8443]",
    "ssh": "openssh (the ssh of this machine) or fabric; without it the one that works",
    "bridge": "a name for the bridge that lab nodes share: 1 to 63 of a-z, 0-9 and -",
    "lab": " or ".join((", ".join(RELEASES[:-1]), RELEASES[-1])),
}
# A leading "-" would be an option of ssh. Hosts and logins contain no spaces, quotes or control characters.
WORD = r"[^\s\x00-\x1f\x7f'\"`$;&|<>\\@-][^\s\x00-\x1f\x7f'\"`$;&|<>\\@]*"

# A name, one with all below it (*.), or an address with its bits; with a port, several or none.
GIT_HOST = (
    r"(?:\*\.)?[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?(?:/[0-9]{1,2})?(?::(?:[1-9][0-9]{0,4}|\*))?"
    r"|[0-9a-f:.]{2,45}(?:/[0-9]{1,3})?|\[[0-9a-f:.]{2,45}\](?:/[0-9]{1,3})?:(?:[1-9][0-9]{0,4}|\*)"
)
GIT_HOSTS_MAX = 256
# The logins that ssh accepts, those of a domain too: ops@corp.example or CORP\\ops.
LOGIN = r"[^\s\x00-\x1f\x7f'\"`$;&|<>(){}\\@-](?:[^\s\x00-\x1f\x7f'\"`$;&|<>(){}\\]|\\(?!\Z))*"


class Section(NamedTuple):
    """One node as written: its settings and its lines (counted from 1, `last_line` included)."""

    name: str
    values: dict[str, Any]
    first_line: int
    last_line: int
    column: int


class Include(NamedTuple):
    """A file that is included, as written, and its line."""

    word: str
    line: int


class NodesFile(NamedTuple):
    """The contents of nodes.yaml with their lines. `nodes_line` is None if the file has no `nodes:` yet."""

    path: Path
    text: str
    default: str | None
    default_line: int | None
    nodes_line: int | None
    is_block: bool
    sections: dict[str, Section]
    includes: tuple[Include, ...] = ()


def read(path: Path) -> NodesFile:
    """Return the contents of the file; BadRegistry for anything that nodes.yaml may not have."""
    return parse(read_text(path), path)


def read_text(path: Path) -> str:
    """Return the file's text (UTF-8)."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise BadRegistry(f"there is no {path}", hint=f"inv node.add NAME --host HOST --file {path}") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        hint = f"${{EDITOR:-vi}} +{line} {path}"
        raise BadRegistry(f"{path}:{line}: not UTF-8 text; expected YAML in UTF-8", hint=hint) from None
    except OSError as error:
        raise BadRegistry(f"cannot read {path}: {error.strerror}", hint=f"ls -ld {path}") from None


def parse(text: str, path: Path) -> NodesFile:
    """Return the contents of `text`; `path` is only for messages."""
    return _Reader(path, text).file()


def nothing(path: Path) -> NodesFile:
    """Return a file without nodes."""
    return NodesFile(path, "", None, None, None, True, {})


def bad(path: Path, line: int, key: str, problem: str, expected: str) -> BadRegistry:
    """Return the error about a line and key of a file: what is wrong, and what is expected there."""
    error = Document(path, "").bad(line, key, problem, expected)
    return BadRegistry(error.problem, hint=error.hint)


def is_valid(word: str, text: str) -> bool:
    """Tell whether a setting of a node may be this text."""
    if word == "port":
        return re.fullmatch(r"[1-9][0-9]{0,4}", text) is not None and int(text) <= 65535
    return bool(text.strip()) and text.isprintable() and _is_valid(word, text)


class _Reader(Document):
    """Reads nodes.yaml."""

    def file(self) -> NodesFile:
        """Return the whole file, or raise BadRegistry for the first mistake in it."""
        root = self.compose()
        if root is None:
            raise self.bad(1, "", "the file is empty", "`nodes:` and below it one entry per node")
        top = {key: (line, value) for key, line, value in self.pairs(root, "", TOP_KEYS, "a mapping with `nodes:`")}
        nodes_line, nodes = top.get("nodes", (None, None))
        sections = {} if nodes is None or self.is_null(nodes) else self.sections(nodes)
        default_line, default = top.get("default", (None, None))
        name = None if default is None else self.word(default, "default")
        includes = tuple(self.includes(top["include"][1])) if "include" in top else ()
        if name is not None and default_line is not None and name not in sections and not includes:
            known = f" (nodes here: {', '.join(sections) or 'none'})"
            raise self.bad(default_line, "default", f"no node is named {name!r}{known}", EXPECTED["default"])
        is_block = nodes is not None and not getattr(nodes, "flow_style", False)
        return NodesFile(self.path, self.text, name, default_line, nodes_line, is_block, sections, includes)

    def includes(self, node: yaml.Node) -> Iterator[Include]:
        for item in node.value if shape(node) == "a list" else [node]:
            yield Include(self.word(item, "include"), line_of(item))

    def sections(self, nodes: yaml.Node) -> dict[str, Section]:
        sections: dict[str, Section] = {}
        ports: dict[str, tuple[str, int]] = {}
        for name, line, value in self.names(nodes):
            sections[name] = self.section_of(name, line, value)
            endpoint = sections[name].values.get("endpoint", "unix")
            if endpoint != "unix":
                self.claim(ports, endpoint, name, value)
        return sections

    def claim(self, ports: dict[str, tuple[str, int]], endpoint: str, name: str, node: yaml.Node) -> None:
        """Note that the port is this node's; refuse a port that another node has."""
        line = next(at for word, at, _ in self.pairs(node, name, None, "") if word == "endpoint")
        if endpoint in ports:
            other, there = ports[endpoint]
            problem = f"{endpoint} is the endpoint of {other} already, on line {there}"
            raise self.bad(line, f"nodes.{name}.endpoint", problem, "a port of its own for each node")
        ports[endpoint] = name, line

    def names(self, nodes: yaml.Node) -> Iterator[tuple[str, int, yaml.Node]]:
        for name, line, value in self.pairs(nodes, "nodes", None, EXPECTED["nodes"]):
            if not re.fullmatch(NAME, name, re.ASCII):
                expected = "1 to 28 of a-z, 0-9 and -, neither first nor last a -"
                raise self.bad(line, f"nodes.{name}", f"{name!r} is not a node's name", expected)
            yield name, line, value

    def section_of(self, name: str, line: int, node: yaml.Node) -> Section:
        key = f"nodes.{name}"
        if self.is_null(node):
            raise self.bad(line, key, "no settings", "`host:` or `lab:` indented below it")
        settings = {word: (at, value) for word, at, value in self.pairs(node, key, NODE_KEYS, "`host:` or `lab:`")}
        values = {word: self.value(word, value, f"{key}.{word}") for word, (_, value) in settings.items()}
        if "lab" in values:
            for word in SSH_KEYS:
                if word in values:
                    expected = "only one of both: the lab knows the address of its own nodes"
                    raise self.bad(settings[word][0], f"{key}.{word}", f"`{word}` together with `lab`", expected)
        elif "bridge" in values:
            raise self.bad(settings["bridge"][0], f"{key}.bridge", "`bridge` without `lab`", "it at a lab node alone")
        elif "host" not in values:
            raise self.bad(line, key, "neither `host` nor `lab`", f"`host:` {EXPECTED['host']}")
        last = max((_last_line(value) for _, value in settings.values()), default=line)
        return Section(name, values, line, max(line, last), _first_column(node))

    def value(self, word: str, node: yaml.Node, key: str) -> Any:
        if word == "port":
            return self.port(node, key)
        if word == "tags":
            return self.tags(node, key)
        if word == "git_hosts":
            return self.git_hosts(node, key)
        if word == "labels":
            pairs = self.pairs(node, key, None, EXPECTED["labels"])
            return {label: self.string(value, f"{key}.{label}", EXPECTED["labels"]) for label, _, value in pairs}
        text = self.word(node, key)
        if not _is_valid(word, text):
            raise self.bad(line_of(node), key, f"{text!r}", EXPECTED[word])
        return text

    def port(self, node: yaml.Node, key: str) -> int:
        text = node.value if node.tag.endswith(":int") and isinstance(node.value, str) else ""
        if not re.fullmatch(r"[1-9][0-9]{0,4}", text) or int(text) > 65535:
            raise self.bad(line_of(node), key, self.described(node), EXPECTED["port"])
        return int(text)

    def tags(self, node: yaml.Node, key: str) -> tuple[str, ...]:
        if shape(node) != "a list":
            raise self.bad(line_of(node), key, self.described(node), EXPECTED["tags"])
        return tuple(self.string(item, key, "words") for item in node.value)

    def git_hosts(self, node: yaml.Node, key: str) -> tuple[str, ...]:
        if shape(node) != "a list" or len(node.value) > GIT_HOSTS_MAX:
            raise self.bad(line_of(node), key, self.described(node), EXPECTED["git_hosts"])
        hosts = [self.string(item, key, EXPECTED["git_hosts"]) for item in node.value]
        for item, host in zip(node.value, hosts, strict=True):
            if not re.fullmatch(GIT_HOST, host, re.ASCII | re.IGNORECASE):
                raise self.bad(line_of(item), key, f"{host!r}", EXPECTED["git_hosts"])
        return tuple(dict.fromkeys(host.lower() for host in hosts))

    def word(self, node: yaml.Node, key: str) -> str:
        return self.string(node, key, EXPECTED[key.rsplit(".", 1)[-1]])


def _is_valid(word: str, text: str) -> bool:
    if word in ("host", "user"):
        return re.fullmatch(WORD if word == "host" else LOGIN, text) is not None
    if word == "endpoint":
        match = re.fullmatch(r"unix|tcp:([1-9][0-9]{0,4})", text)
        return match is not None and int(match[1] or 1) <= 65535
    if word == "bridge":
        return re.fullmatch(BRIDGE, text) is not None
    allowed = {"lab": RELEASES, "ssh": CARRIERS}
    return text in allowed.get(word, (text,))


def _first_column(node: yaml.Node) -> int:
    return int(node.start_mark.column)


def _last_line(node: yaml.Node) -> int:
    # The end mark of a block is the start of what follows it; that of a flow value or scalar is its own end. That of a
    # scalar in a block of its own (`|`, `>`) is the start of the line behind it.
    if isinstance(node.value, list) and not getattr(node, "flow_style", True) and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.line) + (node.end_mark.column > 0)
