"""What a client is told instead of a connection, in HTTP and in SOCKS5."""

from __future__ import annotations

REASONS = {
    400: "Bad Request", 403: "Forbidden", 408: "Request Timeout", 431: "Request Header Fields Too Large",
    501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip
# Replies of SOCKS5 (RFC 1928).
FAILED, NOT_ALLOWED, UNREACHABLE, REFUSED = 1, 2, 4, 5
NO_SUCH_COMMAND, NO_SUCH_ADDRESS_TYPE = 7, 8


class Refused(Exception):
    """No connection: the status of HTTP, the reply of SOCKS5, a sentence, and the command that helps, if one does."""

    def __init__(self, status: int, problem: str, *, hint: str = "", reply: int = FAILED) -> None:
        super().__init__(problem)
        self.status, self.problem, self.hint, self.reply = status, problem, hint, reply

    def as_http(self) -> bytes:
        """Return the response. The hint is in the status line too: of a CONNECT many programs show only that."""
        text = f"{self.problem}\n" + (f"hint: {self.hint}\n" if self.hint else "")
        reason = REASONS[self.status] + (f" ({self.hint})" if self.hint else "")
        head = (
            f"HTTP/1.1 {self.status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(text.encode())}\r\nConnection: close\r\n\r\n"
        )
        return (head + text).encode("utf-8", "replace")
