"""The ProxyCommand of ssh: dial a workspace at the node's endpoint, pin its host key, and give ssh the connection.

    python3 -I -S proxy_command.py ENDPOINT FOLDER NODE ALIAS [TOKEN_FILE]

ssh starts it for each connection, so it imports nothing of CodeSmith and as little as possible else: `_socket` and not
`socket`, and most modules only on the way that needs them. ENDPOINT is the path of a Unix socket, or 127.0.0.1:PORT
with a TOKEN_FILE. FOLDER has the pins, and NODE.json: how the endpoint is opened, and the program that hints name;
beside it is the operator's key.

With ProxyUseFdpass ssh takes a connected socket from here and speaks on it itself: no byte is copied by this process,
which ends (ssh_config(5)). Other programs that read the same configuration give it pipes, and it copies.
"""

from __future__ import annotations

import _socket
import _thread
import os
import sys

NAME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
KEY_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-@.")
HEX = frozenset("0123456789abcdef")
DOMAIN = ".codesmith"
# The first call may have to start the runtime of the workspace.
ANSWER_S = 90.0
HEAD_BYTES_MAX = 64 << 10
PEEK_BYTES = 8 << 10
BODY_BYTES_MAX = 1 << 20
CHUNK_BYTES = 256 << 10
SOCKET, KIND = 0o140000, 0o170000


class Problem(Exception):
    """Why there is no connection, and what to do next."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.problem, self.hint = problem, hint


class Ended(OSError):
    """The connection ended, and no byte of an answer came."""


class Endpoint:
    """A connection to the node's endpoint, and what has been read of an answer's body."""

    def __init__(self, address: str, token_file: str) -> None:
        self._headers = "Host: localhost\r\n"
        if token_file:
            host, _, port = address.rpartition(":")
            with open(token_file, encoding="ascii") as file:
                self._headers = f"Host: {address}\r\nAuthorization: Bearer {file.read().strip()}\r\n"
            self.socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
            self.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            self.socket.connect((host, int(port)))
        else:
            self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            self.socket.connect(address)
        self.socket.settimeout(ANSWER_S)
        self.stays_open = True

    def send(self, target: str, headers: str, body: str = "") -> int:
        """Send one request and return the status of its answer; what follows the headers is not read yet."""
        length = f"Content-Length: {len(body)}\r\n"
        request = f"POST {target} HTTP/1.1\r\n{self._headers}{headers}{length}\r\n{body}".encode("ascii")
        try:
            self.socket.sendall(request)
            self._received(self.socket.recv(1, _socket.MSG_PEEK))
        except ConnectionError as error:
            raise Ended(str(error)) from None
        lines = self._head().decode("latin-1").lower().split("\r\n")
        self._fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        self.stays_open = self._fields.get("connection", "") != "close"
        return int(lines[0].split(" ")[1])

    def body(self) -> bytes:
        """Return the body of the answer."""
        size = int(self._fields.get("content-length", "0"))
        if size > BODY_BYTES_MAX:
            raise OSError("the answer is too long")
        data = b""
        while len(data) < size:
            data += self._received(self.socket.recv(size - len(data)))
        return data

    def _head(self) -> bytes:
        """Return the status line and the headers, and read no byte of what follows: it may be SSH."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            ahead = head + self._received(self.socket.recv(PEEK_BYTES, _socket.MSG_PEEK))
            end = ahead.find(b"\r\n\r\n")
            size = len(ahead) if end < 0 else end + 4
            if size > HEAD_BYTES_MAX:
                raise OSError("the headers of the answer are too long")
            head += self.socket.recv(size - len(head))
        return head

    def _received(self, data: bytes) -> bytes:
        if not data:
            raise ConnectionError("the connection ended before the answer")
        return data


