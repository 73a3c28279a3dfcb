"""What may follow on a command line: one line for each word, with its description behind a tab.

    python3 -I -S answer.py SHELL FOLDER CACHE PYTHON WORD ...

A shell starts it at each TAB, so it imports nothing of CodeSmith, and most modules only on the way that needs them. The
first WORD is the program, the last one that to complete; bash gives the line up to the cursor instead. FOLDER has
table.json. PYTHON, which has CodeSmith, reads nodes.yaml when that has changed since CACHE was written. Names of
workspaces, users, jobs and repositories come from the endpoint of the node, if it is up: nothing is connected for a
completion.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Found = list[tuple[str, str]]
    Ask = Callable[[str, dict[str, str]], Any]

FILES = "\x01files"
ANSWER_S = 0.3
ANSWER_BYTES_MAX = 8 << 20
DESCRIPTION_MAX = 80
OWN = {"--help": "Show help.", "--list": "Show the tasks.", "--version": "Show the version."}


class Line:
    """A command line that is being typed."""

    def __init__(self, table: dict[str, Any], words: list[str]) -> None:
        self.table, self.word = table, words[-1]
        before = words[1:-1]
        self.is_behind_dashes = "--" in before
        at = next((place for place, one in enumerate(before) if one in table), None)
        self.task = "" if at is None else before[at]
        self.given: dict[str, str] = {}
        self.values: list[str] = []
        self.awaits: dict[str, Any] | None = None
        for one in before[at + 1 :] if at is not None else ():
            self._take(one)

    def _take(self, word: str) -> None:
        options = self.table[self.task]["options"]
        if self.awaits is not None:
            self.given[self.awaits["name"]], self.awaits = word, None
        elif word.startswith("--"):
            name, equals, value = word.partition("=")
            option = options.get(name)
            if option is not None and equals:
                self.given[option["name"]] = value
            elif option is not None and option["value"]:
                self.awaits = option
        else:
            self.values.append(word)

    def positional(self) -> dict[str, Any] | None:
        """Return the positional parameter that the word is for."""
        known: list[dict[str, Any]] = self.table[self.task]["positional"]
        if len(self.values) < len(known):
            return known[len(self.values)]
        return known[-1] if known and known[-1]["several"] else None

    def value_of(self, kind: str) -> str:
        """Return what was given for the parameter of a kind, such as the workspace of a job."""
        known = self.table[self.task]["positional"]
        for parameter, value in zip(known, self.values, strict=False):
            if parameter["kind"] == kind:
                return value
        return self.given.get(kind, "")


def candidates(line: Line, home: Home) -> Found:
    """Return the words that may follow, with their descriptions; FILES for a file of this machine."""
    if line.is_behind_dashes:
        return [(FILES, "")]
    if not line.task:
        return tasks(line) if not line.word.startswith("-") else list(OWN.items())
    entry = line.table[line.task]
    if line.awaits is not None:
        return values(line, line.awaits, home)
    if line.word.startswith("--") and "=" in line.word:
        name, _, _ = line.word.partition("=")
        option = entry["options"].get(name)
        return [(f"{name}={one}", text) for one, text in values(line, option, home)] if option else []
    if line.word.startswith("-"):
        return [(name, one["help"]) for name, one in entry["options"].items() if one["name"] not in line.given]
    parameter = line.positional()
    if parameter is None:
        return [(name, one["help"]) for name, one in entry["options"].items()] if not line.word else []
    return values(line, parameter, home)


def tasks(line: Line) -> Found:
    """Return the tasks, or the namespaces as long as none is typed."""
    if "." in line.word:
        return [(name, entry["help"]) for name, entry in line.table.items()]
    spaces: dict[str, int] = {}
    for name in line.table:
        space, dot, _ = name.partition(".")
        spaces[space + dot] = spaces.get(space + dot, 0) + 1
    fitting = [space for space in spaces if space.startswith(line.word)]
    if len(fitting) == 1:  # no second TAB for the tasks in it
        return [(name, entry["help"]) for name, entry in line.table.items() if name.startswith(fitting[0])]
    return [
        (space, f"{count} tasks" if space.endswith(".") else line.table[space]["help"])
        for space, count in spaces.items()
    ]


def values(line: Line, parameter: dict[str, Any], home: Home) -> Found:
    """Return the values that a parameter may have."""
    kind = parameter["kind"]
    if parameter.get("choices"):
        return [(one, "") for one in parameter["choices"]]
    if kind == "file":
        return [(FILES, "")]
    if kind in ("node", "tag"):
        known = home.nodes(line.given.get("file", ""))
        return (
            [(name, one["place"]) for name, one in known["nodes"].items()]
            if kind == "node"
            else [(tag, "") for tag in known["tags"]]
        )
    if kind == "template":
        return [(name, "") for name in templates(home.nodes(line.given.get("file", "")))]
    ask = REMOTE.get(kind)
    if ask is None:
        return []
    found = ask(line, lambda method, params: home.ask(line, method, params))
    return [*found, (FILES, "")] if kind == "place" else found


def templates(known: dict[str, Any]) -> list[str]:
    """Return the templates beside nodes.yaml."""
    try:
        files = os.listdir(os.path.join(os.path.dirname(known["path"]), "templates"))
    except (OSError, KeyError):
        return []
    return sorted(file[:-5] for file in files if file.endswith(".yaml"))


def workspaces(_line: Line, ask: Ask) -> Found:
    """Return the workspaces of the node."""
    return [(one["name"], f"of {one['user']}, {one['runtime']['state']}") for one in ask("workspace.list", {})]


def users(_line: Line, ask: Ask) -> Found:
    """Return the users of the node."""
    return [(one["name"], one["state"]) for one in ask("user.list", {})]


def jobs(line: Line, ask: Ask) -> Found:
    """Return the jobs of the workspace that is named before; by their names where they have one."""
    listed = ask("job.list", {"workspace": line.value_of("workspace")})
    named: dict[str, tuple[str, str]] = {}
    for one in listed:
        named.setdefault(one["name"] or one["id"], (one["state"], " ".join(one["argv"])))
    return [(name, f"{state}: {command}") for name, (state, command) in named.items()]


def repos(line: Line, ask: Ask) -> Found:
    """Return the repositories of the workspace that is named before."""
    found = ask("workspace.get", {"name": line.value_of("workspace")})
    return [(name, "") for name in found["repos"]] if isinstance(found, dict) else []


def paths(line: Line, ask: Ask) -> Found:
    """Return the entries of the directory that is being typed; nothing where that would start a runtime."""
    workspace = line.value_of("workspace")
    found = ask("workspace.get", {"name": workspace})
    if not isinstance(found, dict) or found["runtime"]["state"] != "running":
        return []
    folder, slash, _ = line.word.rpartition("/")
    listed = ask("file.list", {"workspace": workspace, **({"path": folder} if slash else {})})
    return [(one["path"] + ("/" if one["type"] == "directory" else ""), "") for one in listed]


def places(line: Line, ask: Ask) -> Found:
    """Return what workspace.copy takes of a node: a workspace and a colon."""
    return [(f"{name}:", text) for name, text in workspaces(line, ask)]


REMOTE = {"workspace": workspaces, "user": users, "job": jobs, "repo": repos, "path": paths, "place": places}


class Home:
    """What this machine knows of nodes: nodes.yaml as it was read last, and the endpoints that are up."""

    def __init__(self, reader: list[str], cache: str) -> None:
        self._reader, self._cache = reader, cache

    def nodes(self, file: str = "") -> dict[str, Any]:
        """Return the nodes of nodes.yaml, its tags and its default; none if it cannot be read."""
        import json

        try:
            with open(f"{self._cache}/{self._key(file)}.json", encoding="utf-8") as kept:
                known: dict[str, Any] = json.load(kept)
            if all(stamp(file) == kept_stamp for file, kept_stamp in known["stamps"].items()):
                return known
        except (OSError, ValueError, KeyError):
            pass
        import subprocess

        done = subprocess.run(
            [*self._reader, f"{self._cache}/{self._key(file)}.json", file],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        try:
            fresh: dict[str, Any] = json.loads(done.stdout)
            return fresh
        except ValueError:
            return {"nodes": {}, "tags": [], "default": None}

    def ask(self, line: Line, method: str, params: dict[str, str]) -> Any:
        """Return the result of a method of the node's agent; nothing when its endpoint is not up."""
        known = self.nodes(line.given.get("file", ""))
        nodes = known["nodes"]
        name = line.given.get("node") or os.environ.get("CODESMITH_NODE") or known["default"] or ""
        node = nodes.get(name) or (next(iter(nodes.values())) if len(nodes) == 1 and not name else None)
        return call(node["socket"], method, params) if node else []

    def _key(self, file: str) -> str:
        """Return a name for the registry file: by what was typed, and where."""
        text = "\0".join(
            (file, os.environ.get("CODESMITH_NODES", ""), os.environ.get("CODESMITH_HOME", ""), os.getcwd())
        )
        import zlib

        return f"{zlib.crc32(text.encode('utf-8', 'surrogateescape')):08x}"


