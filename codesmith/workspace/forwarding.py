"""The work of the task workspace.forward: until Ctrl-C, in the background, a list, an end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from codesmith.cli import output
from codesmith.errors import BadArgument
from codesmith.fleet import selection
from codesmith.workspace import forward, forwards, listening
from codesmith.workspace.forward import Foreground, Port

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node
    from codesmith.tunnel.state import ForwardState
    from codesmith.workspace.task_options import ForwardTask

Rows = list[dict[str, Any]]
COLUMNS = ("workspace", "port", "address", "state", "reason")
# The label that has the ports of a workspace, as a template writes it: 3000,18000:8000.
PORTS_LABEL = "ports"


def run(name: str, words: Sequence[str], options: ForwardTask) -> Rows:
    """Do what the task workspace.forward does: forward, or show or end what is forwarded in the background."""
    is_json, any_port, opens = options.get("json", False), options.get("any", False), options.get("open", False)
    lists, ends, background = options.get("list", False), options.get("stop", False), options.get("background", False)
    chosen = (lists, ends, background, opens, any_port)
    if lists and not name:
        rows = look(selection.one(options) if options.get("node") else None, chosen=chosen)
        output.show(rows, ("node", *COLUMNS), json=is_json)
        return rows
    if not name:
        raise BadArgument("workspace.forward needs NAME", hint="inv workspace.list")
    node = selection.one(options)
    if lists or ends:
        rows = look_or_end(node, name, words, ends=ends, chosen=chosen)
    elif background:
        rows = start(node, name, ports_of(node, name, words), any_port=any_port, opens=opens)
    else:
        return hold(node, name, ports_of(node, name, words), any_port=any_port, opens=opens, json=is_json)
    output.show(rows, COLUMNS, json=is_json)
    return rows


def ports_of(node: Node, name: str, words: Sequence[str]) -> list[Port]:
    """Return the ports of a command line; without any, those in the label `ports` of the workspace."""
    from codesmith.sdk.client import Client

    if words:
        return forward.parse([str(word) for word in words])
    with Client(node) as client:
        label = client.workspace.get(name=name).labels.get(PORTS_LABEL, "")
    hint = f"inv workspace.forward {name} 3000"
    if not label.strip():
        raise BadArgument(f"workspace.forward needs a port: {name} has no label `{PORTS_LABEL}`", hint=hint)
    try:
        return forward.parse(label.replace(",", " ").split())
    except BadArgument as error:
        raise BadArgument(f"the label `{PORTS_LABEL}` of {name} is {label!r}: {error.problem}", hint=hint) from None


def look(node: Node | None, *, chosen: Sequence[bool]) -> Rows:
    """Return the background forwards of all workspaces, of a node or of all."""
    _ensure_alone(chosen)
    return [row(one) for one in forwards.list_forwards(node)]


def _ensure_alone(chosen: Sequence[bool]) -> None:
    if sum(chosen) > 1:
        raise BadArgument("workspace.forward takes --list or --stop alone")


def look_or_end(node: Node, name: str, words: Sequence[str], *, ends: bool, chosen: Sequence[bool]) -> Rows:
    """Return the background forwards of a workspace, or end those of the named ports; return those."""
    _ensure_alone(chosen)
    ports = forward.parse([str(word) for word in words])
    if not ends:
        insides = {port.inside for port in ports}
        return [row(one) for one in forwards.list_forwards(node, name) if not insides or one.port in insides]
    ended = [one for port in ports or [Port(0, 0)] for one in forwards.stop_forwards(node, name, port.inside)]
    if not ended:
        which = f"port {', '.join(str(port.inside) for port in ports)}" if ports else "no port"
        output.say(f"nothing to do: {which} of {name} is {'not ' if ports else ''}forwarded in the background")
    return [{**row(one), "state": "stopped"} for one in ended]


def row(state: ForwardState) -> dict[str, Any]:
    """Return a background forward as people and programs see it, its time as RFC 3339."""
    since = datetime.fromtimestamp(state.since, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {**state.to_dict(), "since": since}


def start(node: Node, name: str, ports: Sequence[Port], *, any_port: bool, opens: bool) -> Rows:
    """Start forwards in the background and return them; if one cannot start, those before it stay."""
    rows = [row(forwards.start_forward(node, name, one.inside, one.local, any_port=any_port)) for one in ports]
    if silent := listening.silent(node, name, [one.inside for one in ports]):
        output.say(listening.note(name, silent))
    if opens:
        open_browser(rows[0]["address"])
    return rows


def hold(node: Node, name: str, ports: Sequence[Port], *, any_port: bool, opens: bool, json: bool) -> Rows:
    """Forward ports until Ctrl-C; return what was forwarded."""
    forward.ensure_workspace(node, name)
    placed: list[Port] = []
    for port in ports:
        taken = {one.local for one in (*placed, *ports)} - {port.local}
        placed.append(forward.place(name, port, any_port=any_port, avoid=taken))
    held = Foreground(node, name, placed, output.say)
    rows = [{"workspace": name, "port": one.inside, "address": one.address, "state": "ready"} for one in placed]
    try:
        held.ensure_ready()
        if json:
            output.show(rows, json=True)
        else:
            for one in placed:
                output.write(f"http://{one.address} -> {name}:{one.inside}\n")
            output.say("until Ctrl-C; any process of this machine may use it")
        if opens:
            open_browser(placed[0].address)
        held.wait()
    except KeyboardInterrupt:
        pass
    finally:
        held.stop()
    return rows


def open_browser(address: str) -> None:
    """Open a port in the browser of this desktop; say so if there is none."""
    import webbrowser

    if not webbrowser.open(f"http://{address}"):
        output.warn([f"there is no browser here; open http://{address} in one"])