def main(address: str, folder: str, node: str, alias: str, token_file: str = "") -> int:
    """Connect ssh to the workspace that the alias names, and return an exit code."""
    alias = alias.lower()
    workspace = alias[: -len(f".{node}{DOMAIN}")]
    if not alias.endswith(f".{node}{DOMAIN}") or not workspace or not NAME_CHARS.issuperset(workspace):
        raise Problem(f"{alias!r} is no workspace: its name is missing before .{node}{DOMAIN}", "inv workspace.list")
    try:
        with open(f"{folder}/../id_ed25519.pub", encoding="ascii") as file:
            public_key = " ".join(file.read().split()[:2])
    except OSError as error:
        raise Problem(f"{error.filename}: {error.strerror}", "inv ssh.config --install") from None
    params = f'{{"name":"{workspace}","public_key":"{public_key}"}}'
    request = f'{{"jsonrpc":"2.0","id":1,"method":"workspace.dial","params":{params}}}'
    try:
        stream = dial(request, address, folder, node, alias, token_file)
    except Ended:
        # An agent that restarts ends the connections that were opened ahead. Another token opens another stream.
        stream = dial(request, address, folder, node, alias, token_file)
    # A socket with a time limit is one that does not block, for ssh too.
    stream.settimeout(None)
    if os.fstat(1).st_mode & KIND != SOCKET:
        return relay(stream)
    give(stream)
    return 0


def dial(request: str, address: str, folder: str, node: str, alias: str, token_file: str) -> _socket.socket:
    """Return a connection that has become a stream to the workspace, whose host key is pinned."""
    endpoint = connect(address, folder, node, token_file)
    status = endpoint.send("/", "Content-Type: application/json\r\n", request)
    token, host_keys = read_answer(status, endpoint.body(), node)
    pin(folder, alias, host_keys)
    if not endpoint.stays_open:
        endpoint = Endpoint(address, token_file)
    upgrade = f"Connection: Upgrade\r\nUpgrade: codesmith-stream\r\nCodeSmith-Token: {token}\r\n"
    status = endpoint.send("/stream", upgrade)
    if status != 101:
        raise refusal(status, endpoint.body(), node)
    return endpoint.socket