def stamp(path: str) -> list[int]:
    """Return what changes with a file; [] if it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_mtime_ns, status.st_size, status.st_ino]


def call(socket: str, method: str, params: dict[str, str]) -> Any:
    """Call a method over a local socket; nothing when it does not answer at once."""
    import _socket
    import json

    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    answer = b""
    try:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        connection.settimeout(ANSWER_S)
        connection.connect(socket)
        connection.sendall(head + body)
        while data := connection.recv(1 << 16):
            answer += data
            if len(answer) > ANSWER_BYTES_MAX:
                return []
        return json.loads(answer.partition(b"\r\n\r\n")[2])["result"]
    except (OSError, ValueError, KeyError):
        return []


def shown(found: Found, word: str, shell: str) -> list[str]:
    """Return the lines for a shell: words that begin with what is typed, and no character that ends a line."""
    lines = []
    for value, text in found:
        if value == FILES:
            lines.append(FILES)
        elif value.startswith(word) and value.isprintable():
            plain = "".join(one if one.isprintable() else "?" for one in text)[:DESCRIPTION_MAX]
            lines.append(value if shell == "bash" or not plain else f"{value}\t{plain}")
    return lines


def split(line: str) -> list[str]:
    """Return the words of a line of bash up to the cursor; one may begin with a quote that is still open."""
    words = line.split(" ") if not set("\"'\\\t") & set(line) else _unquoted(line)
    return [*(word for word in words[:-1] if word), words[-1]]


def _unquoted(line: str) -> list[str]:
    words, quote, is_escaped = [""], "", False
    for one in line:
        if is_escaped or (quote and one not in (quote, "\\")) or (quote == "'" and one != "'"):
            words[-1], is_escaped = words[-1] + one, False
        elif one == "\\":
            is_escaped = True
        elif one in "\"'":
            quote = "" if quote else one
        elif one.isspace():
            words.append("")
        else:
            words[-1] += one
    return words


def main(shell: str, folder: str, cache: str, python: str, *words: str) -> int:
    """Print what may follow on the command line `words`."""
    import json

    with open(f"{folder}/table.json", encoding="utf-8") as file:
        table = json.load(file)
    typed = split(words[0]) if shell == "bash" else list(words)
    line = Line(table, typed if len(typed) > 1 else [*typed, ""])
    home = Home([python, "-P", "-m", "codesmith.completion.known_nodes"], cache)
    lines = shown(candidates(line, home), line.word, shell)
    sys.stdout.write("".join(f"{one}\n" for one in lines))
    return 0


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (OSError, TypeError, ValueError, KeyError, AttributeError):  # a shell shows nothing rather than an error
        sys.exit(1)
