"""What `ui.open` and `ui.serve` do: start a server, say how to get in, serve until the end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from codesmith import paths
from codesmith.cli import output
from codesmith.errors import BadArgument
from codesmith.nodes.registry import Registry
from codesmith.ui import browser, requirements

if TYPE_CHECKING:
    from codesmith.ui.server import Server

ORIGIN = r"https?://(\[::1\]|[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)(:[1-9][0-9]{0,4})?"
# Elsewhere browsers give pages no randomness of their own, without which nothing can be changed.
TRUSTED = r"https:.*|http://(127\.0\.0\.1|\[::1\]|([a-z0-9.-]+\.)?localhost)(:[0-9]+)?"
# A browser leaves these out of Host and Origin.
DEFAULT_PORT = {"http": ":80", "https": ":443"}


def open_pages(file: str, *, read_only: bool, prints: bool, idle_s: int, json: bool) -> dict[str, str]:
    """Serve on a free port of loopback and open a browser there, or print the address that lets one in."""
    requirements.check()
    from codesmith.ui import server

    if idle_s < 0:
        raise BadArgument(f"--idle takes a whole number from 0, not {idle_s}")
    one = server.on_port(_nodes_file(file), read_only=read_only, idle_s=float(idle_s))
    row = {"url": f"{one.access.origin}/", "file": str(one.access.file)}
    with one:
        if prints:
            row = {**row, "address": one.access.address}
        if json:
            output.show(row, json=True)
        elif prints:
            output.show_lines([row["address"]])
        if not prints and browser.open_file(one.access.file):
            output.say(f"in your browser: {row['url']}  (Ctrl-C ends it)")
        elif not prints:
            output.say(f"no browser found; open this file in one: {one.access.file}  (Ctrl-C ends it)")
        _run(one)
    return row


def serve_pages(socket: str, origin: str, file: str, *, read_only: bool, json: bool) -> dict[str, str]:
    """Serve on a Unix socket, which browsers reach as `origin`."""
    requirements.check()
    from codesmith.ui import server

    scheme = origin.partition(":")[0]
    if not re.fullmatch(ORIGIN, origin) or origin.endswith(DEFAULT_PORT[scheme]):
        raise BadArgument(f"--origin takes http://HOST:PORT or https://HOST, as browsers name it, not {origin!r}")
    if not re.fullmatch(TRUSTED, origin):
        raise BadArgument(f"--origin {origin}: browsers need https there; http is for 127.0.0.1, [::1] and localhost")
    path = paths.given(socket) if socket else paths.runtime_dir() / "ui.sock"
    one = server.on_socket(path, origin, _nodes_file(file), read_only=read_only)
    row = {"socket": str(path), "origin": origin, "file": str(one.access.file)}
    with one:
        output.show(row, json=json)
        _run(one)
    return row


def _run(one: Server) -> None:
    """Serve until the end, and say what the process still waits for."""
    one.run()
    if names := one.under_way():
        output.say(f"waiting for the end of {', '.join(names)}; Ctrl-C again leaves it as it is")


def _nodes_file(file: str) -> Path:
    path = paths.nodes_file(file)
    Registry.load(path)  # an error now and not in the browser
    return path
