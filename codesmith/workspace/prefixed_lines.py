"""Lines of several commands on the standard streams of this process: each whole, behind the name of its command."""

from __future__ import annotations

import sys
import threading

from codesmith.cli import terminal
from codesmith.cli.cells import escape
from codesmith.workspace.console import Outputs

# A line that is longer is shown as several: a command that never ends one must not fill the memory.
LINE_BYTES_MAX = 1 << 20


class Paper:
    """Standard output and standard error, on which the commands of several threads write line by line."""

    def __init__(self) -> None:
        self._lock, self._outputs = threading.Lock(), Outputs()
        streams = {"stdout": sys.stdout, "stderr": sys.stderr}
        self._is_terminal = {name: terminal.is_terminal(terminal.descriptor_of(one)) for name, one in streams.items()}

    def put(self, stream: str, prefix: str, lines: list[bytes]) -> None:
        """Write whole lines behind a prefix, in one piece; console.NobodyReads if nobody does.

        A terminal gets them without control characters, of a line that was overwritten the last state.
        """
        if self._is_terminal[stream]:
            lines = [_shown(line) for line in lines]
        text = b"".join(prefix.encode() + b": " + line + b"\n" for line in lines)
        with self._lock:
            self._outputs.write(stream, text)


class PrefixedLines:
    """What one command writes, cut into lines."""

    def __init__(self, paper: Paper, prefix: str) -> None:
        self._paper, self._prefix = paper, prefix
        self._begun = {"stdout": b"", "stderr": b""}

    def write(self, stream: str, data: memoryview | bytes) -> None:
        """Take a piece of the output, and write the lines that it ends."""
        *lines, rest = (self._begun[stream] + bytes(data)).split(b"\n")
        while len(rest) > LINE_BYTES_MAX:
            lines.append(rest[:LINE_BYTES_MAX])
            rest = rest[LINE_BYTES_MAX:]
        self._begun[stream] = rest
        if lines:
            self._paper.put(stream, self._prefix, lines)

    def end(self) -> None:
        """Write the last line of each stream, if nothing has ended it."""
        for stream, rest in self._begun.items():
            if rest:
                self._paper.put(stream, self._prefix, [rest])
        self._begun = dict.fromkeys(self._begun, b"")


def _shown(line: bytes) -> bytes:
    text = line.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
    return escape(text, keep="\t").encode()
