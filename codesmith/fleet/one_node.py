"""One call to the agent of one node: connect, call, show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypedDict, TypeVar

import codesmith
from codesmith.cli import output
from codesmith.cli.confirmation import confirm_loss

if TYPE_CHECKING:
    from codesmith.sdk.client import Client

T = TypeVar("T")


class OneNode(TypedDict, total=False):
    """The options of every task that calls the agent of one node."""

    node: str | None
    file: str | None
    json: bool


def connect(where: OneNode) -> Client:
    """Return a client of the chosen node; use it as a context manager. The first call opens the connection."""
    return codesmith.connect(where.get("node") or "", where.get("file") or "")


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
