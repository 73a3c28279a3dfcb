"""Read a template; every error names file, line, key and what is expected there."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesmith import paths
from codesmith.cli.arguments import parse_size
from codesmith.errors import BadArgument, BadTemplate
from codesmith.nodes.document import Document, line_of, shape
from codesmith.workspace import forward
from codesmith.workspace.template import Template, TemplateFile

if TYPE_CHECKING:
    import yaml

KEYS = ("description", "repo", "sandbox", "network", "labels", "files", "env", "setup", "ports")
REPO = ("url", "name", "ref", "depth")
SANDBOX = {"memory": "memory_bytes", "cpus": "cpus", "tasks": "tasks", "runtime": "runtime_s", "disk": "disk_bytes"}
SIZES = ("memory", "disk")
LISTS = ("allow", "deny")
FILE = ("from", "text", "mode")
LABEL = r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?"
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
# What says who and where the workspace is, and is not set by it.
KEPT = ("HOME", "USER", "LOGNAME", "SHELL")
# Where a workspace keeps the variables for all that runs in it, in its directory.
ENVIRONMENT = "config/environment"
LABELS_MAX, VARIABLES_MAX, VARIABLES_BYTES_MAX = 30, 256, 60000

EXPECTED = {
    "description": "a sentence",
    "repo": "the URL of a repository, or a mapping with `url:` and, optional, name, ref, depth",
    "sandbox": f"a mapping of limits: {', '.join(SANDBOX)}",
    "network": "full, none, or a mapping with `allow:` and, optional, `deny:`",
    "allow": "a list of hosts, as [pypi.org, '*.github.com:443']",
    "labels": "a mapping of words to words, as {team: red}",
    "files": "a mapping: paths in the workspace to files here, as {config/app.toml: app.toml}",
    "env": "a mapping of variables to values, as {STAGE: dev}",
    "setup": "a list of commands for a shell",
    "ports": "a list of ports, as [3000, '18000:8000']",
    "mode": 'the mode of a file, as "0640"',
    "from": "the path of a file or directory; a relative one begins in the template's folder",
    "size": "a size such as 512M or 2G",
    "number": "a number above 0",
    "count": "a whole number above 0",
}
PATH = "a path in the workspace, relative to its directory, without .."
VALUE = 'a value of one line without " and \\ (sshd of Debian 11 can pass on neither)'


class TemplateReader(Document):
    """Reads a template, and looks whether the files that it names are there."""

    error = BadTemplate
    like = "YAML as in docs/templates.md"

    def template(self, name: str) -> Template:
        """Return the whole template, or raise BadTemplate for the first mistake in it."""
        root = self.compose()
        if root is None:
            return Template(name, self.path)
        values: dict[str, Any] = {}
        for key, _, node in self.pairs(root, "", KEYS, f"a mapping of {', '.join(KEYS)}"):
            values[key] = getattr(self, key)(node)
        return Template(name, self.path, **values)

    def description(self, node: yaml.Node) -> str:
        """Return one sentence about the template."""
        return self.string(node, "description", EXPECTED["description"])

    def repo(self, node: yaml.Node) -> dict[str, Any]:
        """Return what is cloned."""
        if shape(node) != "a mapping":
            return {"url": self.string(node, "repo", EXPECTED["repo"])}
        found: dict[str, Any] = {}
        for word, _, value in self.pairs(node, "repo", REPO, EXPECTED["repo"]):
            key = f"repo.{word}"
            found[word] = self.count(value, key) if word == "depth" else self.string(value, key, "a word")
        if "url" not in found:
            raise self.bad(line_of(node), "repo", "no `url`", EXPECTED["repo"])
        return found

    def sandbox(self, node: yaml.Node) -> dict[str, Any]:
        """Return the limits as sandbox.create takes them."""
        found: dict[str, Any] = {}
        for word, _, value in self.pairs(node, "sandbox", tuple(SANDBOX), EXPECTED["sandbox"]):
            key = f"sandbox.{word}"
            if word in SIZES:
                found[SANDBOX[word]] = self.size(value, key)
            else:
                found[SANDBOX[word]] = self.count(value, key) if word == "tasks" else self.number(value, key)
        return found

    def network(self, node: yaml.Node) -> Any:
        """Return the network as sandbox.create takes it."""
        if shape(node) != "a mapping":
            word = self.string(node, "network", EXPECTED["network"])
            if word not in ("full", "none"):
                raise self.bad(line_of(node), "network", f"{word!r}", EXPECTED["network"])
            return word
        found: dict[str, list[str]] = {"allow": [], "deny": []}
        for word, _, value in self.pairs(node, "network", LISTS, EXPECTED["network"]):
            found[word] = [host for _, host in self.words(value, f"network.{word}", EXPECTED["allow"])]
            for line, host in self.words(value, f"network.{word}", EXPECTED["allow"]):
                if not re.fullmatch(r"[^\s/@]+(/[0-9]+)?(:([0-9]+|\*))?", host):
                    raise self.bad(line, f"network.{word}", f"{host!r}", "a host, as pypi.org or *.github.com:443")
        return found

    def labels(self, node: yaml.Node) -> dict[str, str]:
        """Return the labels."""
        found = {}
        for word, line, value in self.pairs(node, "labels", None, EXPECTED["labels"]):
            if not re.fullmatch(LABEL, word):
                expected = "a key of 1 to 63 of A-Z, a-z, 0-9 and inner . _ / -"
                raise self.bad(line, f"labels.{word}", f"{word!r} is no key of a label", expected)
            found[word] = self.string(value, f"labels.{word}", EXPECTED["labels"])
        if len(found) > LABELS_MAX:
            raise self.bad(line_of(node), "labels", f"{len(found)} labels", f"at most {LABELS_MAX}")
        return found

    def files(self, node: yaml.Node) -> tuple[TemplateFile, ...]:
        """Return the files to write; each that is named is there."""
        found = []
        for path, line, value in self.pairs(node, "files", None, EXPECTED["files"]):
            key = f"files.{path}"
            if path.startswith(("/", "~")) or ".." in path.split("/") or path.endswith("/") or not path.isprintable():
                raise self.bad(line, key, f"{path!r}", PATH)
            if path == ENVIRONMENT:
                raise self.bad(line, key, "the file of the variables", "them below `env:`")
            found.append(self.file(path, value, key))
        return tuple(found)

    def file(self, path: str, node: yaml.Node, key: str) -> TemplateFile:
        """Return one file to write."""
        if shape(node) != "a mapping":
            return TemplateFile(path, self.source(node, key))
        given = {word: value for word, _, value in self.pairs(node, key, FILE, EXPECTED["files"])}
        if ("from" in given) == ("text" in given):
            raise self.bad(line_of(node), key, "`from` and `text`, or neither", "one of both")
        mode = self.string(given["mode"], f"{key}.mode", EXPECTED["mode"]) if "mode" in given else None
        if mode is not None and not re.fullmatch("0?[0-7]{3}", mode):
            raise self.bad(line_of(given["mode"]), f"{key}.mode", f"{mode!r}", EXPECTED["mode"])
        if "text" in given:
            return TemplateFile(path, None, self.scalar(given["text"], f"{key}.text", "a text"), mode)
        return TemplateFile(path, self.source(given["from"], f"{key}.from"), "", mode)

    def source(self, node: yaml.Node, key: str) -> Path:
        """Return the path of a file or directory here; refuse one that cannot be read."""
        word = self.string(node, key, EXPECTED["from"])
        path = self.path.parent / paths.expanded(word)
        if not (path.is_file() or path.is_dir()):
            raise self.bad(line_of(node), key, f"there is no {path}", EXPECTED["from"])
        if not os.access(path, os.R_OK):
            raise self.bad(line_of(node), key, f"cannot read {path}", EXPECTED["from"])
        return path

    def env(self, node: yaml.Node) -> dict[str, str]:
        """Return the variables."""
        found = {}
        for name, line, value in self.pairs(node, "env", None, EXPECTED["env"]):
            if not re.fullmatch(VARIABLE, name) or name in KEPT or name.startswith("CODESMITH_"):
                expected = f"a name of letters, digits and _, neither {', '.join(KEPT)} nor CODESMITH_..."
                raise self.bad(line, f"env.{name}", f"{name!r} cannot be set", expected)
            text = self.scalar(value, f"env.{name}", VALUE)
            if not is_variable_value(text):
                raise self.bad(line_of(value), f"env.{name}", f"{text!r}", VALUE)
            found[name] = text
        if len(found) > VARIABLES_MAX or sum(map(len, (*found, *found.values()))) > VARIABLES_BYTES_MAX:
            raise self.bad(line_of(node), "env", "too many variables", f"at most {VARIABLES_MAX}, of 60 kB together")
        return found

    def setup(self, node: yaml.Node) -> tuple[str, ...]:
        """Return the commands that set it up."""
        if shape(node) != "a list":
            raise self.bad(line_of(node), "setup", self.described(node), EXPECTED["setup"])
        found = tuple(self.scalar(item, "setup", EXPECTED["setup"]).strip() for item in node.value)
        for item, text in zip(node.value, found, strict=True):
            if not text or "\0" in text:
                raise self.bad(line_of(item), "setup", "nothing", EXPECTED["setup"])
        return found

    def ports(self, node: yaml.Node) -> tuple[str, ...]:
        """Return the ports as workspace.forward takes them."""
        if shape(node) != "a list":
            raise self.bad(line_of(node), "ports", self.described(node), EXPECTED["ports"])
        found: list[str] = []
        for item in node.value:
            found.append(self.scalar(item, "ports", EXPECTED["ports"]))
            try:
                forward.parse(found)
            except BadArgument as error:
                raise self.bad(line_of(item), "ports", error.problem, EXPECTED["ports"]) from None
        return tuple(found)

    def words(self, node: yaml.Node, key: str, expected: str) -> list[tuple[int, str]]:
        """Return the words of a list with their lines."""
        if shape(node) != "a list":
            raise self.bad(line_of(node), key, self.described(node), expected)
        return [(line_of(item), self.string(item, key, expected)) for item in node.value]

    def scalar(self, node: yaml.Node, key: str, expected: str) -> str:
        """Return a text, number or yes as it is written."""
        if shape(node) or self.is_null(node):
            raise self.bad(line_of(node), key, self.described(node), expected)
        return str(node.value)

    def size(self, node: yaml.Node, key: str) -> int:
        """Return a size in bytes."""
        try:
            return parse_size(self.scalar(node, key, EXPECTED["size"]), key) or 0
        except BadArgument:
            raise self.bad(line_of(node), key, self.described(node), EXPECTED["size"]) from None

    def count(self, node: yaml.Node, key: str) -> int:
        """Return a whole number above 0."""
        text = self.scalar(node, key, EXPECTED["count"])
        if not re.fullmatch("[1-9][0-9]{0,9}", text):
            raise self.bad(line_of(node), key, self.described(node), EXPECTED["count"])
        return int(text)

    def number(self, node: yaml.Node, key: str) -> float:
        """Return a number above 0."""
        try:
            found = float(self.scalar(node, key, EXPECTED["number"]))
        except ValueError:
            found = math.nan
        if not 0 < found < math.inf:
            raise self.bad(line_of(node), key, self.described(node), EXPECTED["number"])
        return found


def is_variable_value(text: str) -> bool:
    """Tell whether all ways into a workspace can pass on this value of a variable."""
    return text.isprintable() and not set('"\\') & set(text) and text == text.strip()
