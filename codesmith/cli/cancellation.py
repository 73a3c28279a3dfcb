"""What Ctrl-C leaves: what goes on at a node, and the command that shows it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from codesmith.cli.cells import escape
from codesmith.errors import CallInterrupted, Cancelled, Interruption

# The command that shows what a method has done, or ends what nothing shows, by method or else by its prefix; words in
# braces are its parameters.
LOOKS = {
    "file": "inv file.stat {workspace} {path}",
    "job": "inv job.get {workspace} {id}",
    "job.delete": "inv job.list {workspace}",
    "job.start": "inv job.list {workspace}",
    "repo": "inv repo.get {workspace} {name}",
    "repo.clone": "inv repo.list {workspace}",
    "repo.delete": "inv repo.list {workspace}",
    "repo.init": "inv repo.list {workspace}",
    "sandbox": "inv sandbox.get {workspace}",
    "token": "inv token.list",
    "user": "inv user.get {name}",
    "user.delete": "inv user.list",
    "workspace": "inv workspace.get {name}",
    "workspace.delete": "inv workspace.list",
    "workspace.exec": "inv workspace.stop {name}",
}


def cancelled(interrupt: KeyboardInterrupt, hint: str = "") -> Cancelled:
    """Return the error that Ctrl-C ends a command line with; `hint` is the task's own."""
    if isinstance(interrupt, CallInterrupted):
        method, params = interrupt.method, interrupt.params
        of = next((f" of {params[word]}" for word in ("id", "path", "name", "workspace") if params.get(word)), "")
        what = "this ends it, with all that runs there: " if method == "workspace.exec" else ""
        return Cancelled(f"cancelled: {interrupt.node} goes on with {method}{of}", hint=what + look(method, params))
    if isinstance(interrupt, Interruption):
        return Cancelled(f"cancelled: {interrupt.problem}", hint=interrupt.hint)
    return Cancelled(escape(str(interrupt)) or "cancelled", hint=hint)


def look(method: str, params: Mapping[str, Any]) -> str:
    """Return the command that shows what a method has done, or ends it."""
    command = LOOKS.get(method) or LOOKS.get(method.partition(".")[0], "")
    try:
        return command.format_map({word: shlex.quote(str(value)) for word, value in params.items()}) or "inv audit.list"
    except KeyError:
        return "inv audit.list"
