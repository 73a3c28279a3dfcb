"""One call to the agent of one node: connect, call, show."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypedDict, TypeVar

import codesmith
from codesmith.cli import output
from codesmith.cli.confirmation import confirm_loss
from codesmith.cli.usage_errors import close
from codesmith.errors import AgentRefused, CodeSmithError

if TYPE_CHECKING:
    from codesmith.sdk.client import Client

T = TypeVar("T")
# What an agent says of a name that is not there.
MISSING = re.compile(r"no (workspace|user) '([^']*)' on this node")


class OneNode(TypedDict, total=False):
    """The options of every task that calls the agent of one node."""

    node: str | None
    file: str | None
    json: bool


def client_of(where: OneNode) -> Client:
    """Return a client of the chosen node; use it as a context manager. The first call opens the connection."""
    return codesmith.connect(where.get("node") or "", where.get("file") or "")


@contextmanager
def connect(where: OneNode) -> Iterator[Client]:
    """Give a client of the chosen node; a name that is not there gets the likely one as its hint."""
    with client_of(where) as client:
        try:
            yield client
        except AgentRefused as error:
            raise _with_likely_name(client, error) from None


def _with_likely_name(client: Client, error: AgentRefused) -> AgentRefused:
    """Return the error about a workspace or user that is not there, with the name that could have been meant."""
    missing = MISSING.match(error.problem) if error.rpc_kind == "not_found" else None
    if missing is None:
        return error
    kind, name = missing.groups()
    try:
        names = [one.name for one in (client.workspace.list() if kind == "workspace" else client.user.list())]
    except CodeSmithError:
        return error
    likely = close(name, names)
    if not likely:
        return error
    hint = f"did you mean {likely[0]}? All of them: inv {kind}.list"
    return AgentRefused(error.problem, code=error.rpc_code, data={**error.data, "hint": hint})


def call(where: OneNode, ask: Callable[[Client], T], columns: Sequence[str] = ()) -> T:
    """Give `ask` a client of the chosen node, show what it returns, and return that.

    `columns` picks the fields that people see, as in `output.show`.
    """
    with connect(where) as client:
        result = ask(client)
    show(where, result, columns)
    return result


def destroy(
    where: OneNode, what: str, look: Callable[[Client], Sequence[str]], ask: Callable[[Client], T], *, yes: bool
) -> T:
    """Like `call`, for what deletes `what`: unless `yes`, say what `look` finds that is lost, and ask first."""
    with connect(where) as client:
        if not yes:
            confirm_loss(what, look(client))
        result = ask(client)
    show(where, result)
    return result


def show(where: OneNode, result: object, columns: Sequence[str] = ()) -> None:
    """Show a result as the options ask for it."""
    output.show(result, columns, json=where.get("json", False))
