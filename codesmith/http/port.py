"""A port on loopback where a forwarder listens for one node, and the token that it requires."""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from codesmith.errors import CodeSmithError

HOST = "127.0.0.1"
TOKEN = r"[A-Za-z0-9_-]{16,512}"  # noqa: S105  (its grammar)


class Port(NamedTuple):
    """Where to connect. Each connection reads the token again, because each connect of the node creates a new one."""

    number: int
    token_file: Path

    @classmethod
    def parse(cls, url: str, token_file: str | PathLike[str]) -> Port:
        """Return the port of `http://127.0.0.1:7001`; CodeSmithError for other hosts, which would get the token."""
        found = re.fullmatch(r"http://(?:127\.0\.0\.1|localhost):([1-9][0-9]{0,4})/?", url)
        if found is None or int(found[1]) > 65535:
            problem = f"{url!r} is not the URL of an endpoint; expected http://{HOST}:PORT"
            raise CodeSmithError(problem, hint="inv node.status --json  # says where it is")
        if not str(token_file):
            raise CodeSmithError(
                f"{url} requires a token: name its file", hint="inv node.status --json  # says where it is"
            )
        return cls(int(found[1]), Path(token_file))

    @property
    def url(self) -> str:
        """The URL of the port."""
        return f"http://{HOST}:{self.number}"

    def read_token(self) -> str:
        """Return the token; CodeSmithError if there is none, and then nothing is sent to the port."""
        try:
            text = self.token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not text"
            raise CodeSmithError(f"cannot read the token of {self.url}: {self.token_file}: {why}",
                                 hint="inv node.status --json  # says where it is") from None  # fmt: skip
        if not re.fullmatch(TOKEN, text):
            raise CodeSmithError(f"{self.token_file} holds no token", hint="inv node.status --json  # says where it is")
        return text
