"""Prove that a node is prepared: its agent answers through SSH, with the expected build and node id."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from codesmith.bootstrap import layout
from codesmith.errors import Unproven, WrongNode
from codesmith.ssh.script import name_of, run_script

if TYPE_CHECKING:
    import paramiko

    from codesmith.ssh.connection import Connection

ANSWER_TIMEOUT_S = 20
BODY = b'{"jsonrpc":"2.0","id":1,"method":"node.version","params":{}}'
REQUEST = (
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
DIAL = f"exec /usr/bin/python3 -I -S {layout.program_of(layout.CURRENT)} dial"

LAST_LINES = (
    f"journalctl --unit={layout.AGENT_SERVICE} --lines=5 --output=cat --no-pager _SYSTEMD_UNIT={layout.AGENT_SERVICE}"
)


def prove(connection: Connection, build: str) -> Mapping[str, Any]:
    """Return the result of node.version, called as the login of the connection; Unproven unless `build` answers."""
    name = name_of(connection)
    answer = _ask_version(connection)
    try:
        found = json.loads(answer.partition(b"\r\n\r\n")[2])["result"]
    except (ValueError, KeyError, TypeError) as error:
        shown = answer.decode(errors="replace").strip()[-300:] or "it is empty"
        raise _unproven(name, f"the agent's answer to node.version is malformed: {shown}") from error
    if not isinstance(found, dict) or found.get("build") != build:
        raise _unproven(name, f"another build than the one just installed answers: {found}")
    return found


def expect_node(name: str, found: Mapping[str, Any], node_id: str) -> None:
    """Return if the node `node_id` answered; else WrongNode."""
    if found.get("node_id") != node_id:
        problem = f"node {name}: the agent says it is {found.get('node_id')}, but this node is {node_id}"
        raise WrongNode(problem, hint=f"inv node.restart --node {name}")


def _ask_version(connection: Connection) -> bytes:
    import paramiko

    try:
        channel = connection.transport.open_streamlocal(layout.SOCKET, timeout=ANSWER_TIMEOUT_S)
        return _exchange(channel)
    except paramiko.ChannelException:
        # sshd forbids forwarding to Unix sockets, or the socket refuses the login: dial reports which.
        done = run_script(connection, DIAL, REQUEST, timeout_s=ANSWER_TIMEOUT_S)
        return done.stdout or done.stderr.encode()
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise _unproven(name_of(connection), f"its agent does not answer ({_last_words(connection)})") from error


def _last_words(connection: Connection) -> str:
    """Return the last line that the agent wrote to the journal."""
    done = run_script(connection, LAST_LINES, root=True, timeout_s=ANSWER_TIMEOUT_S)
    if done.status:
        problem = (done.stderr.splitlines() or [f"status {done.status}"])[-1]
        return f"its log cannot be read: journalctl: {problem}"
    lines = [line for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it logged nothing"


def _exchange(channel: paramiko.Channel) -> bytes:
    channel.settimeout(ANSWER_TIMEOUT_S)
    try:
        channel.sendall(REQUEST)
        return b"".join(iter(lambda: channel.recv(65536), b""))
    finally:
        channel.close()


def _unproven(name: str, reason: str) -> Unproven:
    problem = f"node {name}: everything is installed, but {reason}"
    return Unproven(problem, hint=f"on the node: journalctl -u {layout.AGENT_SERVICE} -n 50")
