"""Ansible inventories as far as they say how nodes are reached: hosts, groups and the variables of an SSH login.

Groups become tags, without `all` and `ungrouped`. Variables count as Ansible's do: those of a host before those of its
groups, a group before the one it is a child of. Ansible itself is not needed, and nothing of it is evaluated.
"""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesmith.nodes import reader
from codesmith.nodes.document import Document, line_of, shape
from codesmith.nodes.reader import NodesFile, Section

if TYPE_CHECKING:
    import yaml


# Variables of Ansible, with the setting of a node that each is; the last one that is set wins.
SETTINGS = {
    "ansible_ssh_host": "host",
    "ansible_host": "host",
    "ansible_ssh_port": "port",
    "ansible_port": "port",
    "ansible_ssh_user": "user",
    "ansible_user": "user",
    "ansible_private_key_file": "identity",
    "ansible_ssh_private_key_file": "identity",
}
# The name of a node, where that of the host cannot be one.
NAME, CONNECTION = "codesmith_name", "ansible_connection"
BY_SSH = ("ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh", "ansible.builtin.paramiko_ssh")
GROUP_KEYS = ("hosts", "children", "vars")
ALL, UNGROUPED = "all", "ungrouped"
RANGE = re.compile(r"\[([0-9]+|[A-Za-z]):([0-9]+|[A-Za-z])(?::([0-9]+))?\]")
HOSTS_MAX = 10000

Variables = dict[str, str]


@dataclass
class Group:
    """A group: its hosts with their variables, its children and its own variables."""

    hosts: dict[str, Variables] = field(default_factory=dict)
    children: list[str] = field(default_factory=list)
    variables: Variables = field(default_factory=dict)


@dataclass
class Inventory(Document):
    """The hosts and groups of one file, with the lines where hosts come first."""

    path: Path
    text: str
    groups: dict[str, Group] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)

    like = "an Ansible inventory, or `nodes:` as in nodes.yaml"

    def group(self, name: str) -> Group:
        """Return a group, which is made where it comes first."""
        return self.groups.setdefault(name, Group())

    def add_host(self, group: str, host: str, variables: Variables, line: int) -> None:
        """Add a host to a group; of what is said twice the last counts."""
        self.lines.setdefault(host, line)
        self.group(group).hosts.setdefault(host, {}).update(variables)

    def nodes(self) -> NodesFile:
        """Return what is reached by SSH as nodes; BadRegistry if one cannot be a node."""
        depths = self.depths()
        sections: dict[str, Section] = {}
        for host, line in self.lines.items():
            groups = sorted(self.groups_of(host), key=lambda name: (depths[name], name))
            variables: Variables = {}
            for name in groups:
                variables.update(self.groups[name].variables)
            for name in groups:
                variables.update(self.groups[name].hosts.get(host, {}))
            if variables.get(CONNECTION, BY_SSH[0]) in BY_SSH:
                section = self.section_of(host, line, variables, groups)
                if section.name in sections:
                    other = sections[section.name].first_line
                    raise self.bad(line, host, f"it is node {section.name}, as is the host on line {other}", RENAME)
                sections[section.name] = section
        return NodesFile(self.path, self.text, None, None, None, True, sections)

    def section_of(self, host: str, line: int, variables: Variables, groups: list[str]) -> Section:
        """Return a host as a node."""
        values: dict[str, Any] = {"host": host}
        for variable, word in SETTINGS.items():
            if variable in variables:
                text = variables[variable]
                if "{{" in text:
                    raise self.bad(line, f"{host}.{variable}", f"{text!r}", "a value: templates are not evaluated")
                if not reader.is_valid(word, text):
                    raise self.bad(line, f"{host}.{variable}", f"{text!r}", reader.EXPECTED[word])
                values[word] = int(text) if word == "port" else text
        if not reader.is_valid("host", values["host"]):
            raise self.bad(line, host, f"{values['host']!r}", reader.EXPECTED["host"])
        values["tags"] = tuple(name for name in groups if name not in (ALL, UNGROUPED))
        return Section(self.node_name(host, line, variables), values, line, line, 0)

    def node_name(self, host: str, line: int, variables: Variables) -> str:
        """Return the name of a host's node: the host's in lower case with `-` for `.` and `_`, else its first label."""
        given = variables.get(NAME)
        first = host.lower().replace("_", "-")
        for name in (given,) if given is not None else (first.replace(".", "-"), first.partition(".")[0]):
            if re.fullmatch(reader.NAME, name, re.ASCII):
                return name
        raise self.bad(line, host, f"{given or host!r} cannot be a node's name", RENAME)

    def groups_of(self, host: str) -> set[str]:
        """Return the groups that a host is in, by itself or through children."""
        found = {ALL} & set(self.groups) | {name for name, group in self.groups.items() if host in group.hosts}
        while more := {
            name for name, group in self.groups.items() if name not in found and found & set(group.children)
        }:
            found |= more
        return found

    def depths(self) -> dict[str, int]:
        """Return how deep each group is below `all`; the deepest way counts, as for Ansible."""
        depths = {name: int(name != ALL) for name in self.groups}
        for _ in self.groups:
            before = dict(depths)
            for name, group in self.groups.items():
                for child in group.children:
                    depths[child] = max(depths[child], depths[name] + 1)
            if depths == before:
                return depths
        if any(depth > len(self.groups) for depth in depths.values()):
            raise self.bad(1, "", "groups that are children of each other in a circle", "a tree of groups")
        return depths


