"""Heads of HTTP requests and responses. What two programs might read in two ways is refused.

Nothing here touches a socket.
"""

from __future__ import annotations

import re
from typing import List, NamedTuple, Optional, Tuple

from agent.egress.refused import Refused
from agent.shared.host_lists import Host, parse_host

HEAD_MAX, HEADERS_MAX = 32 * 1024, 100
END = b"\r\n\r\n"
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e]+) HTTP/1\.([01])")
HEADER = re.compile(rb"(" + TOKEN + rb"):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\x00-\x08\x0a-\x1f\x7f]*)?")
# A line that ends otherwise than with CR and LF.
BARE_END = re.compile(rb"(?<!\r)\n|\r(?!\n)")
HOP_BY_HOP = {
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
    b"upgrade",
}  # fmt: skip
FRAMING = {b"content-length", b"transfer-encoding", b"host"}
CHUNKED = -1

Headers = List[Tuple[bytes, bytes]]


class Request(NamedTuple):
    """A request that was understood. `length`: bytes of the body that follow, or CHUNKED."""

    is_connect: bool
    host: Host
    port: int
    length: int = 0
    # What is sent to the server, without the body.
    head: bytes = b""


def parse_request(head: bytes) -> Request:
    """Return what a head, up to its empty line, asks for; Refused for anything odd."""
    lines = _lines(head)
    line = REQUEST_LINE.fullmatch(lines[0])
    if line is None:
        raise _bad("no request line of HTTP/1.0 or 1.1")
    method, target, minor = line.groups()
    headers = _headers(lines[1:])
    length = _length(headers, is_old=minor == b"0")
    if method == b"CONNECT":
        if length:
            raise _bad("a CONNECT has no body")
        return Request(True, *_authority(target.decode("ascii"), None))
    parts = re.fullmatch(r"http://([^/?#]*)(/[^#]*|\?[^#]*)?", target.decode("ascii"), re.IGNORECASE)
    if parts is None:
        raise _bad("this is a proxy: it takes CONNECT, SOCKS5, and requests for http://HOST/PATH")
    host, port = _authority(parts[1], 80)
    _check_host_header(headers, host, port, is_old=minor == b"0")
    path = parts[2] or "/"
    path = path if path.startswith("/") else f"/{path}"
    kept = [(name, value) for name, value in _end_to_end(headers) if name.lower() != b"host"]
    shown = f"[{host}]" if ":" in str(host) else str(host)
    kept.insert(0, (b"Host", f"{shown}:{port}".encode() if port != 80 else shown.encode()))
    first = b"%s %s HTTP/1.%s" % (method, path.encode("ascii"), minor)
    return Request(False, host, port, length, _joined(first, kept))


def parse_response(head: bytes) -> Tuple[int, bytes]:
    """Return the status of a response, and its head for the client, whose connection ends with it."""
    lines = _lines(head)
    line = STATUS_LINE.fullmatch(lines[0])
    if line is None:
        raise _bad("the server's response is no HTTP")
    status = int(line[1])
    return status, _joined(lines[0], _end_to_end(_headers(lines[1:])), is_last=status >= 200)


def is_broken(part: bytes) -> bool:
    """Return whether a part of a head has a line that ends oddly, so that nobody waits for the end of the head.

    What begins with LF, or ends with CR, may be good with what is beside it.
    """
    return bool(BARE_END.search(part, 1 if part.startswith(b"\n") else 0, len(part) - part.endswith(b"\r")))


def _lines(head: bytes) -> List[bytes]:
    if head.startswith(b"\n") or is_broken(head) or not head.endswith(END):
        raise _bad("lines end with CR and LF")
    lines = head[: -len(END)].split(b"\r\n")
    if len(lines) > HEADERS_MAX + 1:
        raise Refused(431, f"more than {HEADERS_MAX} headers")
    return lines


def _headers(lines: List[bytes]) -> Headers:
    """Return names and values; a continued line, and a space before the colon, are no header."""
    found = [HEADER.fullmatch(line) for line in lines]
    if not all(found):
        raise _bad("a header is not NAME: VALUE on one line")
    return [(match[1], match[2]) for match in found if match]


def _all(headers: Headers, name: bytes) -> List[bytes]:
    return [value for key, value in headers if key.lower() == name]


def _length(headers: Headers, is_old: bool) -> int:
    lengths, encodings = _all(headers, b"content-length"), _all(headers, b"transfer-encoding")
    if encodings:
        if lengths or is_old or len(encodings) > 1 or encodings[0].lower() != b"chunked":
            raise _bad("of Transfer-Encoding only chunked is taken, in HTTP/1.1, without Content-Length")
        return CHUNKED
    if not lengths:
        return 0
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,15}", lengths[0]):
        raise _bad("Content-Length is one number")
    return int(lengths[0])


def _end_to_end(headers: Headers) -> Headers:
    """Leave out what is for the next program on the way alone."""
    named = {name.strip().lower() for value in _all(headers, b"connection") for name in value.split(b",")}
    if named & FRAMING:
        raise _bad("Connection names a header that is not its own")
    return [(name, value) for name, value in headers if name.lower() not in HOP_BY_HOP | named]


def _joined(first: bytes, headers: Headers, is_last: bool = True) -> bytes:
    closing = [b"Connection: close"] if is_last else []
    return b"\r\n".join([first, *(b"%s: %s" % header for header in headers), *closing]) + END


def _check_host_header(headers: Headers, host: Host, port: int, is_old: bool) -> None:
    """A server may go by the header, we went by the target: they must be the same."""
    values = _all(headers, b"host")
    if not values and is_old:
        return
    try:
        is_same = len(values) == 1 and _authority(values[0].decode("ascii"), 80) == (host, port)
    except UnicodeDecodeError:
        is_same = False
    if not is_same:
        raise _bad("one Host header, which is the host of the URL")


def _authority(text: str, default: Optional[int]) -> Tuple[Host, int]:
    """Return host and port of HOST[:PORT] or [IPV6][:PORT]."""
    parts = re.fullmatch(r"(?:\[([^\[\]]*:[^\[\]]*)\]|([^:\[\]@]+))(?::([0-9]{1,5}))?", text)
    number = parts[3] if parts else None
    port = default if number is None else int(number)
    if parts is None or port is None or not 0 < port < 65536:
        raise _bad("no HOST:PORT")
    try:
        return parse_host(parts[1] or parts[2]), port
    except ValueError:
        raise _bad("no host name or address") from None


def _bad(problem: str) -> Refused:
    return Refused(400, problem)
