"""Output of commands and jobs on its way to a page: in order, bounded, and at the pace at which the page reads."""

from __future__ import annotations

import base64
import re
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from codesmith.errors import AgentRefused, CodeSmithError, error_to_dict

if TYPE_CHECKING:
    from codesmith.sdk.streams import Stream

# What a page has not yet got; then its commands wait, as at a pipe.
WAITING_BYTES_MAX = 1 << 20
AT_ONCE = 8
NAME = "[A-Za-z0-9-]{1,40}"
# What an event costs beside its data.
EVENT_BYTES = 200
Event = dict[str, Any]


class Outputs:
    """The commands that run for one page and the logs that it follows; they end with it.

    Each is read by a thread of its own, which waits while the page has not taken what came before: so a page that does
    not read costs a bounded amount of memory. `wake` is called when there is something to take.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Event, int]] = deque()
        self._bytes = 0
        self._open: dict[str, Stream | None] = {}
        self._is_closed = False

    @property
    def waiting_bytes(self) -> int:
        """How much the page has not yet taken."""
        return self._bytes

    def check(self, name: object) -> str:
        """Return a name that one may have; CodeSmithError if not, or if the page has as many as it may."""
        if not isinstance(name, str) or not re.fullmatch(NAME, name) or name in self._open or self._is_closed:
            raise CodeSmithError("an output has a name of its own, of 1 to 40 letters, digits and hyphens")
        if len(self._open) >= AT_ONCE:
            raise CodeSmithError(f"this page has {AT_ONCE} commands and logs open: close one of them")
        return name

    def open(self, name: str, connect: Callable[[], Stream]) -> None:
        """Read what `connect` returns; `name` is chosen by the page, and its events have it."""
        with self._changed:
            self.check(name)
            self._open[name] = None
        threading.Thread(target=self._read, args=(name, connect), name=f"output {name}", daemon=True).start()

    def take(self) -> list[Event]:
        """Return what has come; each event once."""
        with self._changed:
            taken = [event for event, _ in self._waiting]
            self._waiting.clear()
            self._bytes = 0
            self._changed.notify_all()
        return taken

    def end(self, name: str) -> None:
        """End one: a command with all that it started, or the reading of a log. Nothing more of it is told."""
        with self._changed:
            stream = self._open.pop(name, None)
            kept = [(event, size) for event, size in self._waiting if event["output"] != name]
            self._waiting, self._bytes = deque(kept), sum(size for _, size in kept)
            self._changed.notify_all()
        if stream is not None:
            stream.drop()  # its reader wakes, and closes it

    def close(self) -> None:
        """End all: the page is gone."""
        with self._changed:
            self._is_closed = True
            names = list(self._open)
        for name in names:
            self.end(name)

    def _read(self, name: str, connect: Callable[[], Stream]) -> None:
        try:
            stream = connect()
            try:
                with self._changed:
                    is_wanted = name in self._open
                    if is_wanted:
                        self._open[name] = stream
                if is_wanted:
                    self._tell(name, stream)
            finally:
                stream.close()
        except AgentRefused as refused:
            self._put(name, {"kind": "refused", "data": {**error_to_dict(refused), "data": refused.data}})
        except CodeSmithError as error:
            self._put(name, {"kind": "lost", "data": error_to_dict(error)})
        with self._changed:
            self._open.pop(name, None)

    def _tell(self, name: str, stream: Stream) -> None:
        for kind, data in stream.pieces():
            text = base64.b64encode(data).decode()
            # Where the next byte stands: the page reads on from there, and sees what the log left out.
            if not self._put(name, {"kind": kind, "data": text, "offset": stream.offset}):
                return
        self._put(name, {"kind": "end", "data": stream.result().to_dict()})

    def _put(self, name: str, event: Event) -> bool:
        """Have the page told once there is room; return False if it does not want it any more."""
        size = EVENT_BYTES + (len(event["data"]) if isinstance(event["data"], str) else 0)
        with self._changed:
            while name in self._open and self._bytes and self._bytes + size > WAITING_BYTES_MAX:
                self._changed.wait()
            if name not in self._open:
                return False
            self._waiting.append(({"output": name, **event}, size))
            self._bytes += size
        self._wake()
        return True
