"""Who may use the pages: a one-time token in a file of the operator, exchanged for a secret that the page keeps."""

from __future__ import annotations

import hashlib
import html
import os
import secrets
from pathlib import Path

from codesmith.paths import writing

TOKEN_BYTES = 32
PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={url}">
<title>CodeSmith</title>
<p><a href="{url}">Open CodeSmith</a>
"""


class Access:
    """The origin of the pages, the token that lets somebody in once, and the secrets of pages that are in.

    The token stands in a file of mode 0600 that redirects a browser: never on a command line, where `ps` shows it.
    With `renews` each used token is followed by a new one, else the file is gone after use.
    """

    def __init__(self, origin: str, file: Path, *, renews: bool = False) -> None:
        self.origin, self.file, self._renews = origin, file, renews
        self.host = origin.partition("://")[2]
        self._token: str | None = None
        self._pages: set[bytes] = set()

    @property
    def address(self) -> str:
        """Return the address that lets a browser in once; the token is behind the #, so it stays in the browser."""
        return f"{self.origin}/#enter={self._token}"

    def offer(self) -> None:
        """Make a new token and write the file that leads to it."""
        self._token = secrets.token_urlsafe(TOKEN_BYTES)
        temporary = self.file.with_name(f".{self.file.name}.{secrets.token_hex(4)}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with writing(self.file):
            with os.fdopen(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
                file.write(PAGE.format(url=html.escape(self.address)))
            temporary.replace(self.file)

    def enter(self, token: str) -> str | None:
        """Exchange the token for a page's secret; None if it is another one, or was used before."""
        expected = self._token
        if expected is None or not secrets.compare_digest(_digest(token), _digest(expected)):
            return None
        self._token = None
        self.file.unlink(missing_ok=True)
        if self._renews:
            self.offer()
        secret = secrets.token_urlsafe(TOKEN_BYTES)
        self._pages.add(_digest(secret))
        return secret

    def is_page(self, secret: str) -> bool:
        """Tell whether a page has this secret."""
        # Of digests, the time of the comparison tells nothing.
        return _digest(secret) in self._pages

    def close(self) -> None:
        """End all access, and remove the file."""
        self._token = None
        self._pages.clear()
        self.file.unlink(missing_ok=True)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
