"""What somebody at the door asks for: which workspace, and what is to run there. Everything in it may be hostile."""

from __future__ import annotations

import re
import secrets
from typing import Any, Collection, Dict, List, NamedTuple, Optional

from agent.shared.errors import InvalidParams, NotFound

# The commands of the door itself; all others run inside.
DIAL, KNOWN_HOSTS = "codesmith-dial", "codesmith-known-hosts"
ID_BYTES = 6
# The kernel gives no program a longer argument.
COMMAND_MAX = (128 << 10) - 1
SIZE_MAX = 65535
TERM = "[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"
VARIABLE, VALUE = "LANG|LC_[A-Z]{1,24}", "[A-Za-z0-9][A-Za-z0-9._@=-]{0,63}"
VARIABLES_MAX = 16
# The values of a message.
VALUES_MAX = 256
# The shell is that of the workspace's login, which the runtime knows.
SHELL = ("/bin/sh", "-c", 'exec "$SHELL" -l', "sh")
COMMAND = ("/bin/sh", "-c", 'exec "$SHELL" -c "$1"', "sh")
# sshd names the program of its own configuration, or itself; what is there on the node is there inside too.
SFTP = re.compile(r"(?:internal-sftp|/\S*/sftp-server)(?:\s.*)?", re.DOTALL)
SFTP_SERVER = (
    "/bin/sh", "-c", "for one in /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server "
    '/usr/lib/ssh/sftp-server; do test -x "$one" && exec "$one"; done; '
    "echo 'codesmith: there is no sftp-server on this node' >&2; exit 127", "sh",
)  # fmt: skip


class Terminal(NamedTuple):
    """The terminal that somebody sits at."""

    rows: int
    cols: int
    term: str


class Wish(NamedTuple):
    """What `enter` says: the command, None for a shell; the terminal, if there is one; the language."""

    command: Optional[str]
    terminal: Optional[Terminal]
    env: Dict[str, str]


class Entrance(NamedTuple):
    """Where a wish leads: a workspace, a command of the door's own ("" without one), and what runs inside."""

    workspace: str
    tool: str
    command: Optional[str]


def read(message: Dict[str, Any]) -> Wish:
    """Return what a message of `enter` asks for; InvalidParams when it is none."""
    command, terminal, env = message.get("command"), message.get("tty"), message.get("env")
    if command is not None and not (isinstance(command, str) and "\0" not in command and len(command) <= COMMAND_MAX):
        raise InvalidParams.of("command", f"must be a text of at most {COMMAND_MAX} bytes")
    if terminal is not None and not isinstance(terminal, dict):
        raise InvalidParams.of("tty", "must have rows and cols")
    return Wish(command, None if terminal is None else _read_terminal(terminal), _read_env(env))


def _read_terminal(fields: Dict[str, Any]) -> Terminal:
    rows, columns, term = (fields.get(name) for name in ("rows", "cols", "term"))
    if rows is None or columns is None or not (_is_size(rows) and _is_size(columns)):
        raise InvalidParams.of("tty", "must have rows and cols")
    return Terminal(rows, columns, term if isinstance(term, str) and re.fullmatch(TERM, term) else "xterm")


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= SIZE_MAX


def _read_env(fields: Any) -> Dict[str, str]:
    """Return the variables that people may bring with them; all others are dropped, as sshd drops them."""
    if not isinstance(fields, dict):
        return {}
    kept = {
        name: value
        for name, value in fields.items()
        if re.fullmatch(VARIABLE, name) and isinstance(value, str) and re.fullmatch(VALUE, value)
    }
    return dict(list(kept.items())[:VARIABLES_MAX])


def choose(user: str, workspaces: Collection[str], command: Optional[str]) -> Entrance:
    """Return where a command leads: into the only workspace; with several, into the one that its first word names.

    Otherwise into the user's dedicated one. NotFound, with the names that there are, when it leads nowhere.
    """
    words = (command or "").split(None, 1)
    tool = words[0] if words and words[0] in (DIAL, KNOWN_HOSTS) else ""
    if tool:
        named = words[1].split() if words[1:] else []
        if len(named) > 1 or (named and named[0] not in workspaces):
            raise _unknown(user, workspaces, named[0])
        return Entrance(named[0] if named else _default(user, workspaces, words[0]), tool, None)
    if len(workspaces) != 1 and words and words[0] in workspaces:
        return Entrance(words[0], "", words[1].rstrip() or None if words[1:] else None)
    return Entrance(_default(user, workspaces, words[0] if words else ""), "", command if words else None)


def _default(user: str, workspaces: Collection[str], word: str) -> str:
    if len(workspaces) == 1:
        return next(iter(workspaces))
    if user in workspaces:
        return user
    raise _unknown(user, workspaces, word)


def _unknown(user: str, workspaces: Collection[str], word: str) -> NotFound:
    if not workspaces:
        return NotFound(f"user {user!r} may open no workspace on this node; ask its operator")
    there = ", ".join(sorted(workspaces))
    if not word or word in (DIAL, KNOWN_HOSTS):
        return NotFound(f"which workspace? Its name comes first, as in: ssh ... WORKSPACE COMMAND. There are: {there}")
    return NotFound(f"no workspace {word[:64]!r} for user {user!r}; its name comes first. There are: {there}")


def job(entrance: Entrance, wish: Wish, by: Optional[str]) -> Dict[str, Any]:
    """Return the fields of the job that carries out a wish: it lives with its stream."""
    if entrance.command is None:
        argv: List[str] = [*SHELL]
    elif wish.terminal is None and SFTP.fullmatch(entrance.command):
        argv = [*SFTP_SERVER]
    else:
        argv = [*COMMAND, entrance.command]
    return {
        "id": secrets.token_hex(ID_BYTES), "argv": argv, "cwd": "", "env": wish.env, "stdin": "stream",
        "tty": None if wish.terminal is None else wish.terminal._asdict(), "name": "ssh", "timeout_s": None, "by": by,
    }  # fmt: skip


def kind_of(entrance: Entrance, wish: Wish) -> str:
    """Return one word for the audit record."""
    if entrance.tool:
        return entrance.tool.partition("-")[2]
    if entrance.command is None:
        return "shell"
    return "sftp" if wish.terminal is None and SFTP.fullmatch(entrance.command) else "command"
