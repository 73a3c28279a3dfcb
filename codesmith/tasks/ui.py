"""The admin UI: pages for a browser."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

from invoke.context import Context

from codesmith.cli.task import task

READ_ONLY = {"read_only": "Show everything and change nothing (default: changes are possible)."}


@task(
    name="open",
    help={
        **READ_ONLY,
        "print": "Print an address, which lets one browser in, and start none (default: start a browser).",
        "idle": "End after so many seconds without an open page; 0 is never (default: 900).",
    },
)
def open_(
    c: Context,
    read_only: bool = False,
    print: bool = False,  # noqa: A002  the option's name
    idle: int = 900,
    file: str = "",
    json: bool = False,
) -> dict[str, str]:
    """Show the nodes in a browser, until Ctrl-C or nobody has used the pages for a while.

    Example: ui.open --read-only
    """
    from codesmith.ui import commands

    return commands.open_pages(file, read_only=read_only, prints=print, idle_s=idle, json=json)


@task(
    help={
        **READ_ONLY,
        "socket": "Path of the Unix socket (default: ui.sock beside the sockets of nodes).",
        "origin": "Where browsers reach it, as https://HOST, or http:// on this machine alone (default: http://127.0.0.1:8790).",
    },
)
def serve(
    c: Context,
    socket: str | None = None,
    origin: str = "http://127.0.0.1:8790",
    read_only: bool = False,
    file: str = "",
    json: bool = False,
) -> dict[str, str]:
    """Serve the pages on a Unix socket, for `ssh -L` or a proxy, until Ctrl-C.

    Example: ui.serve --read-only
    """
    from codesmith.ui import commands

    return commands.serve_pages(socket or "", origin, file, read_only=read_only, json=json)
