"""The checks of one node: the connection step by step, then what the probe found."""

from __future__ import annotations

import shlex
import stat
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

from codesmith.doctor.finding import Finding, Reporter
from codesmith.errors import AuthenticationFailed, CodeSmithError, HostKeyChanged, HostKeyUnknown, LookFailed

if TYPE_CHECKING:
    from pathlib import Path

    from codesmith.nodes.registry import Node
    from codesmith.ssh.connection import Connection
    from codesmith.ssh.target import Target

CONNECT_TIMEOUT_S = 10.0


def check_node(node: Node) -> list[Finding]:
    """Return the findings about a node; an error on the way is a finding too and is not raised."""
    return list(_check(node))


def _check(node: Node) -> Iterator[Finding]:
    from codesmith.ssh.target import resolve

    say = Reporter(node.name)
    yield _endpoint(say, node)
    if node.identity_path:
        yield _identity(say, node.identity_path)
    try:
        target = resolve(node)
    except CodeSmithError as error:
        yield say.error("ssh.config", error, "inv node.list")
        return
    yield say.ok("ssh.config", str(target))
    yield from _check_connection(say, node, target)


def _check_connection(say: Reporter, node: Node, target: Target) -> Iterator[Finding]:
    from codesmith.ssh.connect import connect

    try:
        connection = connect(target, timeout_s=CONNECT_TIMEOUT_S)
    except CodeSmithError as error:
        yield from _connect_failed(say, target, error)
        return
    with connection:
        yield from _went_well(say, target)
        yield _carrier(say, target, connection.carrier)
        yield from _check_node(say, node, connection)


def _went_well(say: Reporter, target: Target, *, before: str = "") -> Iterator[Finding]:
    """Yield the steps of the connection that went well, in order, up to the code `before`."""
    details = {
        "ssh.reach": f"{target.host}:{target.port} answers",
        "ssh.host-key": f"pinned for {target.key_name}",
        "ssh.login": f"{target.user} is let in",
    }
    for code, detail in details.items():
        if code == before:
            return
        yield say.ok(code, detail)


def _carrier(say: Reporter, target: Target, carrier: str) -> Finding:
    from codesmith.ssh.connect import recall

    if target.carrier:
        return say.ok("ssh.carrier", f"{carrier}, as nodes.yaml says")
    why = recall(target) if carrier == "openssh" else ""
    return say.ok("ssh.carrier", f"{carrier}; fabric ended with: {why}" if why else carrier)


def _connect_failed(say: Reporter, target: Target, error: CodeSmithError) -> Iterator[Finding]:
    code = "ssh.reach"
    if isinstance(error, (HostKeyUnknown, HostKeyChanged)):
        code = "ssh.host-key"
    elif isinstance(error, AuthenticationFailed):
        code = "ssh.login"
    yield from _went_well(say, target, before=code)
    yield say.error(code, error, target.ssh_line("ssh -v", "true"))


def _check_node(say: Reporter, node: Node, connection: Connection) -> Iterator[Finding]:
    from codesmith.bootstrap.layout import desired_for
    from codesmith.bootstrap.pack import pack
    from codesmith.doctor.judge import judge
    from codesmith.doctor.look import look
    from codesmith.ssh.target import target_of
    from codesmith.tunnel import identity

    try:
        desired = desired_for(pack(), str(uuid.uuid4()), node.git_hosts)
        seen = look(connection, desired)
        known_id = identity.recall(node)
    except LookFailed as error:
        yield say.ok("ssh.shell", "runs scripts")
        yield say.error("node.look", error, target_of(connection).ssh_line("ssh", "sudo -n true; echo works"))
        return
    except AuthenticationFailed as error:
        yield say.error("ssh.login", error, target_of(connection).ssh_line("ssh -t"))
        return
    except CodeSmithError as error:
        yield say.error("ssh.shell", error, target_of(connection).ssh_line("ssh", "echo works"))
        return
    yield say.ok("ssh.shell", "runs scripts")
    yield from judge(node.name, seen, desired, known_id)


def _identity(say: Reporter, path: Path) -> Finding:
    quoted = shlex.quote(str(path))
    public = path.with_name(f"{path.name}.pub")
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        with path.open("rb"):
            pass
    except OSError as error:
        if isinstance(error, FileNotFoundError) and public.is_file():
            return say.ok("ssh.identity", f"{public}; an ssh agent must hold the private key")
        return say.fail(
            "ssh.identity", f"{path}: {error.strerror}", f"ls -l {quoted}; or correct `identity:` in nodes.yaml"
        )
    if path.suffix == ".pub":
        return say.ok("ssh.identity", f"{path}; an ssh agent must hold the private key")
    if mode & 0o077:
        return say.warn("ssh.identity", f"{path} has mode {mode:04o}: others can use it", f"chmod 600 {quoted}")
    return say.ok("ssh.identity", str(path))


def _endpoint(say: Reporter, node: Node) -> Finding:
    from codesmith.tunnel import control

    option = f"--node {shlex.quote(node.name)}"
    try:
        states = [
            state for state in control.status() if (state.name, state.registry) == (node.name, str(node.registry))
        ]
    except CodeSmithError as error:
        return say.error("endpoint.state", error, f"inv node.status {option}")
    if not states:
        return say.ok("endpoint.state", "none; the first call makes it")
    state = states[0]
    if state.state == "ready" and state.key == node.key:
        return say.ok("endpoint.state", f"ready: {state.endpoint}")
    if state.key != node.key:
        detail = "it leads to the address that nodes.yaml had before"
        return say.warn("endpoint.state", detail, f"inv node.connect {option}")
    return say.warn(
        "endpoint.state", f"{state.state}: {state.reason or 'no answer yet'}", state.hint or f"inv node.status {option}"
    )