def connect(address: str, folder: str, node: str, token_file: str) -> Endpoint:
    """Return a connection to the endpoint; open the endpoint first if it is not there, as every call of ours does."""
    try:
        return Endpoint(address, token_file)
    except (FileNotFoundError, ConnectionRefusedError):
        pass
    import json
    import subprocess

    hint = f"inv node.connect --node {node}"
    try:
        with open(f"{folder}/{node}.json", encoding="utf-8") as file:
            how = json.load(file)
        given = {name: value for name, value in how["environment"].items() if value is not None}
        kept = {name: value for name, value in os.environ.items() if name not in how["environment"]}
        # Its standard input and output are ours, which carry SSH.
        done = subprocess.run(
            how["start"], env={**kept, **given}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise Problem(f"the endpoint of {node} is not open, and cannot be opened: {error}", hint) from None
    if done.returncode:
        raise SystemExit(1)  # it has said why
    try:
        return Endpoint(address, token_file)
    except OSError as error:
        problem = f"the endpoint of {node} is not at {address}: {error.strerror}"
        raise Problem(problem, "inv ssh.config --install  # the node is reached in another way now") from None


def read_answer(status: int, body: bytes, node: str) -> tuple[str, list[str]]:
    """Return token and host keys of an answer to workspace.dial; Problem for any other answer."""
    token, host_keys = cut_out(body.decode("utf-8", "replace"))
    if not token:
        token, host_keys = parse(status, body, node)
    words = [key.split(" ") for key in host_keys]
    is_plain = all(len(pair) == 2 and all(pair) and KEY_CHARS.issuperset("".join(pair)) for pair in words)
    if words and is_plain and len(token) == 64 and HEX.issuperset(token):
        return token, host_keys
    raise Problem(f"{node} answered workspace.dial with something else", f"inv node.prepare --node {node}")


def cut_out(text: str) -> tuple[str, list[str]]:
    """Return token and host keys of an answer as our agent writes it; "" for any other.

    `json` would take as long to import as Python to start. Within strings quotes are escaped, so these names stand
    nowhere else in the text.
    """
    token = text.partition('"token":"')[2].partition('"')[0]
    keys = text.partition('"host_keys":["')[2].partition('"]')[0]
    return token, keys.split('","')


def parse(status: int, body: bytes, node: str) -> tuple[str, list[str]]:
    """Return token and host keys of an answer; Problem if it is an error, or nothing that is known."""
    import json

    try:
        result = json.loads(body)["result"]
        return str(result["token"]), [str(key) for key in result["host_keys"]]
    except (ValueError, KeyError, TypeError):
        raise refusal(status, body, node) from None


def refusal(status: int, body: bytes, node: str) -> Problem:
    """Return the error that an answer has: of the agent, or of the forwarder."""
    import json

    try:
        error = json.loads(body)["error"]
        data = error.get("data", error)
        return Problem(str(error.get("message") or error["problem"]), str(data.get("hint", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Problem(f"{node} answered with HTTP {status}", f"inv node.status --node {node}")


def pin(folder: str, alias: str, host_keys: list[str]) -> None:
    """Make `host_keys` the only ones that ssh accepts for the alias. The runtime has a new one each time it starts."""
    path = f"{folder}/known_hosts"
    wanted = [f"{alias} {key}" for key in host_keys]
    if [line for line in read_lines(path) if line.split(" ")[0] == alias] == wanted:
        return
    import fcntl

    with open(f"{path}.lock", "a", opener=private) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        others = [line for line in read_lines(path) if line.split(" ")[0] != alias]
        with open(f"{path}.new", "w", encoding="ascii", opener=private) as file:
            file.write("".join(f"{line}\n" for line in [*others, *wanted]))
        os.replace(f"{path}.new", path)  # noqa: PTH105  pathlib takes longer to import than the rest


def read_lines(path: str) -> list[str]:
    """Return the lines of a file; none if it is missing."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def private(path: str, flags: int) -> int:
    """Open a file that only its owner can read."""
    return os.open(path, flags, 0o600)


def give(stream: _socket.socket) -> None:
    """Pass the connection to ssh, which waits for it at the other end of our standard output."""
    descriptor = stream.fileno().to_bytes(4, sys.byteorder)
    ssh = _socket.socket(fileno=1)
    ssh.sendmsg([b"\0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptor)])
    ssh.detach()


def relay(stream: _socket.socket) -> int:
    """Copy between a client that takes no descriptor and the stream, until the stream ends."""
    _thread.start_new_thread(send_input, (stream,))
    try:
        data, is_silent = stream.recv(CHUNK_BYTES), True
        while data:
            is_silent, view = False, memoryview(data)
            while view:
                view = view[os.write(1, view) :]
            data = stream.recv(CHUNK_BYTES)
    except OSError:
        return 1  # the stream was reset, or ssh has ended
    if is_silent:
        raise Problem("the workspace ended the connection at once", "inv node.logs")
    return 0


def send_input(stream: _socket.socket) -> None:
    """Send what ssh writes, then the end of it."""
    try:
        while data := os.read(0, CHUNK_BYTES):
            stream.sendall(data)
        stream.shutdown(_socket.SHUT_WR)
    except OSError:
        pass  # the stream has ended


def show(error: Problem, program: str = "inv") -> None:
    """Write an error for people; nothing in it controls their terminal."""
    hint = program + error.hint[len("inv") :] if error.hint.startswith("inv ") else error.hint
    for what, text in (("error", error.problem), ("hint", hint)):
        if text:
            os.write(2, f"{what}: {''.join(c if c.isprintable() else '?' for c in text)}\n".encode(errors="replace"))


def program_of(_address: str, folder: str, node: str, *_: str) -> str:
    """Return the program of ours that wrote the configuration: `inv` or `codesmith`."""
    import json

    try:
        with open(f"{folder}/{node}.json", encoding="utf-8") as file:
            return str(json.load(file)["program"])
    except (OSError, ValueError, KeyError):
        return "inv"


if __name__ == "__main__":
    code = 1
    try:
        code = main(*sys.argv[1:])
    except Problem as problem:
        show(problem, program_of(*sys.argv[1:]))
    except OSError as broken:
        show(Problem(f"no answer from the endpoint: {broken}", "inv node.status"), program_of(*sys.argv[1:]))
    except (SystemExit, KeyboardInterrupt):
        pass
    # At once: the other thread of `relay` still waits for its client.
    os._exit(code)
