"""One command of the tool `run`: streamed, so that it can be cancelled and says how far it is."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codesmith.sdk.client import Client
    from codesmith.sdk.streams import Stream

# Of each output: the first and the last so many bytes.
HALF_BYTES = 48 << 10


class Kept:
    """An output: its first and its last part."""

    def __init__(self) -> None:
        self._head, self._tail, self.size = b"", b"", 0

    def add(self, data: bytes) -> None:
        """Add what came next."""
        self.size += len(data)
        room = HALF_BYTES - len(self._head)
        self._head, data = self._head + data[:room], data[room:]
        self._tail = (self._tail + data)[-HALF_BYTES:] if data else self._tail

    @property
    def omitted(self) -> int:
        """How many bytes between them are not kept."""
        return self.size - len(self._head) - len(self._tail)

    @property
    def data(self) -> bytes:
        """What is kept; a line says where bytes are left out."""
        between = f"\n[... {self.omitted} bytes are left out ...]\n".encode() if self.omitted else b""
        return self._head + between + self._tail


class Command:
    """A command that runs; `cancel` ends it on the node, with all that it started."""

    def __init__(self, client: Client, workspace: str, arguments: Mapping[str, Any]) -> None:
        self._client, self._workspace, self._arguments = client, workspace, arguments
        self._lock = threading.Lock()
        self._stream: Stream | None = None
        self._is_cancelled = False

    def run(self, progress: Callable[[int, str], None]) -> dict[str, Any]:
        """Run it to its end, and return what the tool answers; `progress` gets the bytes so far and the last line."""
        outputs = {"stdout": Kept(), "stderr": Kept()}
        asked = self._arguments
        with self._client.run(
            self._workspace, asked["argv"], cwd=asked.get("cwd"), env=asked.get("env"), timeout_s=asked.get("timeout_s")
        ) as stream:
            with self._lock:
                self._stream = stream
            if self._is_cancelled:
                stream.drop()
            for name, data in stream:
                outputs[name].add(data)
                progress(sum(one.size for one in outputs.values()), data[-200:].decode("utf-8", "replace"))
            ended = stream.result()
        texts, encoding = _encoded({name: kept.data for name, kept in outputs.items()})
        omitted = sum(kept.omitted for kept in outputs.values())
        return {
            "exit_code": ended.exit_code, "signal": ended.signal, "killed_by": ended.killed_by,
            "duration_s": ended.duration_s, **texts, "encoding": encoding, "omitted_bytes": omitted,
        }  # fmt: skip

    def cancel(self) -> None:
        """End it; may be called by another thread, and before it has begun."""
        with self._lock:
            self._is_cancelled = True
            if self._stream is not None:
                self._stream.drop()


def _encoded(outputs: Mapping[str, bytes]) -> tuple[dict[str, str], str]:
    try:
        return {name: data.decode() for name, data in outputs.items()}, "text"
    except UnicodeDecodeError:
        if any(b"bytes are left out" in data for data in outputs.values()):
            return {name: data.decode("utf-8", "replace") for name, data in outputs.items()}, "text"
        return {name: base64.b64encode(data).decode() for name, data in outputs.items()}, "base64"