RENAME = f"a name of 1 to 28 of a-z, 0-9 and -: set the variable {NAME} of one"


def parse(text: str, path: Path, *, is_yaml: bool) -> NodesFile:
    """Return the hosts of an inventory as nodes; BadRegistry says file, line and what is expected."""
    inventory = Inventory(path, text)
    if is_yaml:
        _read_yaml(inventory)
    else:
        _read_ini(inventory)
    return inventory.nodes()


def is_inventory(text: str, path: Path) -> bool:
    """Tell whether YAML is an inventory: each key at its top is a group, with hosts, children or vars alone."""
    root = Inventory(path, text).compose()
    if root is None or shape(root) != "a mapping":
        return False
    return all(_is_group(value) for _, value in root.value) and bool(root.value)


def _is_group(node: yaml.Node) -> bool:
    if shape(node) != "a mapping":
        return node.tag.endswith(":null")
    return bool(node.value) and all(key.value in GROUP_KEYS for key, _ in node.value)


def _read_yaml(inventory: Inventory) -> None:
    root = inventory.compose()
    if root is not None:
        for name, _, node in inventory.pairs(root, "", None, inventory.like):
            _read_group(inventory, name, node)


def _read_group(inventory: Inventory, name: str, node: yaml.Node) -> None:
    group = inventory.group(name)
    if inventory.is_null(node):
        return
    for word, _, value in inventory.pairs(node, name, GROUP_KEYS, "a group: hosts, children, vars"):
        if inventory.is_null(value):
            continue
        key = f"{name}.{word}"
        if word == "vars":
            group.variables.update(_read_variables(inventory, value, key))
            continue
        for inner, line, content in inventory.pairs(value, key, None, "a mapping, one `NAME:` a line"):
            if word == "children":
                group.children.append(inner)
                _read_group(inventory, inner, content)
            else:
                variables = {} if inventory.is_null(content) else _read_variables(inventory, content, f"{key}.{inner}")
                for host in _expanded(inventory, inner, line):
                    inventory.add_host(name, host, variables, line)


def _read_variables(inventory: Inventory, node: yaml.Node, key: str) -> Variables:
    found: Variables = {}
    for word, _, value in inventory.pairs(node, key, None, "a mapping of variables"):
        if word in SETTINGS or word in (NAME, CONNECTION):
            if shape(value) or inventory.is_null(value):
                raise inventory.bad(line_of(value), f"{key}.{word}", inventory.described(value), "a text or a number")
            found[word] = str(value.value)
    return found


def _read_ini(inventory: Inventory) -> None:
    # Each line is one word without a value, so that what is in it is ours to split, as by a shell.
    parser = configparser.RawConfigParser(
        allow_no_value=True, delimiters=("\0",), comment_prefixes=("#", ";"), strict=False, default_section="\0"
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    lines = [line.strip() for line in inventory.text.splitlines()]
    try:
        parser.read_string("\n".join([f"[{UNGROUPED}]", *lines]))
    except configparser.Error as error:
        number = getattr(error, "lineno", 2) - 1
        raise inventory.bad(max(1, number), "", "not INI", inventory.like) from None
    for section in parser.sections():
        name, _, kind = section.partition(":")
        group = inventory.group(name.strip())
        for text in parser.options(section):
            line = lines.index(text) + 1 if text in lines else 1
            if kind == "children":
                child = text.partition("#")[0].strip()
                group.children.append(child)
                inventory.group(child)
            elif kind == "vars":
                group.variables.update(_variable(inventory, text, line))
            elif kind:
                raise inventory.bad(line, section, f"no such kind of section: {kind!r}", "children or vars")
            else:
                _read_host(inventory, name.strip(), text, line)


def _read_host(inventory: Inventory, group: str, text: str, line: int) -> None:
    try:
        words = shlex.split(text, comments=True)
    except ValueError as error:
        raise inventory.bad(line, group, f"{error}", "a host and variables, as web1 ansible_host=10.0.0.1") from None
    variables: Variables = {}
    for word in words[1:]:
        name, equals, value = word.partition("=")
        if not equals:
            raise inventory.bad(line, group, f"{word!r}", "a variable, as ansible_host=10.0.0.1")
        variables[name] = value
    for host in _expanded(inventory, words[0], line) if words else ():
        inventory.add_host(group, host, variables, line)


def _variable(inventory: Inventory, text: str, line: int) -> Variables:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise inventory.bad(line, "vars", f"{text!r}", "a variable, as ansible_user=ops")
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return {name: value[1:-1] if is_quoted else value}


def _expanded(inventory: Inventory, pattern: str, line: int) -> Iterator[str]:
    """Yield the hosts of a pattern: web[01:03] is web01, web02, web03."""
    match = RANGE.search(pattern)
    if match is None:
        yield pattern
        return
    first, last, step = match[1], match[2], int(match[3] or 1)
    if first.isdigit() != last.isdigit() or step < 1:
        raise inventory.bad(line, pattern, f"no range: {match[0]}", "a range, as [01:10] or [a:f]")
    numbers = range(int(first), int(last) + 1, step) if first.isdigit() else range(ord(first), ord(last) + 1, step)
    if len(numbers) > HOSTS_MAX or not numbers:
        raise inventory.bad(line, pattern, f"{len(numbers)} hosts: {match[0]}", f"1 to {HOSTS_MAX}")
    for number in numbers:
        word = str(number).zfill(len(first)) if first.isdigit() else chr(number)
        yield from _expanded(inventory, pattern[: match.start()] + word + pattern[match.end() :], line)
