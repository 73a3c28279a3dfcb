"""Files of any size, read and written in pieces: a call of the API carries less than a file may have."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from codesmith.errors import AgentRefused, CallInterrupted, CodeSmithError, Interruption, Unreachable

if TYPE_CHECKING:
    from codesmith.sdk.api import File
    from codesmith.sdk.client import Client

# What one call returns, and what one takes: a request has 256 KiB at most, base64 takes a third more, and a long path
# has up to 24 KiB as JSON.
READ_BYTES, WRITE_BYTES = 512 << 10, 168 << 10
# A longer file is collected beside its place under such a name. The agent removes one that is a day old.
UPLOAD = ".codesmith-upload-"
ABSENT = "absent"
OWNER_WRITES = 0o200


def read(client: Client, workspace: str, path: str, *, offset: int = 0, limit: int | None = None) -> Iterator[bytes]:
    """Yield the bytes of a file; CodeSmithError at the end when it was changed meanwhile."""
    end, etags = None if limit is None else offset + limit, set()
    while end is None or offset < end:
        size = READ_BYTES if end is None else min(READ_BYTES, end - offset)
        piece = client.file.read(workspace=workspace, path=path, offset=offset, limit=size, encoding="base64")
        etags.add(piece.etag)
        yield base64.b64decode(piece.data)
        offset = piece.next_offset
        if piece.eof:
            break
    if len(etags) > 1:
        problem = f"{path} was changed while it was read: its pieces may not fit together"
        raise CodeSmithError(problem, hint="the same again")


class Upload:
    """One file to write, from a stream of bytes, by a client."""

    def __init__(self, client: Client, workspace: str, path: str) -> None:
        self._client, self._workspace, self._path = client, workspace, path

    def write(self, source: BinaryIO, *, mode: str | None, if_etag: str | None) -> File:
        """Write all of `source`, whole or not at all; in one call if it is short."""
        first = _piece(source)
        second = _piece(source) if len(first) == WRITE_BYTES else b""
        if not second:
            return self._put(self._path, first, mode=mode, if_etag=if_etag)
        target, kept_mode = self._target(if_etag)
        last_mode = mode or kept_mode
        # Until the last one has come, pieces must be added.
        first_mode = None if last_mode is None else f"{int(last_mode, 8) | OWNER_WRITES:04o}"
        upload = posixpath.join(posixpath.dirname(target), self._name())
        try:
            etag = self._put(upload, first, mode=first_mode, if_etag=ABSENT).etag
            while second:
                third = _piece(source)
                etag = self._put(upload, second, append=True, mode=None if third else last_mode, if_etag=etag).etag
                second = third
            return self._client.file.move(
                workspace=self._workspace, path=upload, new_path=target, replace=True, if_etag=if_etag
            )
        except Unreachable:
            raise  # what is there is needed when the command is repeated
        except KeyboardInterrupt as interrupt:
            if isinstance(interrupt, CallInterrupted) and interrupt.method == "file.move":
                raise  # it goes on there
            self._remove(upload)
            raise Interruption(f"{self._path} is as it was") from None
        except BaseException:
            self._remove(upload)
            raise

    def append(self, source: BinaryIO, *, mode: str | None, if_etag: str | None) -> File:
        """Add all of `source` to the end of the file; an error says how much of a long one is there."""
        data, added = _piece(source), 0
        while True:
            try:
                written = self._put(self._path, data, append=True, mode=mode, if_etag=if_etag)
            except CodeSmithError as error:
                if not added or isinstance(error, Unreachable):
                    raise
                raise CodeSmithError(f"{error.problem}; {added} bytes were added before", hint=error.hint) from error
            # Nothing else may come between two pieces.
            added, if_etag, data = added + len(data), written.etag, _piece(source)
            if not data:
                return written

    def _put(
        self, path: str, data: bytes, *, append: bool = False, mode: str | None = None, if_etag: str | None
    ) -> File:
        text = base64.b64encode(data).decode("ascii")
        return self._client.file.write(
            workspace=self._workspace, path=path, data=text, encoding="base64", append=append, mode=mode,
            if_etag=if_etag,
        )  # fmt: skip

    def _target(self, if_etag: str | None) -> tuple[str, str | None]:
        """Return where links lead, and the mode of what is there; AgentRefused when it may not be written."""
        try:
            there = self._client.file.stat(workspace=self._workspace, path=self._path)
        except AgentRefused as refusal:
            if refusal.rpc_kind == "not_found" and if_etag in (None, ABSENT):
                return self._path, None
            raise
        if there.type == "link":  # refused when it leads to nothing: a write would begin with an empty file
            self._client.file.read(workspace=self._workspace, path=self._path, limit=1, encoding="base64")
        # Adds nothing, and changes nothing.
        there = self._put(self._path, b"", append=True, if_etag=if_etag)
        return there.path, there.mode

    def _name(self) -> str:
        # The same when the command is repeated with the id of its first run.
        text = f"{self._client.change_id} {self._workspace} {self._path}"
        return UPLOAD + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def _remove(self, upload: str) -> None:
        with contextlib.suppress(CodeSmithError):
            self._client.file.remove(workspace=self._workspace, path=upload, request_id=os.urandom(16).hex())


def _piece(source: BinaryIO) -> bytes:
    """Return the next bytes, as many as one call takes; fewer only at the end."""
    parts, size = [], 0
    while size < WRITE_BYTES:
        part = source.read(WRITE_BYTES - size)
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)
