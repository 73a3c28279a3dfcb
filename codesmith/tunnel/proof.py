"""Prove that the agent behind a stream is that of the right node: facts from the node's files, then an RPC answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from codesmith.errors import NotPrepared, Unreachable, WrongNode
from codesmith.tunnel.relay import LOST, Stream

AGENT_FOLDER = "/run/codesmith"
AGENT_SOCKET = f"{AGENT_FOLDER}/agent.sock"
# The socket of tokens.
SCOPED_SOCKET = f"{AGENT_FOLDER}/scoped.sock"
AGENT_FILE = "/usr/lib/codesmith/current/program"
NODE_FILE = "/etc/codesmith/node.json"
ANSWER_MAX_BYTES = 65536

# Each fact is 1, 0, or ? if it is unknown; then the reason is on standard error.
# In /proc/net/unix 00010000 marks a listening socket; the file of a socket outlives its listener.
FACTS_SCRIPT = f"""\
gone() {{ if test -e {AGENT_FOLDER}; then test -x {AGENT_FOLDER} && test ! -e {AGENT_SOCKET}; fi; }}
there() {{
  if said=$(ls -d "$1" 2>&1); then printf 1; return; fi
  case $said in
  *'No such file'* | *'Not a directory'*) printf 0; return 1 ;;
  *) printf '?'; printf '%s\\n' "$said" >&2; return 1 ;;
  esac
}}
there {AGENT_FILE}
grep -q ' 00010000 .* {AGENT_SOCKET}$' /proc/net/unix
case $? in 0) printf 1 ;; 1) printf 0 ;; *) printf '?' ;; esac
if test -w {AGENT_SOCKET}; then printf 1; else printf 0; fi
if gone >/dev/null 2>&1; then printf 1; else printf 0; fi
if there {NODE_FILE}; then echo; cat {NODE_FILE}; else echo; fi
exit 0
"""
FLAGS = 5

CALL = b'{"jsonrpc": "2.0", "id": 1, "method": "node.version", "params": {}}'
REQUEST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(CALL),
    CALL,
)


class TimedStream(Stream, Protocol):
    """A stream with a time limit."""

    def settimeout(self, seconds: float | None, /) -> None:
        """Make `recv` and `sendall` raise TimeoutError after so many seconds; None means never."""


@dataclass(frozen=True)
class Facts:
    """What the node's files say about its agent; the login may use the socket if `is_allowed`."""

    is_installed: bool
    is_listening: bool
    is_allowed: bool
    is_socket_removed: bool
    node_id: str
    # Why some facts are unknown; those are False.
    unseen: str = ""


@dataclass(frozen=True)
class Proof:
    """What the agent says about itself; `keeps_alive` if it keeps the stream open."""

    node_id: str
    agent_version: str
    keeps_alive: bool


def parse_facts(text: str, stderr: str = "") -> Facts:
    """Return the facts in the output of FACTS_SCRIPT; `stderr` has the reason for unknown ones."""
    flags, _, document = text.partition("\n")
    try:
        data = json.loads(document)
    except ValueError:
        data = None
    node_id = data.get("node_id", "") if isinstance(data, dict) else ""
    reason = (stderr.strip().splitlines() or ["the look was cut off"])[-1]
    has_node_file = flags[FLAGS - 1 :] == "1"
    is_whole = len(flags) == FLAGS and set(flags) <= {"0", "1"} and (not has_node_file or document.strip() != "")
    installed, listening, allowed, gone = (flag == "1" for flag in f"{flags:<{FLAGS}}"[:4])
    return Facts(installed, listening, allowed, gone, str(node_id), "" if is_whole else reason)


def ensure_prepared(facts: Facts, name: str, login: str) -> None:
    """Raise the reason, NotPrepared or Unreachable, if these facts rule out a working agent."""
    prepare = f"inv node.prepare --node {name}"
    if facts.unseen:
        raise Unreachable(
            f"cannot tell whether {name} has a CodeSmith agent: {facts.unseen}", hint=f"inv node.doctor --node {name}"
        )
    if not facts.is_installed or not facts.node_id:
        raise NotPrepared(f"{name} answers SSH but has no CodeSmith agent", hint=prepare)
    if not facts.is_listening:
        raise Unreachable(
            f"the agent on {name} is stopped: nothing listens at {AGENT_SOCKET}", hint=f"inv node.start --node {name}"
        )
    if facts.is_socket_removed:
        problem = f"the agent on {name} runs, but somebody has removed its socket {AGENT_SOCKET}"
        raise Unreachable(problem, hint=f"inv node.start --node {name}")
    if not facts.is_allowed:
        raise NotPrepared(
            f"the login {login} may not use the agent on {name}: it is not in the group codesmith-clients", hint=prepare
        )


def ask_version(stream: TimedStream, name: str, timeout_s: float) -> Proof:
    """Call node.version over the stream; Unreachable if no valid answer comes in time."""
    stream.settimeout(timeout_s)
    look = f"inv node.logs --node {name}"
    try:
        stream.sendall(REQUEST)
        head, body = _read_answer(stream)
        result = json.loads(body)["result"]
        proof = Proof(str(result["node_id"]), str(result["agent"]), b"connection: close" not in head.lower())
    except TimeoutError:
        raise Unreachable(f"the agent on {name} gave no answer within {timeout_s:.0f} s", hint=look) from None
    except LOST:
        raise Unreachable(f"the agent on {name} closed the connection before it answered", hint=look) from None
    except (ValueError, KeyError, TypeError):
        problem = f"what answers at {AGENT_SOCKET} on {name} is not a CodeSmith agent"
        raise Unreachable(problem, hint=f"inv node.prepare --node {name}") from None
    stream.settimeout(None)
    return proof


def ensure_expected(proof: Proof, expected_id: str, name: str) -> None:
    """Raise WrongNode if the agent gives another node id than the node's own file."""
    if proof.node_id != expected_id:
        raise WrongNode(
            f"the agent on {name} says it is node {proof.node_id}, but {NODE_FILE} there says {expected_id}",
            hint=f"restart the agent: inv node.prepare --node {name}",
        )


def _read_answer(stream: TimedStream) -> tuple[bytes, Any]:
    """Return head and body of one HTTP answer with a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(stream, data)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in [*head.lower().split(b"\r\n"), b"content-length:0"] if _is_length(line))
    while len(body) < length:
        body += _receive(stream, body)
    return head, body


def _is_length(line: bytes) -> bool:
    return line.startswith(b"content-length:")


def _receive(stream: TimedStream, so_far: bytes) -> bytes:
    data = stream.recv(32768)
    if not data:
        raise EOFError
    if len(so_far) > ANSWER_MAX_BYTES:
        raise ValueError("too long an answer")
    return data
