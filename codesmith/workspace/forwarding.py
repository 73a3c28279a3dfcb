"""The work of the task workspace.forward: until Ctrl-C, in the background, a list, an end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from codesmith.cli import output
from codesmith.errors import BadArgument
from codesmith.fleet import selection
from codesmith.fleet.one_node import OneNode
from codesmith.workspace import forward, forwards, listening
from codesmith.workspace.forward import Foreground, Port

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node
    from codesmith.tunnel.state import ForwardState

Rows = list[dict[str, Any]]
COLUMNS = ("workspace", "port", "address", "state", "reason")


@dataclass(frozen=True)
class Wish:
    """What the options of workspace.forward ask for."""

    ports: Sequence[str]
    opens: bool
    background: bool
    any_port: bool
    lists: bool
    stops: bool

    @property
    def chosen(self) -> tuple[bool, ...]:
        """Which of the options that exclude --list and --stop are given."""
        return (self.lists, self.stops, self.background, self.opens, self.any_port)


def run(where: OneNode, name: str | None, wish: Wish) -> Rows:
    """Do what the options ask for, show the forwards, and return them."""
    is_json = where.get("json", False)
    if wish.lists and not name:
        rows = look(selection.one(where) if where.get("node") else None, chosen=wish.chosen)
        output.show(rows, ("node", *COLUMNS), json=is_json)
        return rows
    if not name:
        raise BadArgument("workspace.forward needs NAME", hint="inv workspace.list")
    node = selection.one(where)
    if wish.lists or wish.stops:
        rows = look_or_end(node, name, wish.ports, ends=wish.stops, chosen=wish.chosen)
    else:
        ports = read_ports(name, wish.ports)
        if not wish.background:
            return hold(node, name, ports, any_port=wish.any_port, opens=wish.opens, json=is_json)
        rows = start(node, name, ports, any_port=wish.any_port, opens=wish.opens)
    output.show(rows, COLUMNS, json=is_json)
    return rows


def read_ports(name: str, words: Sequence[str]) -> list[Port]:
    """Return the ports of a command line; BadArgument if there are none."""
    if not words:
        raise BadArgument("workspace.forward needs a port", hint=f"inv workspace.forward {name} 3000")
    return forward.parse([str(word) for word in words])


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
